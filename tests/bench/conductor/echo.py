"""Table (a): an echo of 64 bytes, server CPU per message, compared with the lower bound and other libraries."""

from . import load, report
from .process import start_server

FLOOR = "epoll raw (floor)"
TWINPORT = "twinport"
LIBUV = "libuv, write per message"
ASIO = "asio"

SERVERS = {
    FLOOR: ["{bin}/peer-epoll-raw", "--port", "0"],
    TWINPORT: ["{bin}/tp-echo", "lan", "--port", "0", "--workers", "1"],
    LIBUV: ["{bin}/peer-libuv-per-message", "--port", "0"],
    "libevent": ["{bin}/peer-libevent", "--port", "0"],
    ASIO: ["{bin}/peer-asio", "--port", "0"],
}
SHAPES = {"window 1": (500, 1), "window 16": (200, 16)}
SIZE = 64
WARM_SECONDS = 0.3


def command(name, settings):
    return [part.format(bin=settings.bin) for part in SERVERS[name]]


def measure(settings, name, connections, window):
    server_core, load_core = settings.cores
    server, port = start_server(command(name, settings), server_core)
    with server:
        argv = [
            f"{settings.bin}/tp-dummy", "lan", "--connect", f"127.0.0.1:{port}",
            "--connections", str(connections), "--window", str(window), "--size", str(SIZE),
            "--warmup", str(WARM_SECONDS), "--seconds", str(settings.seconds),
            "--json", "--marks",
        ]  # fmt: skip
        return load.run(server, argv, load_core, settings.seconds)


def run(settings):
    shapes, failures = {}, []
    for shape, (connections, window) in SHAPES.items():
        results, failed = report.interleave(
            settings.rounds,
            list(SERVERS),
            lambda name: measure(settings, name, connections, window),
            lambda text: settings.say(f"echo, {shape}, {text}"),
        )
        failures += [f"echo, {shape}, {name}: {why}" for name, why in failed.items()]
        shapes[shape] = load.summarise(results, dict.fromkeys(SERVERS, FLOOR))
        settings.show(
            load.table(
                f"(a) echo, {SIZE} B, {connections} connections, window {window}, one worker",
                "to floor",
                shapes[shape],
            )
        )
    return shapes, failures
