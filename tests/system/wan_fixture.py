"""For the system tests of the WAN: tp-echo with new random keys for each server."""
import os
import re

from echo_server import Echo
from fixture import Program, expect, expect_equal, system_path, write_file
from wan_client import Player
from wan_noise import AES, SUITES, public_of
from wan_protocol import mint


class WanEcho(Echo):
    """A running tp-echo wan, with tokens or in mode open. Options are those of its command line."""

    def __init__(self, workers=2, backend="auto", tokens=False, **options):
        private = os.urandom(32)
        self.public = public_of(private)
        self.key_id, self.ring_key = os.urandom(1)[0], os.urandom(32)
        words = ["wan", "--key", system_path(write_file(private.hex() + "\n", ".key")),
                 "--auth", "token" if tokens else "open"]
        if tokens:
            ring = f"# a ring\n{self.key_id} {self.ring_key.hex()}\n"
            words += ["--key-ring", system_path(write_file(ring, ".ring"))]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", value]
        self.tokens = tokens
        super().__init__(workers, backend, words)
        self.reach = ("wan", "--connect", self.address, "--server-key", self.public.hex())

    def mint(self, **wanted):
        """A token for this server, unless `wanted` makes it wrong or one for another server."""
        whole = {"ring_key": self.ring_key, "key_id": self.key_id, "server_public": self.public}
        return mint(**{**whole, **wanted})

    def tokens_file(self, count):
        """A file for a dummy's --token-file."""
        text = "".join(self.mint(account=number).text() for number in range(count))
        return system_path(write_file(text, ".tokens"))

    def player(self, suite=AES, token=None, **options):
        token = token or (self.mint() if self.tokens else None)
        return Player(("127.0.0.1", self.port), self.public, suite, token, **options)

    def serves_the_simplest_client(self):
        for suite in SUITES:
            with self.player(suite) as player:
                player.send(b"to be, or not to be")
                expect_equal(player.receive(), b"to be, or not to be", "an echo")
                player.leave()

    def finish(self, ask=Program.interrupt, errors=(), lines=2):
        """Stops it: it must end in order. Returns its statistics."""
        super().finish(ask, errors, lines)
        numbers = re.findall(r" (\w+)=(\d+)", self.wait_for("^statistics: ").string)
        expect(numbers, "numbers in the account")
        return {name: int(value) for name, value in numbers}
