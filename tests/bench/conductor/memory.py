"""Table (d): user memory per idle session, from the server's resident anonymous memory.

The empty server has served one client, which has had its echo and left, so that what a server allocates once
(its read buffer, its first chunk) does not count for the sessions.
"""

from . import echo, report
from .process import START_SECONDS, Child, Failed, start_server, wait_until

COUNTS = [1000, 10000]
SPARE_DESCRIPTORS = 200
SIZE = 64


def hold(settings, where, count, size=SIZE):
    """The client that holds `count` open connections. `where`: its arguments for connecting."""
    argv = [
        f"{settings.bin}/bench-hold", *where, "--connections", str(count), "--size", str(size),
    ]  # fmt: skip
    clients = Child(argv, settings.cores[1], stdin=True)
    try:
        clients.expect("connected", 5 * START_SECONDS)
        return clients
    except BaseException:
        clients.end()
        raise


def echo_once(clients):
    clients.say("echo")
    clients.expect("echoed", 5 * START_SECONDS)


def measure_server(settings, server, where, count):
    """The memory of `count` sessions at a server without connections so far."""
    if settings.descriptors < count + SPARE_DESCRIPTORS:
        raise Failed(f"the limit of {settings.descriptors} descriptors does not allow it")
    unused = server.descriptors()
    with hold(settings, where, 1) as clients:
        echo_once(clients)
    wait_until(lambda: server.descriptors() <= unused, f"{server.name} to close a connection")
    empty = server.user_memory()
    with hold(settings, where, count) as clients:
        wait_until(
            lambda: server.descriptors() >= unused + count, f"{server.name} to accept {count}"
        )
        silent = server.user_memory()
        echo_once(clients)
        spoken = server.user_memory()
    return {
        "empty_bytes": empty,
        "silent": (silent - empty) / count,
        "spoken": (spoken - empty) / count,
    }


def measure(settings, name, count):
    server, port = start_server(echo.command(name, settings), settings.cores[0])
    with server:
        return measure_server(settings, server, ["--connect", f"127.0.0.1:{port}"], count)


def measure_all(settings, names, measure_one, title, what):
    """Measures and prints the table's rows for each of COUNTS. Returns them and the failures."""
    counts, failures = {}, []
    for count in COUNTS:
        results, failed = report.interleave(
            settings.memory_rounds,
            names,
            lambda name: measure_one(settings, name, count),
            lambda text: settings.say(f"{what}, {count} sessions, {text}"),
        )
        failures += [f"{what}, {count} sessions, {n}: {why}" for n, why in failed.items()]
        counts[count] = {
            name: {key: report.median(rounds, key) for key in rounds[0]}
            for name, rounds in results.items()
        }
        settings.show(
            report.table(
                title.format(count=f"{count:,}"),
                ["server", "empty server KiB", "never spoke", f"after one echo of {SIZE} B"],
                [
                    [name, report.number(value["empty_bytes"] / 1024),
                     f"{value['silent']:,.0f}", f"{value['spoken']:,.0f}"]
                    for name, value in counts[count].items()
                ],
            )
        )  # fmt: skip
    return counts, failures


def run(settings):
    return measure_all(
        settings,
        list(echo.SERVERS),
        measure,
        "(d) user memory of {count} idle sessions, bytes per session above the empty server",
        "memory",
    )
