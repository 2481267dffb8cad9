"""The simplest client against tp-echo: one, several at a time, and one without a server, which must fail."""
import os
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from echo_server import Echo, each_server  # noqa: E402 (its folder is on the path only now)
from fixture import PATIENCE, cases, expect, expect_equal  # noqa: E402
import simple_client  # noqa: E402

CLIENTS = 8


def start(port):
    return subprocess.Popen([sys.executable, os.path.join(HERE, "simple_client.py"), "127.0.0.1",
                             str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(client):
    try:
        said, _ = client.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        client.kill()
        said, _ = client.communicate()
        said += "(killed after a time-out)"
    return client.returncode, said


def case_messages_come_back_however_they_are_split():
    for server in each_server():
        code, said = end(start(server.port))
        expect_equal(code, 0, said)
        expect_equal(said.count(": ok"), len(simple_client.STEPS), f"steps\n{said}")
        server.finish()


def case_several_clients_are_served():
    with Echo() as server:
        for code, said in [end(client) for client in [start(server.port) for _ in range(CLIENTS)]]:
            expect_equal(code, 0, said)
        server.finish()


def case_a_client_without_a_server_fails():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # a port at which no socket listens
        code, said = end(start(bound.getsockname()[1]))
    expect(code == 1, f"exit code {code}: {said}")


cases(globals())
