"""tp-chat with clients that share no code with it: names, lines, joins and leaves, and misbehaving guests."""
import os
import re

from fixture import Program, cases, expect, expect_equal, run, system_path, write_file
from wan_client import Player
from wan_noise import CHACHA, public_of
from wan_protocol import PROTOCOL, RATE, SHUTDOWN, mint


class Chat(Program):
    """tp-chat, in mode open, or with a key ring for guests with tokens."""

    def __init__(self, tokens=False):
        private = os.urandom(32)
        self.public, self.ring_key = public_of(private), os.urandom(32)
        words = ["--port", 0, "--key", system_path(write_file(private.hex() + "\n", ".key"))]
        if tokens:
            words += ["--key-ring", system_path(write_file(f"7 {self.ring_key.hex()}\n", ".ring"))]
        super().__init__("tp-chat", *words)
        self.port = int(self.wait_for(r"^listening on 127\.0\.0\.1:(\d+)$").group(1))

    def guest(self, token=None, **options):
        return Player(("127.0.0.1", self.port), self.public, token=token, **options)

    def token(self, name, account):
        return mint(self.ring_key, 7, self.public, account=account, user_data=name)

    def finish(self):
        self.interrupt()
        expect_equal(self.wait(), 0, f"exit code\n{self.output()}")
        expect_equal(self.errors, [], "errors")


def expect_line(guest, wanted):
    got = guest.receive().decode()
    expect(re.fullmatch(wanted, got), f"'{got}' received, '{wanted}' expected")


def await_welcome(guest):
    """Waits until the guest has joined: from here on it receives the lines of the others."""
    expect_line(guest, r"\* Welcome\. What is your name\?")


def case_guests_receive_each_others_lines():
    with Chat() as chat, chat.guest() as ann, chat.guest(suite=CHACHA) as bob:
        await_welcome(ann)
        await_welcome(bob)
        ann.send(b"Ann")
        for guest in (ann, bob):
            expect_line(guest, r"\* Ann has joined \(2 online\)")
        bob.send("Bob Müller".encode())
        for guest in (ann, bob):
            expect_line(guest, r"\* Bob Müller has joined \(2 online\)")
        ann.send(b"Hello, Bob")
        bob.send(b"Hello, Ann", b"and goodbye")
        received = [sorted(guest.receive().decode() for _ in range(3)) for guest in (ann, bob)]
        expect_equal(received, 2 * [["Ann: Hello, Bob", "Bob Müller: Hello, Ann", "Bob Müller: and goodbye"]],
                     "what both receive")
        expect_equal(bob.leave(), None, "the reason for a guest that leaves")
        expect_line(ann, r"\* Bob Müller has left")
        chat.interrupt()
        expect_equal(ann.end(), SHUTDOWN, "the reason at the end")
        ann.close()
        expect_equal(chat.wait(), 0, f"exit code\n{chat.output()}")


def case_names_come_from_tokens():
    with Chat(tokens=True) as chat:
        with chat.guest(chat.token(b"Ann", 1)) as ann:
            expect_line(ann, r"\* Ann has joined \(1 online\)")
            with chat.guest(chat.token(b"", 4711)) as nobody:
                expect_line(nobody, r"\* #4711 has joined \(2 online\)")
                expect_line(ann, r"\* #4711 has joined \(2 online\)")
                nobody.send(b"I have no name")
                expect_line(ann, "#4711: I have no name")
                nobody.leave()
            ann.leave()
        chat.finish()


def case_invalid_text_is_refused():
    with Chat() as chat, chat.guest() as guest:
        await_welcome(guest)
        guest.send(b"\x1b[2J")
        expect_line(guest, r"\* A name is text .* What is yours\?")
        guest.send(b"x" * 25)
        expect_line(guest, r"\* A name is text .* What is yours\?")
        guest.send(b"Ann")
        expect_line(guest, r"\* Ann has joined \(1 online\)")
        for line in (b"", b"a\nb", b"x" * 401):
            guest.send(line)
            expect_line(guest, r"\* Only text, please, of 1 to 400 bytes\.")
        guest.send(b"100 %s %n")
        expect_line(guest, "Ann: 100 %s %n")
        guest.send(b"x" * 801)
        expect_equal(guest.end(), PROTOCOL, "the reason for a message above the limit")
        guest.close()
        chat.finish()


def case_a_guest_that_sends_too_much_is_ended():
    with Chat() as chat, chat.guest() as ann, chat.guest() as bob:
        await_welcome(ann)
        await_welcome(bob)
        ann.send(b"Ann")
        expect_line(ann, r"\* Ann has joined \(2 online\)")
        bob.send(b"Bob", *[b"blah"] * 2000)  # 400 seconds' worth
        expect_equal(bob.end(), RATE, "the reason")
        bob.close()
        while ann.receive() != b"* Bob has left":
            pass
        ann.send(b"At last")
        expect_line(ann, "Ann: At last")
        ann.leave()
        chat.finish()


def case_key_files_may_have_comments():
    private, ring_key = os.urandom(32), os.urandom(32)
    remark = "# " + 400 * "x"
    key = write_file(f"{remark}\n\t{private.hex()} {remark}\r\n", ".key")
    ring = write_file(f"{remark}\n  7\t{ring_key.hex()}  {remark}\n{remark}", ".ring")
    with Program("tp-chat", "--port", 0, "--key", system_path(key), "--key-ring", system_path(ring)) as chat:
        port = int(chat.wait_for(r"^listening on 127\.0\.0\.1:(\d+)$").group(1))
        public = public_of(private)
        with Player(("127.0.0.1", port), public, token=mint(ring_key, 7, public, user_data=b"Ann")) as ann:
            expect_line(ann, r"\* Ann has joined \(1 online\)")
            ann.leave()
        chat.interrupt()
        expect_equal(chat.wait(), 0, f"exit code\n{chat.output()}")


def case_invalid_ports_are_refused():
    key = system_path(write_file(os.urandom(32).hex() + "\n", ".key"))
    for port in ("70000", "-1", "70x", ""):
        program = run("tp-chat", "--port", port, "--key", key)
        expect_equal(program.code, 2, f"exit code for port '{port}'\n{program.output()}")


cases(globals())
