"""The simplest client against tp-echo: alone, in number, and one that is wrong must notice."""
import os
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from echo_server import Echo, each_server  # noqa: E402 (its folder is known only now)
from stage import PATIENCE, cases, expect, expect_equal  # noqa: E402
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
        said += "(killed: it did not end)"
    return client.returncode, said


def case_every_cut():
    for server in each_server():
        code, said = end(start(server.port))
        expect_equal(code, 0, said)
        expect_equal(said.count(": ok"), len(simple_client.STEPS), f"steps\n{said}")
        server.finish()


def case_several_at_once():
    with Echo() as server:
        for code, said in [end(client) for client in [start(server.port) for _ in range(CLIENTS)]]:
            expect_equal(code, 0, said)
        server.finish()


def case_nobody_there():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # a port of ours where nobody listens
        code, said = end(start(bound.getsockname()[1]))
    expect(code == 1, f"exit code {code}: {said}")


cases(globals())
