"""tp-echo when descriptors run out: accepted clients are served, waiting ones are accepted later, and
waiting takes no processor time."""
import os
import resource
import select
import socket
import time

from echo_server import Echo, each_server, load
from simple_client import expect as expect_answer, frame, message
from fixture import EMULATOR, cases, expect, expect_equal, skip, until

CAPACITY = 24  # connections that fit
WAITING = 16
WINDOW = 1.0  # seconds for which the server's processor time is measured


class Client:
    """A client that sends one message and checks for the answer."""

    def __init__(self, server, number):
        self.number = number
        self.socket = socket.create_connection(("127.0.0.1", server.port), 20)
        self.asked = False

    def request(self):
        self.socket.sendall(frame(message(100, self.number)))
        self.asked = True

    def is_answered(self):
        """True when the whole answer has come and is right."""
        if not self.asked:
            return True
        if not select.select([self.socket], [], [], 0)[0]:
            return False
        expect_answer(self.socket, message(100, self.number))
        self.asked = False
        return True


def answered(clients):
    return [client for client in clients if client.is_answered()]


RESERVE = 16  # a server's default; with a low limit it is a quarter of that


def lower_limit(server, capacity):
    """Lowers the limit to `capacity` more connections than are open now. Returns the limit before."""
    open_now = [int(name) for name in os.listdir(f"/proc/{server.process.pid}/fd")]
    free_below = max(open_now) + 1 - len(open_now)
    limit = wanted = max(open_now) + 1 + capacity - free_below
    while limit - min(RESERVE, limit // 4) < wanted:
        limit += 1
    return resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))


def exhaust(server):
    before = server.descriptors()
    lower_limit(server, CAPACITY)
    clients = [Client(server, number) for number in range(CAPACITY + WAITING)]
    for client in clients:
        client.request()
    until(lambda: len(answered(clients)) >= CAPACITY, "as many as fit are answered")
    said = server.wait_for("accept: .*descriptors.*TP_ERR_NO_DESCRIPTORS", errors=True)
    expect("echo:" in said.string, "the server's name in the log")
    inside = answered(clients)
    outside = [client for client in clients if client not in inside]
    expect_equal(len(inside), CAPACITY, "accepted clients")

    used = serve_for_a_while(server, inside, outside)
    print(f"    {used * 100:.0f} % of a processor while {len(outside)} wait", flush=True)
    expect(used < 0.3, f"{used:.2f} s of processor per second, with hardly anything to do")

    for client in inside[:WAITING // 2]:
        client.socket.close()
    until(lambda: len(answered(outside)) == WAITING // 2, "waiting clients are accepted as others leave")
    for client in inside[WAITING // 2:] + outside:
        client.socket.close()
    until(lambda: server.descriptors() == before, "every descriptor is given back")
    load(server, connections=CAPACITY // 2)
    until(lambda: server.descriptors() == before, "every descriptor is given back")


def serve_for_a_while(server, inside, outside):
    """Accepted clients are answered while others wait. Returns the share of a processor that the server uses."""
    begin, used = time.monotonic(), server.cpu_seconds()
    while time.monotonic() - begin < WINDOW:
        for client in inside[:3]:
            client.request()
            until(client.is_answered, "an accepted client is served")
        expect_equal(answered(outside), [], "waiting clients that were answered")
        select.select([], [], [], 0.05)  # a pause, because an almost idle server is measured
    return (server.cpu_seconds() - used) / (time.monotonic() - begin)


def case_clients_wait_while_descriptors_are_used_up():
    if EMULATOR:
        skip("under Wine the sockets are the wineserver's")
    for server in each_server():
        begin = time.monotonic()
        exhaust(server)
        lines, seconds = len(server.errors), time.monotonic() - begin
        expect(lines < max(100, 12 * (seconds + 2)), f"the log does not flood: {lines} lines in {seconds:.1f} s")
        server.finish(errors=["TP_ERR_NO_DESCRIPTORS"])


def case_a_stop_without_descriptors_ends():
    if EMULATOR:
        skip("under Wine the sockets are the wineserver's")
    with Echo() as server:
        lower_limit(server, 1)
        clients = [Client(server, number) for number in range(4)]
        server.wait_for("TP_ERR_NO_DESCRIPTORS", errors=True)
        for client in clients:
            client.socket.shutdown(socket.SHUT_WR)
        server.finish(errors=["TP_ERR_NO_DESCRIPTORS"])


cases(globals())
