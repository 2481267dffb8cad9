"""tp-echo on the WAN and an independent client: valid logins and messages work as the protocol specifies, and
everything else is refused as it specifies."""
import os
import socket
import threading

from echo_server import each_server, load
from fixture import Failed, Program, cases, expect, expect_equal
from wan_client import Player
from wan_noise import AES, CHACHA, SUITES
from wan_protocol import (CLOSE, OPEN, PAD, PING, PLAIN_MAX, PONG, PROTOCOL, READY, SHUTDOWN, TOKEN, VERSION,
                          Ended, Hello, Stream, close_frame, frame)
from wan_fixture import WanEcho

SIZES = (0, 1, 2, 3, 64, 1400, 16366, 16380, 16381, 16384, 16385, 40000, 65535, 65536)


def message(size, salt=0):
    return bytes((i * 7 + i // 251 + salt) % 256 for i in range(size))


def expect_echoes(player, *messages):
    player.send(*messages)
    for number, wanted in enumerate(messages):
        expect(player.receive() == wanted, f"answer {number} to a message of {len(wanted)} bytes is right")


def expect_silent_end(player, what):
    reason = player.end()
    expect_equal((reason, player.late), (None, []), f"{what}: a silent end, and no answer")


# ---- valid ----------------------------------------------------------------------------------------

def echo_everything(server, suite):
    with server.player(suite) as player:
        for size in SIZES:
            expect_echoes(player, message(size))
        expect_echoes(player, *[message(size, size) for size in range(300)])  # many frames in one record
        player.write_frames(frame(b"x", PAD), frame(b"12345", PING))
        expect_equal(player.read_frame(), (PONG, b"12345"), "the answer to PING")
        stream = b"".join(frame(message(size)) for size in range(40))
        player.write_bytes(player.sealing.seal_all(stream, most=7))  # frames that span many records
        for size in range(40):
            expect(player.receive() == message(size), f"the {size} bytes that came in records of 7")
        expect_equal((player.terms.minor_version, player.terms.max_payload), (0, 65536), "terms")
        expect_equal(player.leave(), None, "the server's reason after the client's CLOSE")


def case_messages_are_echoed_in_open_mode():
    for server in each_server(WanEcho):
        for suite in SUITES:
            echo_everything(server, suite)
        account = server.finish()
        expect_equal((account["established"], account["diffie_hellman"]), (2, 2), str(account))


def case_messages_are_echoed_with_tokens():
    with WanEcho(tokens=True) as server:
        for suite in SUITES:
            echo_everything(server, suite)
        account = server.finish()
        expect_equal((account["established"], account["diffie_hellman"]), (2, 2), str(account))


def case_everything_may_come_byte_by_byte():
    """A handshake and three records, byte by byte."""
    with WanEcho(tokens=True) as server:
        for suite in SUITES:
            with server.player(suite, log_in=False) as player:
                write_bytewise(player, player.hello.bytes)
                player.take_reply()
                write_bytewise(player, player.sealing.seal(frame(kind=READY)))
                write_bytewise(player, player.sealing.seal_all(frame(b"one") + frame(b"two"), most=7))
                expect_equal((player.receive(), player.receive()), (b"one", b"two"), "answers")
                player.leave()
        server.finish()


def write_bytewise(player, data):
    for byte in data:
        player.write_bytes(bytes([byte]))


def case_everything_may_come_in_one_write():
    with WanEcho() as server:
        with server.player(log_in=False) as player:
            player.write_bytes(player.hello.bytes)
            player.take_reply()
            player.write_frames(frame(kind=READY), frame(b"one"), frame(b"two"), close_frame())
            player.end()
            expect_equal(player.late, [b"one", b"two"], "answers")
        server.finish()


def case_dummies_are_served():
    for tokens in (False, True):
        with WanEcho(tokens=tokens) as server:
            for suite in ("aes", "chacha"):
                more = {"token_file": server.tokens_file(20)} if tokens else {}
                found = load(server, connections=20, window=16, suite=suite, **more)
                expect(found["answers"] >= 20, f"answers: {found}")
            account = server.finish()
            expect_equal((account["established"], account["tampered"]), (40, 0), str(account))


def case_a_stop_sends_close_to_players():
    with WanEcho() as server:
        with server.player() as player:
            expect_echoes(player, b"here I am")
            server.interrupt()
            expect_equal(player.end(), SHUTDOWN, "the reason that players receive")
        server.finish(ask=lambda _: None)


# ---- invalid in the handshake -------------------------------------------------------------------------

def case_a_foreign_hello_is_closed_silently():
    """Wrong magic, suite, mode and zeros: closed immediately, without an answer."""
    with WanEcho() as server:
        wrong = [Hello(server.public, magic=b"SPDY"), Hello(server.public, mode=TOKEN),
                 Hello(server.public, mode=2), Hello(server.public, zero=1), Hello(server.public, zero=256)]
        for suite in (0, 3, 255):
            hello = Hello(server.public)
            hello.bytes = hello.bytes[:4] + bytes([suite]) + hello.bytes[5:]
            wrong.append(hello)
        for hello in wrong:
            with server.player(log_in=False) as player:
                player.write_bytes(hello.bytes)
                expect_silent_end(player, f"HELLO {hello.bytes[:8].hex()}")
        account = server.finish()
        expect_equal((account["foreign"], account["diffie_hellman"]), (len(wrong), 0), str(account))


def case_another_version_is_answered():
    with WanEcho() as server:
        with server.player(log_in=False) as player:
            player.write_bytes(Hello(server.public, magic=b"TPW2").bytes)
            expect_equal(player.read_reply(), bytes([VERSION, 1]), "REPLY")
            player.socket.shutdown(socket.SHUT_WR)  # the client closes after the answer
            expect_silent_end(player, "another version")
        expect_equal(server.finish()["other_version"], 1, "counted")


def case_changed_bits_of_hello_are_refused():
    """Some flipped bits (the unit tests try all): no welcome."""
    with WanEcho(tokens=True) as server:
        bits = [8 * at + at % 8 for at in range(4, 212)]
        for bit in bits:
            with server.player(log_in=False) as player:
                hello = bytearray(player.hello.bytes)
                hello[bit // 8] ^= 1 << bit % 8
                player.write_bytes(bytes(hello))
                expect_silent_end(player, f"bit {bit}")
        account = server.finish()
        expect_equal((account["established"], account["diffie_hellman"]), (0, 0), str(account))


def case_a_byte_after_hello_is_refused():
    with WanEcho() as server:
        with server.player(log_in=False) as player:
            player.write_bytes(player.hello.bytes + b"x")
            expect_silent_end(player, "a byte more than HELLO")
        account = server.finish()
        expect_equal((account["foreign"], account["diffie_hellman"]), (1, 0), str(account))


def case_wrong_tokens_are_refused_without_work():
    """None of them costs the server a Diffie-Hellman operation."""
    with WanEcho(tokens=True) as server:
        good = server.mint()
        wrong = [("expired", server.mint(expiry=1)), ("unknown_key", server.mint(key_id=server.key_id ^ 1)),
                 ("forged", server.mint(ring_key=os.urandom(32))),
                 ("forged", server.mint(server_public=os.urandom(32)))]  # for another gateway
        with server.player(token=good) as player:
            expect_echoes(player, b"the first use")
            wrong.append(("replayed", good))
            for name, token in wrong:
                with server.player(token=token, log_in=False) as other:
                    other.write_bytes(other.hello.bytes)
                    expect_silent_end(other, name)
            expect_echoes(player, b"still here")
        account = server.finish()
        for name, count in (("expired", 1), ("unknown_key", 1), ("forged", 2), ("replayed", 1),
                            ("established", 1), ("diffie_hellman", 1)):
            expect_equal(account[name], count, f"{name} of {account}")


class Proxy:
    """Forwards a connection, with one byte of HELLO changed."""

    def __init__(self, server, at, value):
        self.server, self.at, self.value = server, at, value
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        inside, _ = self.listener.accept()
        with inside, socket.create_connection(("127.0.0.1", self.server.port)) as outside:
            hello = bytearray(Stream(inside).read_bytes(212 if self.server.tokens else 56))
            hello[self.at] = self.value
            Stream(outside).write_bytes(bytes(hello))
            try:
                while True:
                    Stream(inside).write_bytes(Stream(outside).read_bytes(1))
            except Ended:
                pass

    def join(self):
        self.thread.join()
        self.listener.close()


def case_a_changed_suite_or_mode_is_refused():
    """Security test 5, with our own client: neither end may establish a session."""
    for tokens in (False, True):
        with WanEcho(tokens=tokens) as server:
            changes = [(4, "aes", CHACHA), (4, "chacha", AES), (5, "aes", OPEN if tokens else TOKEN)]
            for at, suite, value in changes:
                proxy = Proxy(server, at, value)
                words = ["--token-file", server.tokens_file(1)] if tokens else []
                with Program("tp-dummy", "wan", "--connect", f"127.0.0.1:{proxy.port}", "--server-key",
                             server.public.hex(), "--connections", 1, "--suite", suite, "--json",
                             "--seconds", 0.1, *words) as dummy:
                    expect_equal(dummy.wait(), 1, f"exit code\n{dummy.output()}")
                    expect('"connects":0' in dummy.lines[-1] and "not_welcome" in dummy.lines[-1],
                           f"byte {at} changed to {value}: not welcome\n{dummy.output()}")
                proxy.join()
            account = server.finish()
            expect_equal(account["established"], 0, str(account))


# ---- invalid after the handshake ----------------------------------------------------------------------

def case_ready_is_the_first_frame_and_comes_once():
    """READY comes first, alone or with other frames, and once."""
    with WanEcho() as server:
        with server.player(log_in=False) as player:
            player.write_bytes(player.hello.bytes)
            player.take_reply()
            player.write_frames(frame(b"no READY"))
            player.end()
            expect_equal(player.late, [], "answers without READY")
        with server.player() as player:
            expect_echoes(player, b"so far, so good")
            player.write_frames(frame(kind=READY))
            expect_equal(player.end(), PROTOCOL, "READY again")
        account = server.finish()
        expect_equal((account["established"], account["not_ready"]), (1, 1), str(account))


def wrong_records(server, suite):
    """Security test 3: a name, and a function that makes the wrong record for a message."""
    with server.player(suite) as other:
        stranger = other.sealing.seal(frame(b"spliced"))

        def flipped(player):
            record = bytearray(player.sealing.seal(frame(b"flipped")))
            record[len(record) // 2] ^= 4
            return bytes(record)

        def lost(player):
            player.sealing.seal(frame(b"lost"))
            return player.sealing.seal(frame(b"behind it"))

        def swapped(player):
            first, second = player.sealing.seal(frame(b"1")), player.sealing.seal(frame(b"2"))
            return second + first

        yield from (("a flipped bit", flipped), ("a lost record", lost), ("swapped records", swapped),
                    ("a repeated record", lambda player: player.first),
                    ("a reflected record", lambda player: player.echoed),
                    ("another session's record", lambda player: stranger))


def remember_records(player):
    """Has a message echoed and keeps both records: player.first, player.echoed."""
    player.first = player.sealing.seal(frame(b"hello"))
    player.write_bytes(player.first)
    head = player.read_bytes(2)
    player.echoed = head + player.read_bytes(int.from_bytes(head, "little"))
    expect_equal(player.opening.open(player.echoed[2:]), frame(b"hello"), "the echo")


def case_wrong_records_end_the_session_silently():
    with WanEcho() as server:
        count = 0
        for suite in SUITES:
            for name, spoil in wrong_records(server, suite):
                with server.player(suite) as player:
                    remember_records(player)
                    player.write_bytes(spoil(player))
                    player.write_bytes(player.sealing.seal(frame(b"and on")))
                    expect_silent_end(player, name)
                    count += 1
        expect_equal(server.finish()["tampered"], count, "counted")


def case_impossible_lengths_end_the_session_silently():
    """Security test 7: refused for the two bytes alone."""
    with WanEcho() as server:
        for size in (0, 1, 16, PLAIN_MAX + 17, 65535):
            with server.player() as player:
                expect_echoes(player, b"hello")
                player.write_bytes(size.to_bytes(2, "little"))
                expect_silent_end(player, f"a record of {size} bytes")
        server.serves_the_simplest_client()
        server.finish()


def case_invalid_frames_end_the_session():
    with WanEcho() as server:
        bad = [frame(kind=6), frame(kind=255), frame(b"1", CLOSE), frame(bytes(33), PING),
               (65537).to_bytes(4, "little")]  # refused for its length alone
        for wanted in bad:
            with server.player() as player:
                expect_echoes(player, b"hello")
                player.write_frames(wanted)
                expect_equal(player.end(), PROTOCOL, f"the reason for {wanted[:4].hex()}")
        server.serves_the_simplest_client()
        server.finish()


def case_a_wrong_server_key_is_refused():
    """A client with another server's key: it must detect that, and the server must not admit it."""
    with WanEcho() as server:
        with WanEcho() as other:
            with server.player() as player:
                expect_echoes(player, b"hello")
            try:
                Player(("127.0.0.1", server.port), other.public)
                raise Failed("the client got a welcome")
            except Ended:
                pass
            other.finish()
        expect_equal(server.finish()["not_authentic"], 1, "counted")


cases(globals())
