"""Table (d): user memory per idle session, from the server's resident anonymous memory.

The empty server is one that has served: a client has come, had its echo and gone, so that what a
server allocates once (its read buffer, its first chunk) is not counted as the sessions'.
"""

from . import echo, report
from .process import Child, Failed, start_server, wait_until

COUNTS = [1000, 10000]
SPARE_DESCRIPTORS = 200
SIZE = 64


def hold(settings, port, count, size=SIZE):
    """The client that holds `count` connections, all connected."""
    argv = [
        f"{settings.bin}/bench-hold", "--connect", f"127.0.0.1:{port}",
        "--connections", str(count), "--size", str(size),
    ]  # fmt: skip
    clients = Child(argv, settings.cores[1], stdin=True)
    try:
        clients.expect("connected", 60)
        return clients
    except BaseException:
        clients.end()
        raise


def echo_once(clients):
    clients.say("echo")
    clients.expect("echoed", 60)


def measure(settings, name, count):
    if settings.descriptors < count + SPARE_DESCRIPTORS:
        raise Failed(f"the limit of {settings.descriptors} descriptors does not allow it")
    server, port = start_server(echo.command(name, settings), settings.cores[0])
    with server:
        unused = server.descriptors()
        with hold(settings, port, 1) as clients:
            echo_once(clients)
        wait_until(lambda: server.descriptors() <= unused, f"{name} to close a connection")
        empty = server.user_memory()
        with hold(settings, port, count) as clients:
            wait_until(lambda: server.descriptors() >= unused + count, f"{name} to accept {count}")
            silent = server.user_memory()
            echo_once(clients)
            spoken = server.user_memory()
    return {
        "empty_bytes": empty,
        "silent": (silent - empty) / count,
        "spoken": (spoken - empty) / count,
    }


def run(settings):
    counts, failures = {}, []
    for count in COUNTS:
        results, failed = report.interleave(
            settings.memory_rounds,
            list(echo.SERVERS),
            lambda name: measure(settings, name, count),
            lambda text: settings.say(f"memory, {count} sessions, {text}"),
        )
        failures += [f"memory, {count} sessions, {n}: {why}" for n, why in failed.items()]
        counts[count] = {
            name: {key: report.median(rounds, key) for key in rounds[0]}
            for name, rounds in results.items()
        }
        settings.show(
            report.table(
                f"(d) user memory of {count:,} idle sessions, bytes per session above the empty"
                " server",
                ["server", "empty server KiB", "never spoke", f"after one echo of {SIZE} B"],
                [
                    [name, report.number(value["empty_bytes"] / 1024),
                     f"{value['silent']:,.0f}", f"{value['spoken']:,.0f}"]
                    for name, value in counts[count].items()
                ],
            )
        )  # fmt: skip
    return counts, failures
