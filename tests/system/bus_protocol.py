"""The bus protocol byte by byte, with a client written from docs/bus-protocol.md alone."""
import struct
import time

from bus_client import (ACK, ACK_VALID, ALL, ANY, ERROR, HELLO, KEYED, PEER_UP, REPLY, REQUEST, SEND,
                        TO_SERVICE, WELCOME, BusClient, Closed, service_hash, text16)
from bus_hub import Hub
from fixture import PATIENCE, cases, expect, expect_equal, until

NO_PEER, NO_SERVICE, QUEUE_FULL, UNCONFIRMED_FULL, TOO_LARGE, PEER_LOST, MALFORMED = range(1, 8)


def case_welcome_and_peers_are_as_documented():
    with Hub("idle_timeout = 60s") as hub:
        a = BusClient(hub.port, "chat", "a")
        expect(a.id != 0 and a.version == 1 and a.largest == 1 << 20, "WELCOME")
        expect_equal((a.unconfirmed, a.ack_messages, a.ack_ms), (65536, 1024, 50), "limits")
        expect_equal((a.heartbeat, a.idle, a.peers), (30000, 60000, {}), "heartbeat, idle, peers")
        b = BusClient(hub.port, "db", "b")
        expect_equal(b.hub, a.hub, "the hub's instance")
        expect_equal(b.peers, {a.id: ("chat", "a")}, "peers that were present")
        a.note(a.next(peers=True))
        expect_equal(a.peers, {b.id: ("db", "b")}, "a peer that came later")
        b.close()
        a.note(a.next(peers=True))
        expect_equal((a.peers, a.down), ({}, {b.id: 1}), "a peer that left, and its reason")
        c = BusClient(hub.port, "db", "b")
        expect(c.id not in (a.id, b.id), "no id is given again")
        hub.finish()


def case_the_documents_example_works():
    with Hub() as hub:
        nine, seven = BusClient(hub.port, "nine"), BusClient(hub.port, "greeter")
        for _ in range(5):
            nine.message(SEND, nine.id, b"")
        for _ in range(5):
            nine.next()
        seven.socket.sendall(bytes.fromhex("12000000 06000000 00000000") +
                             struct.pack("<I", nine.id) + bytes.fromhex("01000000 6869"))
        expect_equal(nine.frame_in(), bytes.fromhex("06010000") + struct.pack("<I", seven.id) +
                     bytes.fromhex("05000000 01000000 6869"), "as in the document")
        hub.finish()


def case_send_any_and_all_are_delivered():
    with Hub() as hub:
        a, b, c = (BusClient(hub.port, name, name) for name in ("a", "b", "c"))
        sent = a.message(SEND, b.id, b"hello")
        got = b.next()
        expect_equal((got.kind, got.source, got.correlation, got.body), (SEND, a.id, sent, b"hello"),
                     "SEND")
        expect(got.flags == ACK_VALID and got.destination == 0, "none of b's messages is acknowledged yet")
        a.message(ANY, service_hash("b"), b"any", flags=KEYED, key=7)
        got = b.next()
        expect_equal((got.kind, got.key, got.flags, got.body), (ANY, 7, KEYED | ACK_VALID, b"any"),
                     "ANY")
        a.message(ALL, 0, b"all")
        for other in (b, c):
            got = other.next()
            expect_equal((got.kind, got.source, got.flags, got.body), (ALL, a.id, 0, b"all"), "ALL")
        a.message(ALL, service_hash("c"), b"")
        expect_equal(c.next().body, b"", "an empty message to a service")
        expect(b.quiet(0.1), "b is not of that service")
        b.ack(), c.ack()
        until(lambda: a.stats()["outstanding"] == 0, "everything is confirmed")
        expect_equal(hub.finish(), (5, 5, 0), "account")


def case_requests_are_answered():
    with Hub() as hub:
        a, b = BusClient(hub.port, "a"), BusClient(hub.port, "b")
        for destination, flags in ((b.id, 0), (service_hash("b"), TO_SERVICE)):
            asked = a.message(REQUEST, destination, b"question", flags=flags)
            got = b.next()
            expect_equal((got.kind, got.body), (REQUEST, b"question"), "REQUEST")
            b.message(REPLY, got.source, b"answer", correlation=got.correlation)
            got = a.next()
            expect_equal((got.kind, got.source, got.correlation, got.body),
                         (REPLY, b.id, asked, b"answer"), "REPLY")
        asked = a.message(REQUEST, b.id, b"question")
        got = b.next()
        b.message(ERROR, got.source, struct.pack("<IIBxxx", b.id, b.id, REQUEST), key=10,
                  correlation=got.correlation)
        got = a.next()
        expect_equal((got.kind, got.key, got.source, got.correlation), (ERROR, 10, b.id, asked),
                     "ERROR of a client")
        stats = until(lambda: a.stats() if a.stats()["accepted"] == 6 else None, "all is counted")
        expect_equal((stats["peers"], stats["services"]), (2, 2), "stats")
        hub.finish()


def case_undeliverable_messages_come_back():
    with Hub("max_frame = 8k", "unconfirmed_limit = 3") as hub:
        a = BusClient(hub.port, "a")
        b = BusClient(hub.port)
        b.hello("b", largest=1024)
        nobody, nothing = b.id + 1, service_hash("nothing")
        for kind, flags, destination, body, reason, peer in (
                (SEND, 0, nobody, b"", NO_PEER, nobody),
                (REPLY, 0, nobody, b"", NO_PEER, nobody),
                (ERROR, 0, nobody, struct.pack("<IIBxxx", a.id, a.id, REQUEST), NO_PEER, nobody),
                (REQUEST, 0, nobody, b"", NO_PEER, nobody),
                (ANY, 0, nothing, b"", NO_SERVICE, 0),
                (ANY, KEYED, nothing, b"", NO_SERVICE, 0),
                (ALL, 0, nothing, b"", NO_SERVICE, 0),
                (REQUEST, TO_SERVICE, nothing, b"", NO_SERVICE, 0),
                (ALL, 0, service_hash("a"), b"", NO_SERVICE, 0),  # no other peer
                (SEND, 0, b.id, bytes(1024 - 15), TOO_LARGE, b.id),
                (ANY, 0, service_hash("b"), bytes(1024 - 15), TOO_LARGE, b.id),
                (ALL, 0, 0, bytes(1024 - 15), TOO_LARGE, b.id),
                (SEND, 0, 0, b"", MALFORMED, 0),
                (REPLY, 0, 0, b"", MALFORMED, 0),
                (ERROR, 0, b.id, bytes(11), MALFORMED, 0),
                (ERROR, 0, b.id, struct.pack("<IIBxxx", a.id, a.id, ERROR), MALFORMED, 0),
                (SEND, KEYED, b.id, b"", MALFORMED, 0),
                (SEND, 128, b.id, b"", MALFORMED, 0),
                (ALL, TO_SERVICE, 0, b"", MALFORMED, 0),
                (REQUEST, KEYED, b.id, b"", MALFORMED, 0),
                (REQUEST, 0, 0, b"statistics", MALFORMED, 0)):
            sent = a.message(kind, destination, body, flags)
            expect_equal(a.error(), (sent, reason, peer, destination, kind), "ERROR")
        for _ in range(3):
            a.message(SEND, b.id, b"kept")
        for kind, destination in ((SEND, b.id), (ANY, service_hash("b")), (ALL, 0)):
            sent = a.message(kind, destination)
            expect_equal(a.error(), (sent, UNCONFIRMED_FULL, b.id, destination, kind), "ERROR")
        for _ in range(3):
            b.next()
        b.ack()
        until(lambda: a.stats()["outstanding"] == 0, "b has confirmed")
        a.message(SEND, b.id, b"there is room again")
        expect_equal(b.next().body, b"there is room again", "SEND")
        b.ack()
        until(lambda: a.stats()["outstanding"] == 0, "b has confirmed")
        expect_equal(hub.finish(), (28, 4, 24), "account")


def case_a_lost_peers_messages_come_back():
    with Hub() as hub:
        a, b = BusClient(hub.port, "a"), BusClient(hub.port, "b")
        first = a.message(SEND, b.id, b"1")
        sent = [a.message(SEND, b.id, b"2"), a.message(ANY, service_hash("b"), b"3"),
                a.message(ALL, 0, b"4"), a.message(REQUEST, b.id, b"5")]
        expect_equal(b.next().correlation, first, "the first")
        b.ack()  # of the first message only
        for _ in sent:
            b.next()
        until(lambda: a.stats()["outstanding"] == 4, "one is confirmed")
        b.close()
        destinations = (b.id, service_hash("b"), 0, b.id)
        for correlation, destination, kind in zip(sent, destinations, (SEND, ANY, ALL, REQUEST)):
            expect_equal(a.error(), (correlation, PEER_LOST, b.id, destination, kind), "ERROR")
        a.note(a.next(peers=True))
        expect(b.id in a.down, "PEER_DOWN follows")
        expect_equal(a.stats()["returned.peer-lost"], 4, "stats")
        expect_equal(hub.finish(), (5, 1, 4), "account")


def case_returns_without_a_sender_are_counted():
    """Sender and receiver are lost: the messages cannot come back, and are counted as orphaned."""
    with Hub() as hub:
        a, b, c = (BusClient(hub.port, name) for name in "abc")
        for _ in range(10):
            a.message(SEND, b.id, b"x")
        for _ in range(10):
            b.next()
        a.close()
        until(lambda: c.stats()["peers"] == 2, "a is gone")
        b.close()
        stats = until(lambda: c.stats() if c.stats()["peers"] == 1 else None, "b is gone")
        expect_equal((stats["returned"], stats["returned.orphaned"]), (10, 10), "stats")
        hub.finish()


def case_the_hub_acknowledges_in_time():
    with Hub() as hub:
        a, b = BusClient(hub.port, "a"), BusClient(hub.port, "b")
        for _ in range(3):
            a.message(SEND, b.id, b"x")
        begin = time.monotonic()
        while a.taken < 3:
            got = a.next(acks=True)
            expect_equal((got.kind, got.flags), (ACK, ACK_VALID), "ACK")
        print(f"    confirmed after {(time.monotonic() - begin) * 1000:.0f} ms")
        expect(a.quiet(0.15), "no further ACK")
        for _ in range(1024):
            a.message(SEND, b.id, b"x")
        for _ in range(1027):
            b.next()
        while a.taken < 1027:
            expect_equal(a.next(acks=True).kind, ACK, "kind")
        a.message(SEND, b.id, b"x")
        b.next()
        while a.taken < 1028:  # b's answer may overtake the count, because another worker of the hub sends it
            b.message(SEND, a.id, b"back")
            expect_equal(a.next().flags, ACK_VALID, "a message carries the acknowledgement")
        hub.finish()


def refusal(hub, *arguments, **named):
    client = BusClient(hub.port)
    try:
        client.hello(*arguments, **named)
    except Closed as why:
        expect_equal(client.closed(), 0, "CLOSE")
        return why.reason
    return None


def case_invalid_hellos_are_refused():
    with Hub("max_services = 2") as hub:
        first = BusClient(hub.port, "costarring")
        expect_equal(service_hash("costarring"), service_hash("liquid"), "two names, one hash")
        expect_equal(refusal(hub, "liquid"), 18, "collision")
        expect_equal(refusal(hub, "x", version=2), 16, "version")
        for service, instance in (("", "i"), ("x" * 64, "i"), ("Upper", "i"), ("a b", "i"),
                                  ("x", ""), ("x", "i/j"), ("x", "y" * 64)):
            expect_equal(refusal(hub, service, instance), 17, f"name {service}/{instance}")
        expect_equal(refusal(hub, "x", largest=1023), MALFORMED, "a client that accepts no message")
        expect_equal(refusal(hub, "costarring"), None, "the name is known")
        expect_equal(refusal(hub, "second"), None, "another name")
        expect_equal(refusal(hub, "third"), 19, "too many names")
        expect_equal(first.stats()["services"], 2, "services")
        hub.finish()


def header(kind, correlation=1, handled=0, destination=0):
    return struct.pack("<BBHIII", kind, 0, 0, handled, destination, correlation)


HELLO_BODY = struct.pack("<HHI", 1, 0, 65536) + text16("x") + text16("y")


def case_protocol_errors_close_the_connection():
    with Hub() as hub:
        watcher = BusClient(hub.port, "watcher")
        for payload in (b"", bytes(15), header(SEND), header(0), header(WELCOME), header(255),
                        header(HELLO), header(HELLO) + HELLO_BODY[:-1], header(ACK)):
            client = BusClient(hub.port)
            client.frame(0, payload)
            expect_equal(client.closed(), 5, f"CLOSE for {payload.hex()} instead of HELLO")
        for payload in (b"", bytes(15), header(0), header(WELCOME), header(PEER_UP), header(4),
                        header(12), header(255), header(HELLO, 0) + HELLO_BODY,
                        header(SEND, correlation=0, destination=watcher.id),
                        header(ACK, handled=1), header(SEND, handled=0x7FFFFFFF)):
            client = BusClient(hub.port, "x")
            client.frame(0, payload)
            expect_equal(client.closed(), 5, f"CLOSE for {payload.hex()}")
        stats = until(lambda: watcher.stats() if watcher.stats()["peers"] == 1 else None,
                      "all are ended")
        expect_equal(stats["accepted"], 0, "nothing was accepted")
        hub.finish()


def case_old_counts_have_no_effect():
    with Hub() as hub:
        a, b = BusClient(hub.port, "a"), BusClient(hub.port, "b")
        for _ in range(2):
            a.message(SEND, b.id, b"x")
            b.next()
        b.ack()
        b.confirmed = 1  # an older count than the last one: valid, without effect
        b.message(SEND, a.id, b"x")
        expect_equal(a.next().body, b"x", "SEND")
        b.confirmed = 0xFFFFFFFF  # one before the first message: the same
        b.message(SEND, a.id, b"y")
        expect_equal(a.next().body, b"y", "SEND")
        hub.finish()


def case_hello_has_a_deadline():
    with Hub("hello_timeout = 200ms") as hub:
        begin = time.monotonic()  # the hub starts to count later
        client = BusClient(hub.port)
        expect_equal(client.closed(), 3, "CLOSE")
        expect(time.monotonic() - begin >= 0.19, "not before its time")
        late = until(lambda: in_time(hub), "a client that sends HELLO in time")
        expect(late.quiet(0.4), "a registered client is not ended")
        hub.finish()


def in_time(hub):
    """A client that has sent HELLO in time, or None: the machine was too slow."""
    try:
        return BusClient(hub.port, "x")
    except (Closed, OSError):
        return None


def case_a_stopping_hub_returns_new_messages():
    with Hub("drain_timeout = 20s") as hub:
        a, b = BusClient(hub.port, "a"), BusClient(hub.port, "b")
        a.message(REQUEST, b.id, b"question")
        asked = b.next()
        hub.interrupt()
        late = until(lambda: stopping_answer(a), "the hub answers that it is stopping")
        expect_equal(late, 9, "reason")
        expect(b.quiet(0.2), "the hub waits for messages in flight")
        b.ack()
        expect_equal(a.closed(), 8, "CLOSE")
        expect_equal(b.closed(), 8, "CLOSE")
        expect_equal(hub.wait(PATIENCE), 0, "exit code")
        expect(asked.body == b"question", "the request made before")


def stopping_answer(client):
    """The reason with which a request is returned, or None if it is answered."""
    client.message(REQUEST, 0, b"stats")
    message = client.next()
    return message.key if message.kind == ERROR else None


cases(globals())
