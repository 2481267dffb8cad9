#!/usr/bin/python3
"""A WAN client, independent of the C code: a player for the tests, and a small tool.

    wan_client.py HOST:PORT SERVER-KEY [TOKEN SECRET]

Sends each line of its input as a message and prints each message that it receives: a client for tp-chat
or tp-echo. The key is the server's public one, 64 hexadecimal digits; token and
secret are what tp-token prints.
"""
import contextlib
import socket
import sys
import threading

from fixture import PATIENCE
from wan_noise import AES  # first: skips the test where cryptography is missing
from wan_protocol import (CLOSE, DATA, PING, PONG, READY, REPLY_SIZE, Closed, Ended, Hello, Stream,
                          Token, close_frame, frame)


class Player(Stream):
    """A connected client; with `log_in` it has also sent HELLO, received its welcome and sent READY."""

    def __init__(self, address, server_public, suite=AES, token=None, log_in=True, source=""):
        hello = Hello(server_public, suite, token)  # before it connects, because silent connections may be evicted
        try:
            connected = socket.create_connection(address, PATIENCE, source_address=(source, 0))
        except ConnectionResetError as reset:  # it was refused before it was established
            raise Ended("by a reset, immediately") from reset
        super().__init__(connected)
        self.hello, self.terms = hello, None
        self.late = []  # messages, or before the handshake bytes, received while end() waited
        if log_in:
            self.write_bytes(self.hello.bytes)
            self.take_reply()
            self.write_frames(frame(kind=READY))

    def read_reply(self):
        status = self.read_bytes(1)
        return status + self.read_bytes(REPLY_SIZE[status[0]] - 1)

    def take_reply(self):
        self.terms, self.sealing, self.opening = self.hello.keys(self.read_reply())

    def send(self, *messages):
        """Sends messages in as few records as they fit into."""
        self.write_frames(*[frame(message) for message in messages])

    def receive(self):
        """Receives the next message; answers a PING before it."""
        while True:
            kind, payload = self.read_frame()
            if kind == DATA:
                return payload
            if kind == PING:
                self.write_frames(frame(payload, PONG))
            elif kind == CLOSE:
                raise Closed(int.from_bytes(payload[:2], "little"))

    def leave(self):
        """Leaves in order: CLOSE, the end of the stream, and the server's end. Returns the server's reason."""
        self.write_frames(close_frame())
        self.socket.shutdown(socket.SHUT_WR)
        return self.end()

    def end(self):
        """Waits until the stream has ended. Returns the reason of the server's CLOSE, or None. After the
        handshake records are read, before it bytes. Closes after CLOSE, as a client does."""
        reason = None
        try:
            while True:
                if self.opening is None:
                    self.late.append(self.read_bytes(1))
                    continue
                kind, payload = self.read_frame()
                if kind == DATA:
                    self.late.append(payload)
                elif kind == CLOSE:
                    reason = int.from_bytes(payload[:2], "little")
                    with contextlib.suppress(OSError):  # the server may have closed it, too
                        self.socket.shutdown(socket.SHUT_WR)
        except Ended:
            return reason


def print_messages(player):
    try:
        while True:
            print(player.receive().decode("utf-8", "replace"), flush=True)
    except Closed as closed:
        print(f"(the server closed: reason {closed})")
    except (Ended, OSError):
        print("(the connection ended)")


def main(words):
    if len(words) not in (2, 4):
        sys.exit(__doc__)
    host, _, port = words[0].rpartition(":")
    token = Token(bytes.fromhex(words[2]), bytes.fromhex(words[3])) if words[2:] else None
    with Player((host.strip("[]"), int(port)), bytes.fromhex(words[1]), token=token) as player:
        player.socket.settimeout(None)
        listener = threading.Thread(target=print_messages, args=[player], daemon=True)
        listener.start()
        for line in sys.stdin:
            player.send(line.rstrip("\n").encode())
        player.write_frames(close_frame())
        player.socket.shutdown(socket.SHUT_WR)
        listener.join()


if __name__ == "__main__":
    main(sys.argv[1:])
