"""Table (i): the whole path from a player to a service and back, compared with haproxy and nats-server.

Twinport: wanserver opens the record of a player's message and sends it over lanserver to a service, and the
answer comes back the same way. The figure is the processor time of both servers for a message and its answer.
The service and the players run on the other core and are not counted.

The other side is a sum, to its advantage: haproxy ends TLS and passes the player's bytes to a plain echo, which
is one process less than a service on a bus behind it needs; and nats-server routes two messages, there and
back, as table (b) measures at window 1. A program that takes messages out of haproxy's stream and publishes
them is not counted.

Twinport has all players' messages on one connection to the bus, so it is also compared with nats-server used
in that way: one connection on each side, with as many messages in flight as there are players. That sum is
shown without a target.
"""

import tempfile

from . import bus, gateway, load, players, report, wan
from .process import Several

PLAYERS, WINDOW = 500, 1
TWINPORT = "twinport: gate + bus"
HAPROXY = "haproxy, TLS to plain"
NATS = "nats-server, a message"
NATS_ONE = "nats-server, a message, one connection"
THEIRS = "haproxy + 2 x nats-server"
THEIRS_ONE = "haproxy + 2 x nats-server, one connection"


def measure_twinport(settings):
    core, other = settings.cores
    with tempfile.TemporaryDirectory() as folder:
        lan, port = gateway.start_lanserver(settings, folder, core, workers=1)
        with (
            lan,
            gateway.backend(settings, port, other),
            gateway.wanserver(
                settings, folder, port, core, workers=1, **gateway.WITHOUT_LIMITS
            ) as (gate, where),
        ):
            return load.run(
                Several(gate=gate, bus=lan), wan.argv(settings, where, PLAYERS, WINDOW), other,
                settings.seconds,
            )  # fmt: skip


def measure_nats(settings, pairs, window):
    with tempfile.TemporaryDirectory() as folder:
        server, port = bus.start_nats(settings, folder)
        with server:
            argv = bus.argv(settings, "nats-load", port, pairs, window, ["--threads", "one"])
            return load.run(server, argv, settings.cores[1], settings.seconds)


ROWS = {
    TWINPORT: measure_twinport,
    HAPROXY: lambda settings: wan.measure(settings, players.HAPROXY, PLAYERS, WINDOW),
    NATS: lambda settings: measure_nats(settings, bus.PAIRS, WINDOW),
    NATS_ONE: lambda settings: measure_nats(settings, 1, PLAYERS * WINDOW),
}


def sums(summary):
    """The cost of the path in us for a message and its answer."""
    cpu = {name: value["cpu_us"] for name, value in summary.items()}
    paths = {}
    if TWINPORT in cpu:
        paths[TWINPORT] = cpu[TWINPORT]
    for name, nats in ((THEIRS, NATS), (THEIRS_ONE, NATS_ONE)):
        if HAPROXY in cpu and nats in cpu:
            paths[name] = cpu[HAPROXY] + 2 * cpu[nats]
    return paths


def show(settings, summary, paths):
    theirs = paths.get(THEIRS)
    rows = [[name, report.number(value), report.ratio(value / theirs if theirs else None)]
            for name, value in paths.items()]  # fmt: skip
    settings.show(
        report.table(
            f"(i) the whole path, {wan.SIZE} B, {PLAYERS} players, window {WINDOW}: CPU us for a message"
            " and its answer",
            ["path", "CPU us", "to theirs"],
            rows,
        )
    )
    settings.show(
        load.table("(i) ... made of", "to " + HAPROXY.split(",", maxsplit=1)[0], summary)
    )
    each = summary.get(TWINPORT, {}).get("each_us")
    if each:
        settings.show(
            "      of ours: " + ", ".join(f"{name} {report.number(us)}" for name, us in each.items())
        )


def run(settings):
    results, failed = report.interleave(
        settings.rounds,
        list(ROWS),
        lambda name: ROWS[name](settings),
        lambda text: settings.say(f"path, {text}"),
    )
    summary = load.summarise(results, dict.fromkeys(ROWS, HAPROXY))
    paths = sums(summary)
    show(settings, summary, paths)
    return {"rows": summary, "paths": paths}, [f"path, {n}: {why}" for n, why in failed.items()]
