"""tp-echo on the WAN and an independent client: what the protocol says happens, and what must not happen
does not."""
import os
import socket
import threading

from echo_server import each_server, load
from stage import Failed, Program, cases, expect, expect_equal
from wan_client import Player
from wan_noise import AES, CHACHA, SUITES
from wan_protocol import (CLOSE, OPEN, PAD, PING, PLAIN_MAX, PONG, PROTOCOL, READY, SHUTDOWN, TOKEN, VERSION,
                          Ended, Hello, Stream, close_frame, frame)
from wan_stage import WanEcho

SIZES = (0, 1, 2, 3, 64, 1400, 16366, 16380, 16381, 16384, 16385, 40000, 65535, 65536)


def message(size, salt=0):
    return bytes((i * 7 + i // 251 + salt) % 256 for i in range(size))


def ask(player, *messages):
    player.say(*messages)
    for number, wanted in enumerate(messages):
        expect(player.hear() == wanted, f"answer {number} to a message of {len(wanted)} bytes is right")


def expect_silent_end(player, what):
    reason = player.end()
    expect_equal((reason, player.late), (None, []), f"{what}: a silent end, and no answer")


# ---- what is right --------------------------------------------------------------------------------

def echo_everything(server, suite):
    with server.player(suite) as player:
        for size in SIZES:
            ask(player, message(size))
        ask(player, *[message(size, size) for size in range(300)])  # many frames in one record
        player.write_frames(frame(b"x", PAD), frame(b"12345", PING))
        expect_equal(player.read_frame(), (PONG, b"12345"), "the answer to PING")
        stream = b"".join(frame(message(size)) for size in range(40))
        player.write_bytes(player.sealing.seal_all(stream, most=7))  # frames that span many records
        for size in range(40):
            expect(player.hear() == message(size), f"the {size} bytes that came in records of 7")
        expect_equal((player.terms.minor_version, player.terms.max_payload), (0, 65536), "terms")
        expect_equal(player.leave(), None, "the server's reason, where we have said CLOSE")


def case_echo():
    for server in each_server(WanEcho):
        for suite in SUITES:
            echo_everything(server, suite)
        account = server.finish()
        expect_equal((account["established"], account["diffie_hellman"]), (2, 2), str(account))


def case_echo_with_tokens():
    with WanEcho(tokens=True) as server:
        for suite in SUITES:
            echo_everything(server, suite)
        account = server.finish()
        expect_equal((account["established"], account["diffie_hellman"]), (2, 2), str(account))


def case_one_byte_at_a_time():
    """A handshake and three records: the server must not see where TCP cuts."""
    with WanEcho(tokens=True) as server:
        for suite in SUITES:
            with server.player(suite, greet=False) as player:
                write_bytewise(player, player.hello.bytes)
                player.take_reply()
                write_bytewise(player, player.sealing.seal(frame(kind=READY)))
                write_bytewise(player, player.sealing.seal_all(frame(b"one") + frame(b"two"), most=7))
                expect_equal((player.hear(), player.hear()), (b"one", b"two"), "answers")
                player.leave()
        server.finish()


def write_bytewise(player, data):
    for byte in data:
        player.write_bytes(bytes([byte]))


def case_everything_in_one_write():
    with WanEcho() as server:
        with server.player(greet=False) as player:
            player.write_bytes(player.hello.bytes)
            player.take_reply()
            player.write_frames(frame(kind=READY), frame(b"one"), frame(b"two"), close_frame())
            player.end()
            expect_equal(player.late, [b"one", b"two"], "answers")
        server.finish()


def case_dummies():
    for tokens in (False, True):
        with WanEcho(tokens=tokens) as server:
            for suite in ("aes", "chacha"):
                more = {"token_file": server.tokens_file(20)} if tokens else {}
                found = load(server, connections=20, window=16, suite=suite, **more)
                expect(found["answers"] >= 20, f"answers: {found}")
            account = server.finish()
            expect_equal((account["established"], account["tampered"]), (40, 0), str(account))


def case_a_stop():
    with WanEcho() as server:
        with server.player() as player:
            ask(player, b"here I am")
            server.interrupt()
            expect_equal(player.end(), SHUTDOWN, "the reason that players are given")
        server.finish(ask=lambda _: None)


# ---- what is wrong in the handshake ------------------------------------------------------------------

def case_hello_of_another_kind():
    """Magic, suite, mode, zeros: closed at once, without a word."""
    with WanEcho() as server:
        wrong = [Hello(server.public, magic=b"SPDY"), Hello(server.public, mode=TOKEN),
                 Hello(server.public, mode=2), Hello(server.public, zero=1), Hello(server.public, zero=256)]
        for suite in (0, 3, 255):
            hello = Hello(server.public)
            hello.bytes = hello.bytes[:4] + bytes([suite]) + hello.bytes[5:]
            wrong.append(hello)
        for hello in wrong:
            with server.player(greet=False) as player:
                player.write_bytes(hello.bytes)
                expect_silent_end(player, f"HELLO {hello.bytes[:8].hex()}")
        account = server.finish()
        expect_equal((account["foreign"], account["diffie_hellman"]), (len(wrong), 0), str(account))


def case_another_version():
    with WanEcho() as server:
        with server.player(greet=False) as player:
            player.write_bytes(Hello(server.public, magic=b"TPW2").bytes)
            expect_equal(player.read_reply(), bytes([VERSION, 1]), "REPLY")
            player.socket.shutdown(socket.SHUT_WR)  # a client that is told hangs up
            expect_silent_end(player, "another version")
        expect_equal(server.finish()["other_version"], 1, "counted")


def case_bits_of_hello():
    """Some of its bits flipped; all of them are the unit tests' business. Nobody is welcome."""
    with WanEcho(tokens=True) as server:
        bits = [8 * at + at % 8 for at in range(4, 212)]
        for bit in bits:
            with server.player(greet=False) as player:
                hello = bytearray(player.hello.bytes)
                hello[bit // 8] ^= 1 << bit % 8
                player.write_bytes(bytes(hello))
                expect_silent_end(player, f"bit {bit}")
        account = server.finish()
        expect_equal((account["established"], account["diffie_hellman"]), (0, 0), str(account))


def case_more_than_hello():
    with WanEcho() as server:
        with server.player(greet=False) as player:
            player.write_bytes(player.hello.bytes + b"x")
            expect_silent_end(player, "a byte more than HELLO")
        account = server.finish()
        expect_equal((account["foreign"], account["diffie_hellman"]), (1, 0), str(account))


def case_wrong_tokens():
    """None of them costs the server any Diffie-Hellman work."""
    with WanEcho(tokens=True) as server:
        good = server.mint()
        wrong = [("expired", server.mint(expiry=1)), ("unknown_key", server.mint(key_id=server.key_id ^ 1)),
                 ("forged", server.mint(ring_key=os.urandom(32))),
                 ("forged", server.mint(server_public=os.urandom(32)))]  # for another gateway
        with server.player(token=good) as player:
            ask(player, b"the first use")
            wrong.append(("replayed", good))
            for name, token in wrong:
                with server.player(token=token, greet=False) as other:
                    other.write_bytes(other.hello.bytes)
                    expect_silent_end(other, name)
            ask(player, b"still here")
        account = server.finish()
        for name, count in (("expired", 1), ("unknown_key", 1), ("forged", 2), ("replayed", 1),
                            ("established", 1), ("diffie_hellman", 1)):
            expect_equal(account[name], count, f"{name} of {account}")


class Proxy:
    """Passes a connection's bytes on, HELLO with one of them changed."""

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


def case_suite_or_mode_changed_in_flight():
    """Security test 5. The client is our own too: neither end may find itself in a session."""
    for tokens in (False, True):
        with WanEcho(tokens=tokens) as server:
            changes = [(4, "aes", CHACHA), (4, "chacha", AES), (5, "aes", OPEN if tokens else TOKEN)]
            for at, suite, value in changes:
                proxy = Proxy(server, at, value)
                words = ["--token-file", server.tokens_file(1)] if tokens else []
                with Program("tp-dummy", "wan", "--connect", f"127.0.0.1:{proxy.port}", "--server-key",
                             server.public.hex(), "--connections", 1, "--suite", suite, "--json",
                             "--seconds", 0.1, *words) as dummy:
                    expect_equal(dummy.wait(), 1, f"exit code\n{dummy.said()}")
                    expect('"connects":0' in dummy.lines[-1] and "not_welcome" in dummy.lines[-1],
                           f"byte {at} changed to {value}: not welcome\n{dummy.said()}")
                proxy.join()
            account = server.finish()
            expect_equal(account["established"], 0, str(account))


# ---- what is wrong behind it -------------------------------------------------------------------------

def case_ready():
    """It comes first, alone or not, and once."""
    with WanEcho() as server:
        with server.player(greet=False) as player:
            player.write_bytes(player.hello.bytes)
            player.take_reply()
            player.write_frames(frame(b"no READY"))
            player.end()
            expect_equal(player.late, [], "answers without READY")
        with server.player() as player:
            ask(player, b"so far, so good")
            player.write_frames(frame(kind=READY))
            expect_equal(player.end(), PROTOCOL, "READY again")
        account = server.finish()
        expect_equal((account["established"], account["not_ready"]), (1, 1), str(account))


def misdeeds(server, suite):
    """Security test 3: a name, and what to do with the record for a message."""
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
                    ("a reflected record", lambda player: player.heard),
                    ("a stranger's record", lambda player: stranger))


def remember_records(player):
    """Has a message echoed, and keeps both records: player.first, player.heard."""
    player.first = player.sealing.seal(frame(b"hello"))
    player.write_bytes(player.first)
    head = player.read_bytes(2)
    player.heard = head + player.read_bytes(int.from_bytes(head, "little"))
    expect_equal(player.opening.open(player.heard[2:]), frame(b"hello"), "the echo")


def case_records_that_are_not_as_sent():
    with WanEcho() as server:
        count = 0
        for suite in SUITES:
            for name, spoil in misdeeds(server, suite):
                with server.player(suite) as player:
                    remember_records(player)
                    player.write_bytes(spoil(player))
                    player.write_bytes(player.sealing.seal(frame(b"and on")))
                    expect_silent_end(player, name)
                    count += 1
        expect_equal(server.finish()["tampered"], count, "counted")


def case_lengths():
    """Security test 7: the two bytes are enough."""
    with WanEcho() as server:
        for size in (0, 1, 16, PLAIN_MAX + 17, 65535):
            with server.player() as player:
                ask(player, b"hello")
                player.write_bytes(size.to_bytes(2, "little"))
                expect_silent_end(player, f"a record of {size} bytes")
        server.serves_the_simplest_client()
        server.finish()


def case_bad_frames():
    with WanEcho() as server:
        bad = [frame(kind=6), frame(kind=255), frame(b"1", CLOSE), frame(bytes(33), PING),
               (65537).to_bytes(4, "little")]  # no such frame needs to exist: its length is enough
        for wanted in bad:
            with server.player() as player:
                ask(player, b"hello")
                player.write_frames(wanted)
                expect_equal(player.end(), PROTOCOL, f"the reason for {wanted[:4].hex()}")
        server.serves_the_simplest_client()
        server.finish()


def case_another_server():
    """A client that knows another key: it must find out, and the server must not let it in."""
    with WanEcho() as server:
        with WanEcho() as other:
            with server.player() as player:
                ask(player, b"hello")
            try:
                Player(("127.0.0.1", server.port), other.public)
                raise Failed("it was welcome")
            except Ended:
                pass
            other.finish()
        expect_equal(server.finish()["not_authentic"], 1, "counted")


cases(globals())
