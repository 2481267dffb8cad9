"""Memory of the program lanserver while a service is stopped, and while many peers have sent half a frame;
and that it is given back within two seconds."""
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from bus_client import DATA, SEND, BusClient, Closed
from bus_hub import Hub
from fixture import PATIENCE, WINDOWS, cases, expect, skip, until

MIB = 1 << 20
SPARE = 8 * MIB  # memory that may stay
TALK = 2 * MIB   # memory that other messages may have in use
SANITIZED = sys.argv.pop(1) == "sanitized"

LARGE = 15000
SERVICE = """
import sys
sys.path.insert(0, sys.argv[2])
from bus_client import BusClient
client = BusClient(int(sys.argv[1]), "slow")
print(client.id, flush=True)
while True:
    client.frame_in()
"""


def resident(program):
    with open(f"/proc/{program.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Sink:
    """A peer that reads and counts all messages, on a thread of its own."""

    def __init__(self, port, service):
        self.client = BusClient(port, service)
        self.count = 0
        self.thread = threading.Thread(target=self.drain, daemon=True)
        self.thread.start()

    def drain(self):
        try:
            while True:
                self.client.frame_in()
                self.count += 1
        except (Closed, OSError):
            pass

    def close(self):
        """The sink acknowledges nothing: all that is outstanding is returned when it is closed."""
        self.client.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.client.close()

    def wait_for(self, count):
        end = time.monotonic() + PATIENCE
        while self.count < count:
            expect(time.monotonic() < end, f"{count} messages at the sink, not {self.count}")
            time.sleep(0.0002)


class Talk:
    """Messages between two other peers. Each round fills more than a chunk of the worker that serves the sender."""

    def __init__(self, port):
        self.sink = Sink(port, "sink")
        self.sender = Sink(port, "sender")
        self.sent = 0
        self.body = bytes(LARGE)

    def round(self, first=b""):
        head = struct.pack("<BBHIII", SEND, 0, 0, 0, self.sink.client.id, 1)
        frame = struct.pack("<I", 16 + LARGE | DATA << 24) + head + self.body
        self.sender.client.socket.sendall(first + 5 * frame)
        self.sent += 5

    def settle(self):
        self.sink.wait_for(self.sent)

    def close(self):
        self.sink.close()
        self.sender.close()


def frame_to(peer, body):
    head = struct.pack("<BBHIII", SEND, 0, 0, 0, peer, 1)
    return struct.pack("<I", 16 + len(body) | DATA << 24) + head + body


def hub():
    if WINDOWS:
        skip("resident memory is read from /proc")
    if SANITIZED:
        skip("a sanitizer keeps what is freed")
    return Hub("unconfirmed_limit = 1000000", "queue_bytes = 64m", "queue_packets = 1000000",
               "hello_timeout = 600s", "reserve = 0")


def wait_until_back(program, start, since, what):
    """Waits for that; on a machine that is not busy it takes two seconds at most."""
    until(lambda: resident(program) <= start + SPARE, f"{what}: not more than 8 MiB above the start")
    left = resident(program) - start
    print(f"    {what}: {left // 1024} KiB more than at the start after "
          f"{time.monotonic() - since:.1f} s")


def warm_up(program):
    """Warms up the hub with messages. Returns them and its memory afterwards."""
    talk = Talk(program.port)
    for _ in range(20):
        talk.round()
    talk.settle()
    return talk, resident(program)


def case_memory_of_a_stopped_services_queue_is_given_back():
    with hub() as program:
        talk, start = warm_up(program)
        service = subprocess.Popen(
            [sys.executable, "-c", SERVICE, str(program.port), os.path.dirname(__file__)],
            stdout=subprocess.PIPE, text=True)
        try:
            slow = int(service.stdout.readline())
            os.kill(service.pid, signal.SIGSTOP)
            # Fills the system's buffers, with large messages that take little memory of their own.
            filling = frame_to(slow, bytes(200_000))
            for _ in range(60):
                talk.sender.client.socket.sendall(filling)
            talk.round()
            talk.settle()
            before = resident(program)
            count, size = 1500, 300
            for _ in range(count):
                talk.round(frame_to(slow, bytes(size)))
            talk.settle()
            queued = count * (size + 20)
            # Memory that the messages needed for a moment is given back.
            until(lambda: resident(program) <= before + 2 * queued + TALK,
                  f"{queued} waiting bytes take at most twice their size")
            held = resident(program) - before
            print(f"    {held // 1024} KiB for {queued // 1024} KiB that wait")
            since = time.monotonic()
        finally:
            service.kill()
            service.wait()
        talk.sender.wait_for(count)  # the returned messages
        wait_until_back(program, start, since, "the service is gone")
        talk.close()
        program.finish()


def case_memory_of_a_thousand_half_frames_is_given_back():
    with hub() as program:
        talk, start = warm_up(program)
        half = struct.pack("<I", 100 | DATA << 24) + bytes(50)
        peers = []
        for _ in range(1000):
            peer = socket.create_connection(("127.0.0.1", program.port), PATIENCE)
            peers.append(peer)
            peer.sendall(half)
            talk.round()
            talk.settle()
        held = resident(program) - start
        print(f"    {held // 1024} KiB for 1,000 times half of 100 bytes")
        expect(held <= SPARE, f"{held} bytes")
        since = time.monotonic()
        for peer in peers:
            peer.close()
        wait_until_back(program, start, since, "the thousand are gone")
        talk.close()
        program.finish()


cases(globals())
