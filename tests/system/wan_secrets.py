"""Secrets in the memory of the program wanserver, which is searched from outside for every secret of a login.
While the player is connected, the keys are in the ciphers and nowhere else; afterwards no secret is left.

A new process for each case, so that each function is called for the first time: a dynamic linker that binds
late then saves the vector registers to the calling thread's stack.
"""
import os
import re

import wan_noise
from fixture import WINDOWS, Failed, cases, expect, expect_equal, skip, until
from wan_noise import AES, CHACHA
from wanserver_fixture import Gate, GatePlayer

SIZE = 32  # bytes of a secret
PIECE = 8  # bytes of it that are searched for: two of ChaCha20's words, half of a vector register
TOO_LARGE = 1 << 32  # a sanitizer's shadow, not a heap

# libcrypto without vector registers and without cipher instructions.
SCALAR = "0:0"


class Secrets:
    """Collects the secrets that the client's side of a handshake computes: the server computes the same."""

    def __init__(self):
        self.found = {}

    def __enter__(self):
        self.hkdf, self.mix_shared = wan_noise.hkdf, wan_noise.Noise.mix_shared
        wan_noise.hkdf = self.watch_hkdf
        wan_noise.Noise.mix_shared = lambda noise, *keys: self.watch_shared(noise, *keys)
        return self

    def __exit__(self, *_):
        wan_noise.hkdf, wan_noise.Noise.mix_shared = self.hkdf, self.mix_shared

    def watch_hkdf(self, chaining_key, material, count):
        outputs = self.hkdf(chaining_key, material, count)
        for number, output in enumerate(outputs):
            self.found[f"key derivation {len(self.found)}, output {number}"] = output
        return outputs

    def watch_shared(self, noise, private, public):
        shared = private.exchange(wan_noise.X25519PublicKey.from_public_bytes(public))
        self.found[f"shared secret {len(self.found)}"] = shared
        self.mix_shared(noise, private, public)


def memory_of(pid):
    """Every writable mapping of a process, with its name, without the zeros at its ends."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, \
            open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw..", line)
            if not match:
                continue
            first, end = (int(part, 16) for part in match.groups())
            if end - first > TOO_LARGE:
                skip("a sanitizer's process")
            try:
                memory.seek(first)
                content = memory.read(end - first)
            except (OSError, OverflowError, ValueError):
                continue  # not even readable for the process itself
            yield line.strip(), content.strip(b"\0")


def traces(gate, secrets):
    """The pieces of secrets in the gate's memory, once for each occurrence."""
    pieces = {secret[at:at + PIECE]: name for name, secret in secrets.items()
              for at in range(0, SIZE, PIECE)}
    return sorted(f"{name} in {where}" for where, content in memory_of(gate.process.pid) if content
                  for piece, name in pieces.items() for _ in range(content.count(piece)))


def search(suite):
    """Searches while one player is connected, and after it has left."""
    if WINDOWS:
        skip("not possible under Wine")
    with Secrets() as secrets, Gate("workers = 1") as gate:
        token = gate.mint()
        player = GatePlayer(gate.address, gate.public, suite, token)
        secrets.found.update({"S": token.secret, "psk": token.psk, "mac1's key": token.mac_key})
        expect(player.is_answered(), "the player is in")
        keys = [player.sealing.key, player.opening.key]
        try:
            alive = traces(gate, secrets.found)
        except PermissionError:
            skip("may not read another process's memory")
        in_use = {name for name, secret in secrets.found.items() if secret in keys}
        expect_equal({trace.split(" in ")[0] for trace in alive}, in_use, "secrets in use")
        expect_equal(len(alive), len(keys) * SIZE // PIECE,
                     "pieces of keys, each in one place\n" + "\n".join(alive))
        player.leave()
        player.close()
        until(lambda: not gate.connections(), "the player's descriptor is closed")
        left = []

        def nothing_is_left():
            left[:] = traces(gate, secrets.found)  # its worker may still be at it
            return not left

        try:
            until(nothing_is_left, "nothing is left")
        except Failed:
            expect_equal(left, [], "secrets that are left")
        gate.finish()


def search_scalar(suite):
    os.environ["OPENSSL_ia32cap"] = SCALAR
    try:
        search(suite)
    finally:
        del os.environ["OPENSSL_ia32cap"]


def case_nothing_stays_with_aes():
    search(AES)


def case_nothing_stays_with_chacha():
    search(CHACHA)


def case_nothing_stays_with_scalar_aes():
    search_scalar(AES)


def case_nothing_stays_with_scalar_chacha():
    search_scalar(CHACHA)


cases(globals())
