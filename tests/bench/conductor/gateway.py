"""The whole path: lanserver, a service on its bus, and wanserver, through which players reach the service."""

import contextlib
import pathlib
import subprocess
import time

from . import players
from .process import Child, Failed, start_server

SERVICE = "echo"

# Limits per address and per player are off, because the load connects all players from one address.
WITHOUT_LIMITS = {
    "accept_rate": 0, "connections_per_address": 0, "message_rate": 0, "byte_rate": 0,
}  # fmt: skip


def write_config(path, values):
    pathlib.Path(path).write_text(
        "".join(f"{name} = {value}\n" for name, value in values.items()), encoding="ascii"
    )
    return str(path)


def start_lanserver(settings, folder, core, **values):
    config = write_config(f"{folder}/lanserver.conf", {"listen": "127.0.0.1:0", **values})
    return start_server([f"{settings.bin}/lanserver", "--config", config], core)


@contextlib.contextmanager
def backend(settings, bus_port, core):
    argv = [
        f"{settings.bin}/bench-backend-echo", "--bus", f"127.0.0.1:{bus_port}", "--service", SERVICE,
    ]  # fmt: skip
    with Child(argv, core) as service:
        service.expect("up")
        yield service


def wait_for_echo(settings, where):
    """Waits until a player's message has come back: before that the gate may not have found the service."""
    for patience in (0.25, 0.5, 1, 2, 4, 8, 16, 32):  # messages sent too early are lost
        argv = [
            f"{settings.bin}/bench-player-echo", *where, "--connections", "1", "--window", "1",
            "--size", "64", "--seconds", "0.01", "--warm", "0", "--patience", str(patience),
        ]  # fmt: skip
        last = subprocess.run(argv, capture_output=True, text=True, check=False)
        if last.returncode == 0:
            return
        time.sleep(0.05)
    raise Failed(f"no player reaches the service: {last.stderr.strip()[-300:]}")


@contextlib.contextmanager
def wanserver(settings, folder, bus_port, core, **values):
    """Yields the process and a load's arguments for connecting to it."""
    key, public = players.gateway_key(settings.bin)
    config = write_config(
        f"{folder}/wanserver.conf",
        {"listen": "127.0.0.1:0", "key_file": key, "auth": "open", "bus": f"127.0.0.1:{bus_port}",
         "service": SERVICE, **values},
    )  # fmt: skip
    server, port = start_server([f"{settings.bin}/wanserver", "--config", config], core)
    with server:
        where = ["--connect", f"127.0.0.1:{port}", "--over", "wan", "--server-key", public]
        wait_for_echo(settings, where)
        yield server, where
