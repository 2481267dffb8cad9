"""tp-chat and guests who share no code with it: names, lines, comings and goings, and who does not behave."""
import os
import re

from stage import Program, cases, expect, expect_equal, run, system_path, write_file
from wan_client import Player
from wan_noise import CHACHA, public_of
from wan_protocol import PROTOCOL, RATE, SHUTDOWN, mint


class Chat(Program):
    """tp-chat, open to everybody, or with a key ring for those who have a token."""

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
        expect_equal(self.wait(), 0, f"exit code\n{self.said()}")
        expect_equal(self.errors, [], "errors")


def hears(guest, wanted):
    got = guest.hear().decode()
    expect(re.fullmatch(wanted, got), f"'{got}' is heard, '{wanted}' expected")


def is_asked(guest):
    """He has joined: from here on he hears what is said."""
    hears(guest, r"\* Welcome\. What is your name\?")


def case_a_conversation():
    with Chat() as chat, chat.guest() as ann, chat.guest(suite=CHACHA) as bob:
        is_asked(ann)
        is_asked(bob)
        ann.say(b"Ann")
        for guest in (ann, bob):
            hears(guest, r"\* Ann is here, one of 2")
        bob.say("Bob Müller".encode())
        for guest in (ann, bob):
            hears(guest, r"\* Bob Müller is here, one of 2")
        ann.say(b"Hello, Bob")
        bob.say(b"Hello, Ann", b"and goodbye")
        heard = [sorted(guest.hear().decode() for _ in range(3)) for guest in (ann, bob)]
        expect_equal(heard, 2 * [["Ann: Hello, Bob", "Bob Müller: Hello, Ann", "Bob Müller: and goodbye"]],
                     "what both hear")
        expect_equal(bob.leave(), None, "the reason given to who leaves")
        hears(ann, r"\* Bob Müller has left")
        chat.interrupt()
        expect_equal(ann.end(), SHUTDOWN, "the reason at the end")
        ann.close()
        expect_equal(chat.wait(), 0, f"exit code\n{chat.said()}")


def case_names_from_tokens():
    with Chat(tokens=True) as chat:
        with chat.guest(chat.token(b"Ann", 1)) as ann:
            hears(ann, r"\* Ann is here, one of 1")
            with chat.guest(chat.token(b"", 4711)) as nobody:
                hears(nobody, r"\* #4711 is here, one of 2")
                hears(ann, r"\* #4711 is here, one of 2")
                nobody.say(b"I have no name")
                hears(ann, "#4711: I have no name")
                nobody.leave()
            ann.leave()
        chat.finish()


def case_what_is_no_text():
    with Chat() as chat, chat.guest() as guest:
        is_asked(guest)
        guest.say(b"\x1b[2J")
        hears(guest, r"\* A name is text .* What is yours\?")
        guest.say(b"x" * 25)
        hears(guest, r"\* A name is text .* What is yours\?")
        guest.say(b"Ann")
        hears(guest, r"\* Ann is here, one of 1")
        for line in (b"", b"a\nb", b"x" * 401):
            guest.say(line)
            hears(guest, r"\* Only text, please, of 1 to 400 bytes\.")
        guest.say(b"100 %s %n")
        hears(guest, "Ann: 100 %s %n")
        guest.say(b"x" * 801)
        expect_equal(guest.end(), PROTOCOL, "the reason given to who says more than the limit")
        guest.close()
        chat.finish()


def case_who_talks_too_much():
    with Chat() as chat, chat.guest() as ann, chat.guest() as bob:
        is_asked(ann)
        is_asked(bob)
        ann.say(b"Ann")
        hears(ann, r"\* Ann is here, one of 2")
        bob.say(b"Bob", *[b"blah"] * 2000)  # 400 seconds' worth
        expect_equal(bob.end(), RATE, "the reason")
        bob.close()
        while ann.hear() != b"* Bob has left":
            pass
        ann.say(b"At last")
        hears(ann, "Ann: At last")
        ann.leave()
        chat.finish()


def case_key_files_with_comments():
    private, ring_key = os.urandom(32), os.urandom(32)
    remark = "# " + 400 * "x"
    key = write_file(f"{remark}\n\t{private.hex()} {remark}\r\n", ".key")
    ring = write_file(f"{remark}\n  7\t{ring_key.hex()}  {remark}\n{remark}", ".ring")
    with Program("tp-chat", "--port", 0, "--key", system_path(key), "--key-ring", system_path(ring)) as chat:
        port = int(chat.wait_for(r"^listening on 127\.0\.0\.1:(\d+)$").group(1))
        public = public_of(private)
        with Player(("127.0.0.1", port), public, token=mint(ring_key, 7, public, user_data=b"Ann")) as ann:
            hears(ann, r"\* Ann is here, one of 1")
            ann.leave()
        chat.interrupt()
        expect_equal(chat.wait(), 0, f"exit code\n{chat.said()}")


def case_ports_that_are_none():
    key = system_path(write_file(os.urandom(32).hex() + "\n", ".key"))
    for port in ("70000", "-1", "70x", ""):
        program = run("tp-chat", "--port", port, "--key", key)
        expect_equal(program.code, 2, f"exit code for port '{port}'\n{program.said()}")


cases(globals())
