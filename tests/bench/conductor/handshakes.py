"""Table (g): full handshakes: server CPU per player, compared with TLS 1.3, and the cost of a refusal.

The figure is all that the server does for a player that connects, is admitted, sends one message, receives its
echo and closes by a reset. In our protocol the client's first message needs nothing of the server, so it is made
before the connection; with TLS the library makes it afterwards. `connection alone` is the same without a cipher:
the cost of accepting, one echo and closing. A forged HELLO is measured twice: the checks alone, in process, for
the target; and, for information, as a connection to a whole server in mode token, accept and close included.
"""

import json

from . import load, players, report
from .process import Child, Failed

CROWD = 32
SOURCES = 250
WARM_SECONDS = 0.3
NAMES = [players.WAN_AES, players.WAN_CHACHA, players.TLS, players.TLS_ED25519, players.PLAIN,
         players.FORGED]  # fmt: skip
FORGED = {"forged_box": "a token whose box does not open", "forged_mac": "a good token, a wrong mac1"}
CHECKS = {
    "foreign": "another protocol's",
    "expired": "a token that is too old",
    "unknown_key": "a token of an unknown key",
    **FORGED,
    "genuine": "a genuine one, checked",
    "genuine_answered": "a genuine one, checked and answered",
}


def argv(settings, server):
    return [
        f"{settings.bin}/bench-player-join", *server, "--crowd", str(CROWD), "--sources",
        str(SOURCES), "--warm", str(WARM_SECONDS), "--seconds", str(settings.seconds),
    ]  # fmt: skip


def measure(settings, name):
    with players.SERVERS[name](settings) as (server, arguments):
        return load.run(server, argv(settings, arguments), settings.cores[1], settings.seconds)


def measure_checks(settings):
    with Child([f"{settings.bin}/bench-hello", str(settings.pool_seconds)], settings.cores[0]) as child:
        result = json.loads(child.line())
        if child.process.wait(timeout=10) != 0:
            raise Failed("bench-hello found a HELLO judged wrongly")
    return result


def show_joins(settings, summary):
    settings.show(
        report.table(
            f"(g) full handshakes, {CROWD} players at a time, each with one echo of 64 B",
            ["server", "CPU us/player", "to TLS", "spread", "per core and s", "core busy"],
            [
                [name, report.number(value["cpu_us"]), report.ratio(value["ratio"]),
                 f"+-{value['spread']:.0%}", report.number(1e6 / value["cpu_us"]),
                 f"{value['busy']:.0%}"]
                for name, value in summary.items()
            ],
        )
    )  # fmt: skip


def run(settings):
    results, failed = report.interleave(
        settings.rounds,
        NAMES,
        lambda name: measure(settings, name),
        lambda text: settings.say(f"handshakes, {text}"),
    )
    failures = [f"handshakes, {name}: {why}" for name, why in failed.items()]
    joins = load.summarise(results, dict.fromkeys(NAMES, players.TLS))
    show_joins(settings, joins)
    checks, failed = report.interleave(
        settings.rounds,
        ["checks"],
        lambda name: measure_checks(settings),
        lambda text: settings.say(f"handshakes, HELLO, {text}"),
    )
    failures += [f"handshakes, HELLO: {why}" for why in failed.values()]
    medians = {}
    if "checks" in checks:
        medians = {kind: report.median(checks["checks"], kind) / 1e3 for kind in CHECKS}
        settings.show(
            report.table(
                "(g) a HELLO of mode token, the server's checks alone",
                ["HELLO", "CPU us"],
                [[CHECKS[kind], report.number(value)] for kind, value in medians.items()],
            )
        )
    return {"joins": joins, "checks": medians}, failures
