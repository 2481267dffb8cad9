"""The part of the Noise Protocol Framework, revision 34, that docs/wan-protocol.md uses: NK and NKpsk0 with
X25519 and SHA-256. Written from the two documents with python3-cryptography; no code is shared with the
implementation under test.

Where that package is missing, importing this module skips the whole test (exit code 77).
"""
import hashlib
import hmac
import struct
import sys

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    print("SKIPPED: this Python has no python3-cryptography")
    sys.exit(77)

AES, CHACHA = 1, 2  # suites, as in HELLO
SUITES = (AES, CHACHA)
TAG = 16
LAST_NONCE = 2**64 - 1


class Tampered(Exception):
    """A message does not open: it was changed, or made without the key."""


def hmac_sha256(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def public_of(private):
    key = private if isinstance(private, X25519PrivateKey) else load_private(private)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def load_private(private):
    return X25519PrivateKey.from_private_bytes(private)


def hkdf(chaining_key, material, count):
    secret = hmac_sha256(chaining_key, material)
    outputs, last = [], b""
    for number in range(1, count + 1):
        last = hmac_sha256(secret, last, bytes([number]))
        outputs.append(last)
    return outputs


class Cipher:
    """One key of a suite, used with a counter in place of a nonce."""

    def __init__(self, suite, key):
        self.suite = suite
        self.aead = AESGCM(key) if suite == AES else ChaCha20Poly1305(key)

    def nonce(self, number):
        return bytes(4) + struct.pack(">Q" if self.suite == AES else "<Q", number)

    def seal(self, number, plain, data=b""):
        return self.aead.encrypt(self.nonce(number), plain, data)

    def open(self, number, sealed, data=b""):
        try:
            return self.aead.decrypt(self.nonce(number), sealed, data)
        except InvalidTag:
            raise Tampered("an AEAD does not open") from None


def rekey(suite, key):
    return Cipher(suite, key).seal(LAST_NONCE, bytes(32))[:32]


class Noise:
    """One handshake: the initiator's side, or with `private` the responder's."""

    def __init__(self, suite, prologue, server_public, private=None, psk=None):
        self.suite, self.psk = suite, psk
        self.static = load_private(private) if private else None
        self.server_public = server_public
        self.ephemeral = X25519PrivateKey.generate()
        self.cipher = None
        cipher = "AESGCM" if suite == AES else "ChaChaPoly"
        name = f"Noise_NK{'psk0' if psk else ''}_25519_{cipher}_SHA256".encode()
        self.hash = name.ljust(32, b"\0") if len(name) <= 32 else hashlib.sha256(name).digest()
        self.chaining_key = self.hash
        self.mix_hash(prologue)
        self.mix_hash(server_public)

    def mix_hash(self, data):
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material):
        self.chaining_key, key = hkdf(self.chaining_key, material, 2)
        self.cipher, self.number = Cipher(self.suite, key), 0

    def mix_psk(self):
        self.chaining_key, to_hash, key = hkdf(self.chaining_key, self.psk, 3)
        self.mix_hash(to_hash)
        self.cipher, self.number = Cipher(self.suite, key), 0

    def mix_ephemeral(self, public):
        self.mix_hash(public)
        if self.psk:
            self.mix_key(public)

    def mix_shared(self, private, public):
        try:
            self.mix_key(private.exchange(X25519PublicKey.from_public_bytes(public)))
        except ValueError:
            raise Tampered("a key that X25519 refuses") from None

    def seal_and_mix(self, plain):
        sealed = self.cipher.seal(self.number, plain, self.hash)
        self.number += 1
        self.mix_hash(sealed)
        return sealed

    def open_and_mix(self, sealed):
        plain = self.cipher.open(self.number, sealed, self.hash)
        self.number += 1
        self.mix_hash(sealed)
        return plain

    def write_first(self, payload=b""):
        """-> [psk] e, es"""
        if self.psk:
            self.mix_psk()
        mine = public_of(self.ephemeral)
        self.mix_ephemeral(mine)
        self.mix_shared(self.ephemeral, self.server_public)
        return mine + self.seal_and_mix(payload)

    def read_first(self, message):
        if self.psk:
            self.mix_psk()
        self.theirs = message[:32]
        self.mix_ephemeral(self.theirs)
        self.mix_shared(self.static, self.theirs)
        return self.open_and_mix(message[32:])

    def write_second(self, payload=b""):
        """<- e, ee"""
        mine = public_of(self.ephemeral)
        self.mix_ephemeral(mine)
        self.mix_shared(self.ephemeral, self.theirs)
        return mine + self.seal_and_mix(payload)

    def read_second(self, message):
        self.mix_ephemeral(message[:32])
        self.mix_shared(self.ephemeral, message[:32])
        return self.open_and_mix(message[32:])

    def split(self):
        """The keys towards the responder, and towards the initiator."""
        return hkdf(self.chaining_key, b"", 2)
