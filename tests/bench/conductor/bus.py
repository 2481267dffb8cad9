"""Table (b): messages routed from 8 senders to 8 receivers and their acks back, compared with nats-server.

All servers get the same traffic (route_load.h). They are pinned to one core, the load to the other. For
nats-server GOMAXPROCS is set accordingly (its run time would find the same number); it runs with its defaults
and logs nothing after its first lines. The relay is the lower bound: it joins connections in pairs and never
looks at a message, with one read and one write for each that comes alone.

The threads of the load decide how messages arrive, and what waking their receivers costs the server. So there
are two kinds of load, each compared with nats-server under the same kind: one thread that serves all
connections, and a thread for each connection, as with lanclient.
"""

import json
import os
import pathlib
import tempfile

from . import gateway, load, report
from .process import Child, find_program, start_server, wait_until

NATS = "nats-server"
TWINPORT = "twinport lanserver"
FLOOR = "epoll relay (floor)"
NATS_EACH = "nats-server, thread each"
TWINPORT_EACH = "twinport lanserver, lanclient"
WINDOWS = [1, 64]
PAIRS, SIZE = 8, 64


def start_lanserver(settings, folder):
    return gateway.start_lanserver(settings, folder, settings.cores[0], workers=1)


def start_nats(settings, folder):
    program = find_program("nats-server")
    server = Child(
        [program, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder],
        settings.cores[0],
        {"GOMAXPROCS": "1"},
    )
    ports = pathlib.Path(folder) / f"{os.path.basename(program)}_{server.pid}.ports"
    try:
        wait_until(lambda: ports.exists() and ports.read_bytes().endswith(b"}"), "nats-server")
        address = json.loads(ports.read_text(encoding="ascii"))["nats"][0]
        return server, int(address.rsplit(":", 1)[1])
    except BaseException:
        server.end()
        raise


def start_relay(settings, folder):
    return start_server([f"{settings.bin}/peer-epoll-relay", "--port", "0"], settings.cores[0])


# For each row: the server, the load, and further arguments of the load.
ROWS = {
    NATS: (start_nats, "nats-load", ["--threads", "one"]),
    TWINPORT: (start_lanserver, "bus-raw-load", ["--threads", "one"]),
    FLOOR: (start_relay, "relay-load", ["--threads", "one"]),
    NATS_EACH: (start_nats, "nats-load", ["--threads", "each"]),
    TWINPORT_EACH: (start_lanserver, "bench-bus-load", []),
}
REFERENCE = {NATS: NATS, TWINPORT: NATS, FLOOR: NATS, NATS_EACH: NATS_EACH, TWINPORT_EACH: NATS_EACH}


def argv(settings, program, port, pairs, window, further):
    return [
        f"{settings.bin}/{program}", "--connect", f"127.0.0.1:{port}", "--pairs", str(pairs),
        "--window", str(window), "--size", str(SIZE), "--seconds", str(settings.seconds), *further,
    ]  # fmt: skip


def measure(settings, name, window):
    start, program, further = ROWS[name]
    with tempfile.TemporaryDirectory() as folder:
        server, port = start(settings, folder)
        with server:
            return load.run(
                server, argv(settings, program, port, PAIRS, window, further), settings.cores[1],
                settings.seconds,
            )  # fmt: skip


def run(settings):
    windows, failures = {}, []
    for window in WINDOWS:
        results, failed = report.interleave(
            settings.rounds,
            list(ROWS),
            lambda name: measure(settings, name, window),
            lambda text: settings.say(f"bus, window {window}, {text}"),
        )
        failures += [f"bus, window {window}, {name}: {why}" for name, why in failed.items()]
        windows[window] = load.summarise(results, REFERENCE)
        settings.show(
            load.table(
                f"(b) bus, {PAIRS} senders to {PAIRS} receivers, {SIZE} B and an 8 B ack back,"
                f" window {window}",
                "to nats",
                windows[window],
            )
        )
    return windows, failures
