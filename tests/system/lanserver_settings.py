"""The settings of lanserver that have an effect visible from outside."""
import os
import re
import socket
import struct

from bus_client import SEND, BusClient, Closed
from bus_hub import Hub
from scheduling import IDLE, SHORTEST_NS, has_slices, policies, slices
from fixture import (PATIENCE, WINDOWS, Program, cases, expect, expect_equal, run, system_path, until,
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


def case_max_sessions_is_the_limit():
    with Hub("max_sessions = 2") as hub:
        first, second = BusClient(hub.port, "x", "1"), BusClient(hub.port, "x", "2")
        third = socket.create_connection(("127.0.0.1", hub.port), PATIENCE)
        expect_equal(third.recv(6, socket.MSG_WAITALL), struct.pack("<IH", 2 | 3 << 24, CLOSE_FULL),
                     "CLOSE for one too many")
        third.close()
        second.close()
        until(lambda: first.stats()["sessions"] == 1, "a slot is free again")
        BusClient(hub.port, "x", "3").close()
        hub.finish()


def case_only_allowed_networks_are_admitted():
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
    """lanserver with exactly these lines of configuration."""

    def __init__(self, *lines):
        path = system_path(write_file("\n".join(lines) + "\n"))
        super().__init__("lanserver", "--config", path)
        self.listening = self.wait_for(r"^lanserver: listening on (.+):(\d+) \(io (\w+), workers (\d+)\)$")
        self.port = int(self.listening.group(2))

    def finish(self):
        self.interrupt()
        expect_equal(self.wait(), 0, f"exit code\n{self.output()}")


def case_ipv4_and_ipv6_can_be_listened_to():
    with Listening("listen = [::1]:0") as hub:
        expect_equal(hub.listening.group(1), "[::1]", "where")
        with socket.create_connection(("::1", hub.port), PATIENCE) as connection:
            connection.sendall(struct.pack("<I", 1 << 24))  # PING
            expect_equal(connection.recv(4, socket.MSG_WAITALL), struct.pack("<I", 2 << 24), "PONG")
        hub.finish()


def case_workers_and_back_end_are_as_configured():
    for io in ("auto", "iocp" if WINDOWS else "epoll"):
        for workers in (1, 4):
            with Listening("listen = 127.0.0.1:0", f"io = {io}", f"workers = {workers}") as hub:
                expect_equal(hub.listening.group(4), str(workers), "workers")
                expect(io in ("auto", hub.listening.group(3)), f"io {hub.listening.group(3)}")
                talk(hub)
                hub.finish()
    told = run("lanserver", "--config", system_path(write_file(
        f"listen = 127.0.0.1:0\nio = {'epoll' if WINDOWS else 'iocp'}\n")))
    expect_equal(told.code, 2, "the other system's back end")
    expect(any("io is" in line and "expected auto" in line for line in told.errors), told.output())


def case_socket_settings_do_not_change_the_data():
    """The settings of iocp are ignored elsewhere. None of them may change what is received."""
    for lines in (["nagle = yes"], ["running = 1"], ["send_buffer_zero = yes"],
                  ["post_receive_buffers = yes"], ["receive_buffer = 4k"],
                  ["send_buffer_zero = yes", "post_receive_buffers = yes", "running = 1"]):
        with Hub(*lines) as hub:
            talk(hub)
            talk(hub, rounds=2, size=100000)  # more than one receive, and more than one send
            hub.finish()


def case_limits_of_the_bus_are_announced():
    with Hub("unconfirmed_limit = 40", "max_frame = 2k", "ping_interval = 1s",
             "idle_timeout = 3s") as hub:
        a = BusClient(hub.port, "a")
        expect_equal((a.largest, a.unconfirmed, a.ack_messages, a.heartbeat, a.idle),
                     (2048, 40, 10, 1000, 3000), "the limits in WELCOME")
        hub.finish()


def case_queue_packets_is_the_limit():
    """A peer that does not read is ended at the packet limit, long before the byte limit."""
    with Hub("queue_packets = 500", "queue_bytes = 1g", "max_sessions = 100",
             "idle_timeout = 0") as hub:
        senders = [BusClient(hub.port, "sender", str(i)) for i in range(25)]
        non_reader = BusClient(hub.port, "non_reader")
        for _ in range(100):  # 20 MiB in all: more than the system's buffers
            for sender in senders:
                sender.message(SEND, non_reader.id, bytes(8192))
        for sender in senders:
            until(lambda: sender.stats() and non_reader.id in sender.down, "the peer is ended")
            expect_equal(sender.down[non_reader.id], TP_END_OVERLOAD, "reason")
        hub.finish()


def share(hub, thread=""):
    """nice and processors of a program's thread, from the system."""
    folder = f"/proc/{hub.process.pid}/task/{thread or hub.process.pid}"
    with open(folder + "/stat", encoding="ascii") as file:
        nice = int(file.read().rpartition(") ")[2].split()[16])
    with open(folder + "/status", encoding="ascii") as file:
        processors = re.search(r"^Cpus_allowed_list:\s+(.*)$", file.read(), re.M).group(1)
    return nice, processors


def case_priority_and_processors_are_as_configured():
    if WINDOWS:
        for lines in (["priority = low"], ["priority = high"], ["priority = idle"], ["processors = 0"]):
            with Hub(*lines) as hub:
                talk(hub)
                hub.finish()
        return
    first = min(os.sched_getaffinity(0))
    begin = os.nice(0)
    with Hub() as hub:
        expect_equal(share(hub)[0], begin, "nice by default")
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
        expect(SHORTEST_NS not in slices(hub.process), "no shorter slice at priority = low")
        talk(hub)
        hub.finish()
    with Hub("processors = 1023") as hub:  # which is not there: a warning, and it runs
        hub.wait_for(r"^lanserver: warning: processors not set, using all: ", errors=True)
        talk(hub)
        hub.finish()


cases(globals())
