"""The simplest possible LAN client: blocking, one thread, no code shared with the core.

    simple_client.py HOST PORT

Connects, sends messages in every way that TCP may split them, and checks the echoes.
Exit code: 0 if all were right, else 1. May also be imported: echo_everything(host, port).
"""

import socket
import struct
import sys

DATA, PING, PONG, CLOSE = 0, 1, 2, 3
SECONDS = 30  # the time-out of one answer


def frame(payload, kind=DATA):
    return struct.pack("<I", len(payload) | kind << 24) + payload


def read_exactly(connection, count):
    parts = []
    while count > 0:
        part = connection.recv(min(count, 65536))
        if not part:
            raise ConnectionError("the server closed the connection")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_frame(connection):
    header, = struct.unpack("<I", read_exactly(connection, 4))
    return header >> 24, read_exactly(connection, header & 0xFFFFFF)


def read_message(connection):
    """The next DATA frame's payload; a PING in between is answered."""
    while True:
        kind, payload = read_frame(connection)
        if kind == DATA:
            return payload
        if kind == PING:
            connection.sendall(frame(payload, PONG))
        elif kind == CLOSE:
            raise ConnectionError(f"CLOSE, reason {struct.unpack('<H', payload[:2])[0]}")


def message(size, salt):
    return bytes((i * 7 + i // 251 + salt) % 256 for i in range(size))


def expect(connection, wanted):
    got = read_message(connection)
    if got != wanted:
        raise ValueError(f"an answer of {len(got)} bytes differs from the {len(wanted)} sent")


def one_by_one(connection):
    for salt, size in enumerate([0, 1, 2, 3, 4, 5, 64, 1400, 65535, 65536, 1 << 20]):
        connection.sendall(frame(message(size, salt)))
        expect(connection, message(size, salt))


def byte_by_byte(connection):
    for size in [0, 1, 30]:
        for byte in frame(message(size, size)):
            connection.sendall(bytes([byte]))
        expect(connection, message(size, size))


def many_in_one_write(connection):
    messages = [message(i % 100, i) for i in range(500)]
    connection.sendall(b"".join(frame(m) for m in messages))
    for wanted in messages:
        expect(connection, wanted)


def cut_across_frames(connection):
    """Pieces of 7 bytes, which rarely end where a frame ends."""
    messages = [message(i % 23, i) for i in range(60)]
    stream = b"".join(frame(m) for m in messages)
    for at in range(0, len(stream), 7):
        connection.sendall(stream[at:at + 7])
    for wanted in messages:
        expect(connection, wanted)


def ping(connection):
    for payload in [b"", b"x", bytes(range(32))]:
        connection.sendall(frame(payload, PING))
        kind, answer = read_frame(connection)
        if (kind, answer) != (PONG, payload):
            raise ValueError(f"a PING of {payload!r} was answered by type {kind}, {answer!r}")


def leave(connection):
    connection.sendall(frame(struct.pack("<H", 0), CLOSE))
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


STEPS = [one_by_one, byte_by_byte, many_in_one_write, cut_across_frames, ping, leave]


def echo_everything(host, port):
    with socket.create_connection((host, port), SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for step in STEPS:
            try:
                step(connection)
            except (OSError, ValueError) as wrong:
                print(f"simple_client: {step.__name__}: {wrong}", file=sys.stderr)
                return False
            print(f"simple_client: {step.__name__}: ok")
    return True


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("simple_client.py HOST PORT")
    sys.exit(0 if echo_everything(sys.argv[1], int(sys.argv[2])) else 1)
