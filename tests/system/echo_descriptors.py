"""tp-echo when descriptors run out: who is in is served, who waits is neither lost nor forgotten,
and the waiting costs nothing."""
import os
import resource
import select
import socket
import time

from echo_server import Echo, each_server, load
from simple_client import expect as expect_answer, frame, message
from stage import EMULATOR, cases, expect, expect_equal, skip, until

ROOM = 24  # connections that fit
WAITING = 16
WINDOW = 1.0  # seconds in which the server's use of the processor is measured


class Client:
    """One that asks once, and sees whether it is answered."""

    def __init__(self, server, number):
        self.number = number
        self.socket = socket.create_connection(("127.0.0.1", server.port), 20)
        self.asked = False

    def ask(self):
        self.socket.sendall(frame(message(100, self.number)))
        self.asked = True

    def is_answered(self):
        """True as soon as the whole answer is there, and right."""
        if not self.asked:
            return True
        if not select.select([self.socket], [], [], 0)[0]:
            return False
        expect_answer(self.socket, message(100, self.number))
        self.asked = False
        return True


def answered(clients):
    return [client for client in clients if client.is_answered()]


RESERVE = 16  # a server's standard value; of a low limit it is a quarter


def lower_limit(server, room):
    """So many descriptors for connections more than it has open now, and no more. Returns the limit
    it had."""
    open_now = [int(name) for name in os.listdir(f"/proc/{server.process.pid}/fd")]
    free_below = max(open_now) + 1 - len(open_now)
    limit = wanted = max(open_now) + 1 + room - free_below
    while limit - min(RESERVE, limit // 4) < wanted:
        limit += 1
    return resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))


def exhaust(server):
    before = server.descriptors()
    lower_limit(server, ROOM)
    clients = [Client(server, number) for number in range(ROOM + WAITING)]
    for client in clients:
        client.ask()
    until(lambda: len(answered(clients)) >= ROOM, "as many as fit are answered")
    said = server.wait_for("accept: .*descriptors.*TP_ERR_NO_DESCRIPTORS", errors=True)
    expect("echo:" in said.string, "which server it is")
    inside = answered(clients)
    outside = [client for client in clients if client not in inside]
    expect_equal(len(inside), ROOM, "clients that got in")

    used = serve_for_a_while(server, inside, outside)
    print(f"    {used * 100:.0f} % of a processor while {len(outside)} wait", flush=True)
    expect(used < 0.3, f"{used:.2f} s of processor per second, with hardly anything to do")

    for client in inside[:WAITING // 2]:
        client.socket.close()
    until(lambda: len(answered(outside)) == WAITING // 2, "who waited comes in as others leave")
    for client in inside[WAITING // 2:] + outside:
        client.socket.close()
    until(lambda: server.descriptors() == before, "every descriptor is given back")
    load(server, connections=ROOM // 2)
    until(lambda: server.descriptors() == before, "every descriptor is given back")


def serve_for_a_while(server, inside, outside):
    """Those inside are answered while others wait; how much of a processor the server uses."""
    begin, used = time.monotonic(), server.cpu_seconds()
    while time.monotonic() - begin < WINDOW:
        for client in inside[:3]:
            client.ask()
            until(client.is_answered, "who is inside is served")
        expect_equal(answered(outside), [], "who waits outside and is answered all the same")
        select.select([], [], [], 0.05)  # a client's leisure: the measurement is of an idle server
    return (server.cpu_seconds() - used) / (time.monotonic() - begin)


def case_no_descriptors_left():
    if EMULATOR:
        skip("under Wine the wineserver has the sockets: there is no limit of the program's own")
    for server in each_server():
        begin = time.monotonic()
        exhaust(server)
        lines, seconds = len(server.errors), time.monotonic() - begin
        expect(lines < max(100, 12 * (seconds + 2)), f"the log does not flood: {lines} lines in {seconds:.1f} s")
        server.finish(errors=["TP_ERR_NO_DESCRIPTORS"])


def case_a_stop_without_descriptors():
    if EMULATOR:
        skip("under Wine the wineserver has the sockets: there is no limit of the program's own")
    with Echo() as server:
        lower_limit(server, 1)
        clients = [Client(server, number) for number in range(4)]
        server.wait_for("TP_ERR_NO_DESCRIPTORS", errors=True)
        for client in clients:
            client.socket.shutdown(socket.SHUT_WR)
        server.finish(errors=["TP_ERR_NO_DESCRIPTORS"])


cases(globals())
