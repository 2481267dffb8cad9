"""Misbehaving peers: the hub ends them and stays within its limits, and other peers are not affected."""
import random
import socket
import struct
import time

from bus_client import ALL, SEND, BusClient, Closed, service_hash
from bus_hub import Hub
from fixture import PATIENCE, cases, expect, expect_equal, until

CLOSE_PROTOCOL = 5
PEER_LOST = 6


class Pair:
    """Two well-behaved peers beside them: each round trip is checked and timed."""

    def __init__(self, hub):
        self.a, self.b = BusClient(hub.port, "good"), BusClient(hub.port, "good")

    def talk(self, rounds=20):
        worst = 0.0
        for i in range(rounds):
            begin = time.monotonic()
            body = b"round %d" % i
            self.a.message(SEND, self.b.id, body)
            expect_equal(self.b.next().body, body, "there")
            self.b.ack()
            self.b.message(SEND, self.a.id, body)
            expect_equal(self.a.next().body, body, "and back")
            self.a.ack()
            worst = max(worst, time.monotonic() - begin)
        expect(worst < PATIENCE / 2, f"a round trip took {worst:.1f} s")


def raw(hub):
    return socket.create_connection(("127.0.0.1", hub.port), PATIENCE)


def ended(connection):
    """Reads to the end, closes after CLOSE, and returns what was received."""
    got = b""
    try:
        while True:
            more = connection.recv(65536)
            if not more:
                return got
            got += more
            if got[-6:-2] == struct.pack("<I", 2 | 3 << 24):
                connection.shutdown(socket.SHUT_WR)
    except OSError:
        return got  # reset; shutdown() raises another error


def close_frame(reason):
    return struct.pack("<IH", 2 | 3 << 24, reason)


def case_garbage_ends_the_connection():
    with Hub() as hub:
        pair = Pair(hub)
        generator = random.Random(1)
        for size in (1, 3, 4, 5, 100, 65536, 1 << 20):
            with raw(hub) as connection:
                try:
                    connection.sendall(bytes([255]) * 4 + generator.randbytes(size))
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # it was ended while the test was sending: reset, broken pipe, not connected
                ended(connection)
            pair.talk(2)
        until(lambda: pair.a.stats()["sessions"] == 2, "the others are gone")
        pair.talk()
        hub.finish()


def case_garbage_from_a_peer_ends_it():
    """Well-formed frames with any payload, from a peer that has sent HELLO."""
    with Hub() as hub:
        pair = Pair(hub)
        generator = random.Random(2)
        for _ in range(200):
            client = BusClient(hub.port, "bad")
            try:
                for _ in range(5):
                    client.frame(0, generator.randbytes(generator.randrange(64)))
            except OSError:
                pass
            client.close()
        pair.talk()
        until(lambda: pair.a.stats()["sessions"] == 2, "the others are gone")
        pair.talk()
        hub.finish()


def case_a_frame_over_the_limit_ends_the_peer():
    with Hub("max_frame = 64k") as hub:
        pair = Pair(hub)
        client = BusClient(hub.port, "bad")
        client.socket.sendall(struct.pack("<I", 65537))  # the header alone is refused
        expect_equal(client.closed(), CLOSE_PROTOCOL, "CLOSE")
        client = BusClient(hub.port, "good-enough")
        client.message(SEND, pair.a.id, bytes(65536 - 16))
        expect_equal(len(pair.a.next().body), 65536 - 16, "the largest there can be")
        pair.a.ack()
        pair.talk()
        hub.finish()


def case_an_unknown_frame_type_ends_the_connection():
    with Hub() as hub:
        pair = Pair(hub)
        for kind in (4, 6, 255):
            with raw(hub) as connection:
                connection.sendall(struct.pack("<I", kind << 24))
                expect_equal(ended(connection), close_frame(CLOSE_PROTOCOL), f"answer to type {kind}")
        pair.talk()
        hub.finish()


def case_a_truncated_stream_ends_the_peer():
    with Hub() as hub:
        pair = Pair(hub)
        for cut in (1, 3, 4, 10, 35):
            client = BusClient(hub.port, "bad")
            whole = struct.pack("<IBBHIII", 32, SEND, 0, 0, 0, pair.a.id, 1) + bytes(16)
            client.socket.sendall(whole[:cut])
            client.socket.shutdown(socket.SHUT_WR)  # a close with unread bytes would be a reset
            client.closed()
        until(lambda: pair.a.stats()["peers"] == 2, "the others are gone")
        expect_equal(set(pair.a.down.values()), {3}, "TP_END_TRUNCATED")
        expect_equal(pair.a.stats()["accepted"], 0, "nothing of it was delivered")
        pair.talk()
        hub.finish()


def case_a_peer_that_never_reads_is_ended():
    """Its queue is bounded: at the limit the peer is ended, and all its messages come back."""
    with Hub("queue_bytes = 256k", "max_frame = 64k", "idle_timeout = 0") as hub:
        pair = Pair(hub)
        sender = BusClient(hub.port, "sender")
        non_reader = BusClient.__new__(BusClient)
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        connection.settimeout(PATIENCE)
        connection.connect(("127.0.0.1", hub.port))
        non_reader.socket, non_reader.bytes, non_reader.timeout = connection, b"", PATIENCE
        non_reader.correlation = non_reader.handled = non_reader.confirmed = non_reader.taken = 0
        non_reader.peers, non_reader.down = {}, {}
        non_reader.hello("non_reader")
        sent = returned = 0
        while non_reader.id not in sender.down and sent < 20000:
            for _ in range(16):
                sender.message(SEND, non_reader.id, bytes(8192))
                sent += 1
            pair.talk(1)
            sender.stats()  # reads what has come back so far
            # (ERRORs are counted by the hub's account below)
        expect(non_reader.id in sender.down, "it is ended")
        expect_equal(sender.down[non_reader.id], 6, "TP_END_OVERLOAD")
        stats = sender.stats()
        returned = stats["returned"]
        expect_equal(returned, sent, "all of it came back")
        print(f"    {sent} messages of 8 KiB until it was ended")
        pair.talk()
        hub.finish()


def case_a_peer_that_never_reads_stays_where_queues_refuse():
    with Hub("queue_bytes = 256k", "max_frame = 64k", "queue_policy = refuse",
             "unconfirmed_limit = 100000") as hub:
        pair = Pair(hub)
        sender = BusClient(hub.port, "sender")
        non_reader = BusClient(hub.port, "non_reader")
        sent = 0
        while sent < 20000:
            for _ in range(16):
                sender.message(SEND, non_reader.id, bytes(8192))
                sent += 1
            pair.talk(1)
            if "returned.queue-full" in sender.stats():
                break
        stats = sender.stats()
        expect(stats.get("returned.queue-full", 0) > 0, "what the queue does not take comes back")
        expect_equal(stats["peers"], 4, "the peer stays")
        expect(non_reader.id not in sender.down, "no PEER_DOWN")
        for _ in range(sent - stats["returned"]):
            non_reader.next()  # now it reads
        non_reader.ack()
        until(lambda: sender.stats()["outstanding"] == 0, "all the rest was delivered")
        pair.talk()
        hub.finish()


def case_a_sender_that_does_not_read_its_returns_is_ended():
    """What comes back to it does not fit its queue, either: it is ended, because returns must not be lost."""
    with Hub("queue_bytes = 64k", "max_frame = 32k", "queue_policy = refuse", "idle_timeout = 0",
             "drain_timeout = 200ms") as hub:
        pair = Pair(hub)
        bad = BusClient(hub.port, "bad")
        sent = 0
        try:
            while sent < 2000000 and bad.id not in pair.a.down:
                block = b"".join(
                    struct.pack("<IBBHIII", 16, SEND, 0, 0, 0, bad.id + 1, n + 1)
                    for n in range(sent, sent + 1000))
                bad.socket.sendall(block)
                sent += 1000
                pair.talk(1)
        except OSError:
            pass  # ended
        until(lambda: pair.talk(1) or bad.id in pair.a.down, "it is ended")
        bad.close()
        pair.talk()
        print(f"    {sent} messages until it was ended")
        accepted, delivered, returned = hub.finish()
        expect(returned > 0 and accepted == delivered + returned, "account")


def case_a_reset_returns_the_peers_messages():
    with Hub() as hub:
        pair = Pair(hub)
        bad = BusClient(hub.port, "bad")
        for _ in range(10):
            pair.a.message(SEND, bad.id, b"x")
        for _ in range(10):
            bad.next()
        bad.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bad.close()
        for _ in range(10):
            expect_equal(pair.a.error()[1], PEER_LOST, "reason")
        pair.a.note(pair.a.next(peers=True))
        expect(bad.id in pair.a.down, "PEER_DOWN")
        pair.talk()
        hub.finish()


def case_a_silent_peer_is_ended():
    # Long enough that a stall of the machine does not make the answering peer silent.
    with Hub("idle_timeout = 5s", "ping_interval = 100ms", "drain_timeout = 200ms") as hub:
        a = BusClient(hub.port, "a")
        silent = BusClient(hub.port, "silent")  # answers no PING, because it does not read
        expect_equal(a.next(peers=True).kind, 3, "PEER_UP")
        down = a.next(peers=True)  # answers PINGs while it waits
        expect_equal(struct.unpack("<IH", down.body[:6]), (silent.id, 5), "PEER_DOWN, TP_END_IDLE")
        hub.finish()


def case_a_storm_of_peers_is_served():
    """Peers connect and leave all the time; those that stay exchange messages, and are notified of each one."""
    with Hub() as hub:
        pair = Pair(hub)
        pair.talk(1)
        for i in range(300):
            client = BusClient(hub.port, f"s{i % 7}")
            client.message(ALL, service_hash("good"), b"hello")
            # A close with unread bytes would be a reset, for which Win32 may discard what was sent before.
            client.socket.shutdown(socket.SHUT_WR)
            client.closed()
            for good in (pair.a, pair.b):
                expect_equal(good.next().body, b"hello", "ALL")
                good.ack()
        pair.talk()
        until(lambda: pair.a.stats()["peers"] == 2 and len(pair.a.down) >= 300,
              "only the pair is left, and 300 peers were announced as gone")
        expect_equal(len(pair.a.down), 300, "each once")
        hub.finish()


cases(globals())
