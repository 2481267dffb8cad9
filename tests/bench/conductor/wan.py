"""Table (f): players' echo of 64 bytes, server CPU per message, compared with TLS 1.3.

The TLS server sends back what it has read and never looks at a message; ours finds the messages, calls a handler
for each and sends each by a call of its own. `write per message` is TLS with the same work.
"""

from . import load, players, report
from .echo import SHAPES, SIZE, WARM_SECONDS

NAMES = [players.WAN_AES, players.WAN_CHACHA, players.TLS, players.TLS_AHEAD, players.TLS_EACH,
         players.HAPROXY]  # fmt: skip
REFERENCE = players.TLS


def argv(settings, server, connections, window):
    """The load's command line. `server`: its arguments for connecting."""
    return [
        f"{settings.bin}/bench-player-echo", *server, "--connections", str(connections),
        "--window", str(window), "--size", str(SIZE), "--warm", str(WARM_SECONDS),
        "--seconds", str(settings.seconds),
    ]  # fmt: skip


def measure(settings, name, connections, window):
    with players.SERVERS[name](settings) as (server, arguments):
        return load.run(
            server, argv(settings, arguments, connections, window), settings.cores[1], settings.seconds
        )


def run(settings):
    shapes, failures = {}, []
    for shape, (connections, window) in SHAPES.items():
        results, failed = report.interleave(
            settings.rounds,
            NAMES,
            lambda name: measure(settings, name, connections, window),
            lambda text: settings.say(f"wan, {shape}, {text}"),
        )
        failures += [f"wan, {shape}, {name}: {why}" for name, why in failed.items()]
        shapes[shape] = load.summarise(results, dict.fromkeys(NAMES, REFERENCE))
        settings.show(
            load.table(
                f"(f) players' echo, {SIZE} B, {connections} players, window {window}, one worker",
                "to TLS",
                shapes[shape],
            )
        )
    return shapes, failures
