"""Both sides of the WAN protocol in Python, written from docs/wan-protocol.md alone: tokens, HELLO, REPLY,
records, and the frames inside them."""
import hashlib
import os
import socket
import struct
import time

from fixture import PATIENCE
from wan_noise import (AES, AESGCM, Cipher, InvalidTag, Noise, Tampered, hmac_sha256, public_of,
                       rekey)

OPEN, TOKEN = 0, 1  # modes
WELCOME, BUSY, VERSION = 0, 1, 2  # statuses of REPLY
DATA, PING, PONG, CLOSE, READY, PAD = range(6)  # frames
NORMAL, FULL, REPLACED, IDLE, AUTH, PROTOCOL, RATE, OVERLOAD, SHUTDOWN, KEY_LIMIT, KICKED = range(11)

HELLO_SIZE = {OPEN: 56, TOKEN: 212}
TOKEN_SIZE, MAC_SIZE, FIRST_SIZE = 140, 16, 48
REPLY_SIZE = {WELCOME: 65, BUSY: 3, VERSION: 2}
RECORD_MIN, RECORD_MAX, PLAIN_MAX = 17, 16400, 16384
REKEY_INTERVAL = 1 << 20


class Ended(Exception):
    """The stream ended, in order or by a reset, before the expected bytes."""


class Refused(Exception):
    """REPLY was no welcome; the arguments are its status and the number after it."""


class Closed(Exception):
    """CLOSE was received; the argument is its reason."""


# ---- tokens ------------------------------------------------------------------------------------

class Token:
    """A connect token with its secret S, as a login service gives it to a player's client."""

    def __init__(self, token, secret):
        self.bytes, self.secret = token, secret
        self.psk = hmac_sha256(secret, b"twinport psk v1")
        self.mac_key = hmac_sha256(secret, b"twinport mac1 v1")

    def text(self):
        """As tp-token prints it."""
        return f"{self.bytes.hex()}\n{self.secret.hex()}\n"


def box_of(ring_key, head, server_public):
    """The AEAD that seals a token, and its associated data."""
    return (AESGCM(hmac_sha256(ring_key, b"twinport token v1", head[12:28])),
            head + hashlib.sha256(server_public).digest())


def mint(ring_key, key_id, server_public, account=1, flags=0, user_data=b"", expiry=None):
    """A token for the gateway with that key, valid for ten minutes or until `expiry`."""
    expiry = int(time.time()) + 600 if expiry is None else expiry
    head = struct.pack("<B3xQ", key_id, expiry) + os.urandom(16)
    secret = os.urandom(32)
    box, data = box_of(ring_key, head, server_public)
    plain = struct.pack("<QII", account, flags, 0) + secret + user_data.ljust(48, b"\0")
    return Token(head + box.encrypt(bytes(12), plain, data), secret)


def open_token(ring, token, server_public):
    """For a server: the token with its secret, and the account."""
    head = token[:28]
    try:
        box, data = box_of(ring[head[0]], head, server_public)
        plain = box.decrypt(bytes(12), token[28:], data)
    except (KeyError, InvalidTag):
        raise Tampered("a token") from None
    return Token(token, plain[16:48]), struct.unpack("<Q", plain[:8])[0]


# ---- the handshake -----------------------------------------------------------------------------

class Terms:
    """The terms that the server sends in REPLY."""

    def __init__(self, payload):
        (self.minor_version, self.heartbeat_seconds, self.max_payload,
         self.session) = struct.unpack("<HHIQ", payload)


class Hello:
    """A HELLO, and the state that its answer needs."""

    def __init__(self, server_public, suite=AES, token=None, mode=None, magic=b"TPW1", zero=0):
        self.suite = suite
        mode = (TOKEN if token else OPEN) if mode is None else mode
        prologue = struct.pack("<4sBBH", magic, suite, mode, zero) + (token.bytes if token else b"")
        self.noise = Noise(suite, prologue, server_public, psk=token.psk if token else None)
        self.bytes = prologue + self.noise.write_first()
        if token:
            self.bytes += hmac_sha256(token.mac_key, self.bytes)[:MAC_SIZE]

    def keys(self, reply):
        """The terms in a REPLY, and the two directions of records: to the server, from the server."""
        if reply[0] != WELCOME:
            raise Refused(reply[0], int.from_bytes(reply[1:], "little"))
        terms = Terms(self.noise.read_second(reply[1:]))
        to_server, to_client = self.noise.split()
        return terms, Direction(self.suite, to_server), Direction(self.suite, to_client)


def answer_hello(hello, private, ring, max_payload=65536, session=1):
    """For a server: the REPLY to a HELLO, and the two directions of records: to the client, from the client."""
    server_public = public_of(private)
    suite, mode = hello[4], hello[5]
    first = len(hello) - FIRST_SIZE - (MAC_SIZE if mode == TOKEN else 0)
    psk = None
    if mode == TOKEN:
        token, _ = open_token(ring, hello[8:8 + TOKEN_SIZE], server_public)
        if hmac_sha256(token.mac_key, hello[:-MAC_SIZE])[:MAC_SIZE] != hello[-MAC_SIZE:]:
            raise Tampered("mac1")
        psk = token.psk
    noise = Noise(suite, hello[:first], server_public, private=private, psk=psk)
    noise.read_first(hello[first:first + FIRST_SIZE])
    reply = bytes([WELCOME]) + noise.write_second(struct.pack("<HHIQ", 0, 30, max_payload, session))
    to_server, to_client = noise.split()
    return reply, Direction(suite, to_client), Direction(suite, to_server)


# ---- records -----------------------------------------------------------------------------------

class Direction:
    """The records of one direction: a key and its counter."""

    def __init__(self, suite, key, counter=0):
        self.suite, self.key, self.counter = suite, key, counter
        self.cipher = Cipher(suite, key)

    def step(self):
        if self.counter and self.counter % REKEY_INTERVAL == 0:
            self.key = rekey(self.suite, self.key)
            self.cipher = Cipher(self.suite, self.key)
        self.counter += 1
        return self.counter - 1

    def seal(self, plain):
        """A whole record."""
        sealed = self.cipher.seal(self.step(), plain)
        return struct.pack("<H", len(sealed)) + sealed

    def seal_all(self, stream, most=PLAIN_MAX):
        """As many records as `stream` needs, with at most `most` bytes of it in each."""
        return b"".join(self.seal(stream[at:at + most]) for at in range(0, len(stream), most))

    def open(self, sealed):
        return self.cipher.open(self.step(), sealed)


# ---- frames ------------------------------------------------------------------------------------

def frame(payload=b"", kind=DATA):
    return struct.pack("<I", len(payload) | kind << 24) + payload


def close_frame(reason=NORMAL, text=b""):
    return frame(struct.pack("<H", reason) + text, CLOSE)


class Stream:
    """A TCP connection from which bytes, records and frames are read. With `sealing` and `opening` set, frames are
    inside records."""

    def __init__(self, connection):
        self.socket = connection
        self.sealing = self.opening = None
        self.plain = b""  # opened and not yet read as frames
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read_bytes(self, count):
        parts = []
        while count > 0:
            try:
                part = self.socket.recv(min(count, 65536))
            except ConnectionError:
                part = b""
            if not part:
                raise Ended("the stream ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def write_bytes(self, data):
        """Sends bytes unchanged. A broken connection is noticed by the next read."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            pass

    def read_record(self):
        size, = struct.unpack("<H", self.read_bytes(2))
        if not RECORD_MIN <= size <= RECORD_MAX:
            raise Tampered(f"a record of {size} bytes")
        return self.opening.open(self.read_bytes(size))

    def write_frames(self, *frames):
        self.write_bytes(self.sealing.seal_all(b"".join(frames)))

    def take_plain(self, count):
        while len(self.plain) < count:
            self.plain += self.read_record()
        taken, self.plain = self.plain[:count], self.plain[count:]
        return taken

    def read_frame(self):
        header, = struct.unpack("<I", self.take_plain(4))
        return header >> 24, self.take_plain(header & 0xFFFFFF)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
