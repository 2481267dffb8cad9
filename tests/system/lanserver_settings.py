"""What the configuration says reaches the server: each setting that can be seen from outside."""
import os
import re
import socket
import struct

from bus_client import SEND, BusClient, Closed
from bus_hub import Hub
from scheduling import IDLE, SHORTEST_NS, has_slices, policies, slices
from stage import (PATIENCE, WINDOWS, Program, cases, expect, expect_equal, run, system_path, until,
                   write_file)

CLOSE_FULL = 1
TP_END_OVERLOAD = 6


def talk(hub, rounds=10, size=100):
    a, b = BusClient(hub.port, "a"), BusClient(hub.port, "b")
    for i in range(rounds):
        body = bytes([i]) * size
        a.message(SEND, b.id, body)
        expect_equal(b.next().body, body, "message")
        b.ack()
    a.close()
    b.close()


def case_the_number_of_sessions():
    with Hub("max_sessions = 2") as hub:
        first, second = BusClient(hub.port, "x", "1"), BusClient(hub.port, "x", "2")
        third = socket.create_connection(("127.0.0.1", hub.port), PATIENCE)
        expect_equal(third.recv(6, socket.MSG_WAITALL), struct.pack("<IH", 2 | 3 << 24, CLOSE_FULL),
                     "CLOSE for one too many")
        third.close()
        second.close()
        until(lambda: first.stats()["sessions"] == 1, "there is room again")
        BusClient(hub.port, "x", "3").close()
        hub.finish()


def case_who_is_allowed():
    with Hub("allow = 127.0.0.0/8") as hub:
        talk(hub)
        hub.finish()
    with Hub("allow = 10.0.0.0/8") as hub:
        try:
            BusClient(hub.port, "x")
            expect(False, "127.0.0.1 is not of 10.0.0.0/8")
        except (Closed, ConnectionError):
            pass
        hub.finish()


class Listening(Program):
    """lanserver with these lines and no others."""

    def __init__(self, *lines):
        path = system_path(write_file("\n".join(lines) + "\n"))
        super().__init__("lanserver", "--config", path)
        self.place = self.wait_for(r"^lanserver: listening on (.+):(\d+) \(io (\w+), workers (\d+)\)$")
        self.port = int(self.place.group(2))

    def finish(self):
        self.interrupt()
        expect_equal(self.wait(), 0, f"exit code\n{self.said()}")


def case_both_families():
    with Listening("listen = [::1]:0") as hub:
        expect_equal(hub.place.group(1), "[::1]", "where")
        with socket.create_connection(("::1", hub.port), PATIENCE) as connection:
            connection.sendall(struct.pack("<I", 1 << 24))  # PING
            expect_equal(connection.recv(4, socket.MSG_WAITALL), struct.pack("<I", 2 << 24), "PONG")
        hub.finish()


def case_workers_and_back_ends():
    for io in ("auto", "iocp" if WINDOWS else "epoll"):
        for workers in (1, 4):
            with Listening("listen = 127.0.0.1:0", f"io = {io}", f"workers = {workers}") as hub:
                expect_equal(hub.place.group(4), str(workers), "workers")
                expect(io in ("auto", hub.place.group(3)), f"io {hub.place.group(3)}")
                talk(hub)
                hub.finish()
    told = run("lanserver", "--config", system_path(write_file(
        f"listen = 127.0.0.1:0\nio = {'epoll' if WINDOWS else 'iocp'}\n")))
    expect_equal(told.code, 2, "the other system's back end")
    expect(any("io is" in line and "expected auto" in line for line in told.errors), told.said())


def case_every_way_to_send_and_receive():
    """Those of iocp are ignored elsewhere; nowhere may they change what arrives."""
    for lines in (["nagle = yes"], ["running = 1"], ["send_buffer_zero = yes"],
                  ["post_receive_buffers = yes"], ["receive_buffer = 4k"],
                  ["send_buffer_zero = yes", "post_receive_buffers = yes", "running = 1"]):
        with Hub(*lines) as hub:
            talk(hub)
            talk(hub, rounds=2, size=100000)  # more than one receive, and more than one send
            hub.finish()


def case_limits_of_the_bus():
    with Hub("unconfirmed_limit = 40", "max_frame = 2k", "ping_interval = 1s",
             "idle_timeout = 3s") as hub:
        a = BusClient(hub.port, "a")
        expect_equal((a.largest, a.unconfirmed, a.ack_messages, a.heartbeat, a.idle),
                     (2048, 40, 10, 1000, 3000), "what WELCOME says of it")
        hub.finish()


def case_the_queue_in_packets():
    """A peer that does not read is ended at the limit of packets, long before that of bytes."""
    with Hub("queue_packets = 500", "queue_bytes = 1g", "max_sessions = 100",
             "idle_timeout = 0") as hub:
        senders = [BusClient(hub.port, "sender", str(i)) for i in range(25)]
        deaf = BusClient(hub.port, "deaf")
        for _ in range(100):  # 20 MiB in all: more than the system takes on its way
            for sender in senders:
                sender.message(SEND, deaf.id, bytes(8192))
        for sender in senders:
            until(lambda: sender.stats() and deaf.id in sender.down, "the deaf one is ended")
            expect_equal(sender.down[deaf.id], TP_END_OVERLOAD, "reason")
        hub.finish()


def share(hub, thread=""):
    """nice and processors of a program, as the system tells them."""
    folder = f"/proc/{hub.process.pid}/task/{thread or hub.process.pid}"
    with open(folder + "/stat", encoding="ascii") as file:
        nice = int(file.read().rpartition(") ")[2].split()[16])
    with open(folder + "/status", encoding="ascii") as file:
        processors = re.search(r"^Cpus_allowed_list:\s+(.*)$", file.read(), re.M).group(1)
    return nice, processors


def case_its_share_of_the_machine():
    if WINDOWS:
        for lines in (["priority = low"], ["priority = high"], ["priority = idle"], ["processors = 0"]):
            with Hub(*lines) as hub:
                talk(hub)
                hub.finish()
        return
    first = min(os.sched_getaffinity(0))
    begin = os.nice(0)
    with Hub() as hub:
        expect_equal(share(hub)[0], begin, "nice, if nothing is said")
        expect_equal(slices(hub.process, "^lan$") == {SHORTEST_NS}, has_slices(),
                     "the workers have the shortest slice, where there are slices")
        hub.finish()
    with Hub("priority = idle") as hub:
        talk(hub)
        expect_equal(policies(hub.process), {IDLE}, "policy of all threads")
        hub.finish()
    with Hub("priority = low", f"processors = {first}") as hub:
        for thread in os.listdir(f"/proc/{hub.process.pid}/task"):
            expect_equal(share(hub, thread), (max(begin, 10), str(first)), f"share of thread {thread}")
        expect(SHORTEST_NS not in slices(hub.process), "at low nothing is asked for")
        talk(hub)
        hub.finish()
    with Hub("processors = 1023") as hub:  # which is not there: a warning, and it runs
        hub.wait_for(r"^lanserver: warning: all processors are used: ", errors=True)
        talk(hub)
        hub.finish()


cases(globals())
