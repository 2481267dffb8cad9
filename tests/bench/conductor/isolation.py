"""Table (j): the effect of the WAN on the LAN when both servers share one machine.

The LAN is two services on the bus: one sends requests to the other, one at a time, each when the last one is
answered; the round trip is the figure. They, lanserver and the players' service run at normal priority. The WAN
is wanserver with its defaults, kept busy in two ways:

    talk   players that send messages through the gate to their service, on the same bus, as fast as they are
           answered
    storm  the same, and connections that send a genuine HELLO, have the handshake computed, and close

Processes are bound to processors only in the rows that say so; otherwise everything shares the machine's two
cores. The loads of players would not run on this machine: they run as SCHED_IDLE, which any other thread
preempts, so that they do not delay the LAN. They use all time that the servers leave, so the machine should
have none left: `machine busy` shows how far that is true.

Two more rows are shown without a target; they explain the ratios:

    on a bus of its own        the players' service has a bus of its own: what is left is the contention for
                               processors, without the wait behind players' messages
    beside talk and computing  in place of the storm, one program for each processor that only computes, as
                               SCHED_IDLE: no connections and no handshakes. This effect is the kernel's: a
                               processor that runs idle-class work is not idle, so it does not take over threads
                               that wait for another processor, and must be interrupted first

The documented setting is `processors`: lanserver runs on the second core, the services too (by taskset);
wanserver and the loads of its players run on the first.
"""

import contextlib
import os
import tempfile

from . import gateway, load, report, wan
from .process import Child, machine_busy

SIZE = 64
PLAYERS, WINDOW, SOURCES = 500, 1, 250
CROWD = 64
ALONE = "LAN alone"
APART = "beside talk on a bus of its own"
COMPUTING = "beside talk and computing"
ROWS = {  # the load of wanserver, and whether the documented setting is applied
    ALONE: (None, False),
    "beside talk": ("talk", False),
    APART: ("talk", False),
    COMPUTING: ("computing", False),
    "beside storm": ("storm", False),
    "beside talk, processors": ("talk", True),
    "beside storm, processors": ("storm", True),
}
JUDGED = [name for name in ROWS if name not in (ALONE, APART, COMPUTING)]


def sourced(where):
    """From many addresses, so that the limits per address have no effect."""
    return [*where, "--sources", str(SOURCES)]


@contextlib.contextmanager
def talk(settings, where, core):
    argv = [
        f"{settings.bin}/bench-player-echo", *sourced(where), "--connections", str(PLAYERS),
        "--window", str(WINDOW), "--size", str(wan.SIZE), "--seconds", "3600",
    ]  # fmt: skip
    with Child(argv, core, idle=True) as players:
        players.expect("measuring")
        yield


@contextlib.contextmanager
def storm(settings, where, core):
    plain = [word if word != "wan" else "plain" for word in sourced(where)]
    argv = [
        f"{settings.bin}/bench-player-join", *plain, "--crowd", str(CROWD), "--seconds", "3600",
        "--hello", "replayed",
    ]  # fmt: skip
    with talk(settings, where, core), Child(argv, core, idle=True) as crowd:
        crowd.expect("measuring")
        yield


@contextlib.contextmanager
def computing(settings, where, core):
    with talk(settings, where, core), contextlib.ExitStack() as programs:
        for _ in os.sched_getaffinity(0):
            argv = ["sh", "-c", "echo computing; while :; do :; done"]
            programs.enter_context(Child(argv, core, idle=True)).expect("computing")
        yield


KINDS = {"talk": talk, "storm": storm, "computing": computing}


def measure_lan(settings, server, port, core):
    argv = [
        f"{settings.bin}/bench-lan-requests", "--connect", f"127.0.0.1:{port}", "--size", str(SIZE),
        "--seconds", str(settings.seconds),
    ]  # fmt: skip
    with machine_busy() as busy:
        result = load.run(server, argv, core, settings.seconds)
    result["machine"] = busy()
    return result


def measure(settings, name):
    kind, documented = ROWS[name]
    wan_core, lan_core = settings.cores if documented else (None, None)
    on_wan = {"processors": wan_core} if documented else {}
    on_lan = {"processors": lan_core} if documented else {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as others:
        lan, port = gateway.start_lanserver(settings, folder, None, **on_lan)
        with lan:
            if kind is None:
                return measure_lan(settings, lan, port, lan_core) | {"wan_busy": 0.0}
            players_port = port
            if name == APART:
                other, players_port = gateway.start_lanserver(settings, folder, None)
                others.enter_context(other)
            with (
                gateway.backend(settings, players_port, lan_core),
                gateway.wanserver(settings, folder, players_port, None, **on_wan) as (gate, where),
                KINDS[kind](settings, where, wan_core),
            ):
                before = gate.cpu_ns()
                result = measure_lan(settings, lan, port, lan_core)
                result["wan_busy"] = (gate.cpu_ns() - before) / 1e9 / result["lasted"]
                return result


def summarise(results):
    summary = {
        name: {
            key: report.median(rounds, key)
            for key in ("p50_us", "p99_us", "max_us", "per_second", "wan_busy", "machine")
        }
        for name, rounds in results.items()
    }
    alone = summary.get(ALONE)
    for name, value in summary.items():
        value["spread"] = report.spread(results[name], "p99_us")
        value["ratio"] = value["p99_us"] / alone["p99_us"] if alone else None
    return summary


def run(settings):
    results, failed = report.interleave(
        settings.rounds,
        list(ROWS),
        lambda name: measure(settings, name),
        lambda text: settings.say(f"isolation, {text}"),
    )
    summary = summarise(results)
    settings.show(
        report.table(
            f"(j) requests on the LAN, {SIZE} B there and back, while wanserver serves {PLAYERS} players",
            ["", "p50 us", "p99 us", "p99 to alone", "max us", "requests/s", "wanserver, cores",
             "machine busy"],
            [
                [name, report.number(value["p50_us"]), report.number(value["p99_us"]),
                 report.ratio(value["ratio"]), report.number(value["max_us"]),
                 report.number(value["per_second"]), f"{value['wan_busy']:.2f}",
                 f"{value['machine']:.0%}"]
                for name, value in summary.items()
            ],
        )
    )  # fmt: skip
    return summary, [f"isolation, {name}: {why}" for name, why in failed.items()]
