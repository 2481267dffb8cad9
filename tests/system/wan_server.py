"""A WAN echo server in Python: a server for tp-dummy that shares no code with it. On request it does one thing
wrong.

    with EchoServer("corrupt") as server:
        ... f"127.0.0.1:{server.port}", server.public

Threads: one that accepts, one for each connection. All end with the block.
"""
import os
import socket
import struct
import threading

from wan_noise import Tampered, public_of  # first: skips the test where cryptography is missing
from wan_protocol import (BUSY, CLOSE, DATA, HELLO_SIZE, IDLE, OPEN, PAD, PING, PLAIN_MAX, PONG, PROTOCOL,
                          READY, TOKEN, VERSION, Ended, Stream, answer_hello, close_frame, frame)

LIMIT = 65536

# The faults: in each handshake, at every n-th message, with garbage, at the end.
HANDSHAKE = ("other-key", "change-reply", "busy", "version", "strange-status", "never-answer")
MESSAGES = ("corrupt", "drop", "reorder", "shorten", "duplicate", "hang-up", "ping")
RECORDS = ("tamper", "swap", "repeat", "lose", "reflect", "too-long", "too-short", "truncate")
GARBAGE = ("answer-garbage", "bear-garbage", "wrong-reason", "explain")
END = ("never-end",)
FAULTS = ("none", *HANDSHAKE, *MESSAGES, *RECORDS, *GARBAGE, *END)


class Bad(Exception):
    """A frame that every receiver has to refuse."""


class EchoServer:
    def __init__(self, fault="none", every=10, mode=OPEN, ring=None):
        assert fault in FAULTS, fault
        self.fault, self.every, self.mode, self.ring = fault, every, mode, ring
        self.private = os.urandom(32)
        self.public = public_of(self.private)
        self.messages = self.sessions = 0
        self.used = set()  # tokens
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.connections, self.threads = set(), []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        self.acceptor = threading.Thread(target=self.accept)
        self.acceptor.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the accepting thread
        self.acceptor.join()
        self.listener.close()
        with self.lock:
            for connection in self.connections:
                shut(connection)
        for thread in self.threads:
            thread.join()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            if self.stopping.is_set():
                connection.close()
                return
            with self.lock:
                self.connections.add(connection)
            thread = threading.Thread(target=self.serve, args=[connection])
            self.threads.append(thread)
            thread.start()

    def serve(self, connection):
        try:
            stream = Stream(connection)
            if self.shake_hands(stream):
                Session(self, stream).run()
        except (Ended, Tampered, OSError):
            pass  # silently, as the protocol requires
        finally:
            with self.lock:
                self.connections.discard(connection)
            connection.close()

    def is_due(self):
        """Whether the fault happens to this message."""
        with self.lock:
            self.messages += 1
            return self.messages % self.every == 0

    def shake_hands(self, stream):
        """From HELLO to READY. False: the client was refused."""
        hello = stream.read_bytes(8)
        if hello[:4] != b"TPW1" or hello[4] not in (1, 2) or hello[5] != self.mode or hello[6:] != b"\0\0":
            return False
        hello += stream.read_bytes(HELLO_SIZE[self.mode] - 8)
        with self.lock:
            self.sessions += 1
            number = self.sessions
            if self.mode == TOKEN and hello[20:36] in self.used:
                return False
            self.used.add(hello[20:36])
        reply, stream.sealing, stream.opening = answer_hello(
            hello, self.private, self.ring, LIMIT, number)
        stream.write_bytes(self.spoil_reply(reply))
        if stream.opening is None or self.fault == "never-answer":
            self.stopping.wait()
        return stream.read_frame() == (READY, b"")

    def spoil_reply(self, reply):
        return {"other-key": reply[:1] + os.urandom(64),
                "change-reply": reply[:-1] + bytes([reply[-1] ^ 1]),
                "busy": struct.pack("<BH", BUSY, 7),
                "version": struct.pack("<BB", VERSION, 3),
                "strange-status": bytes([9]) + reply[1:],
                "never-answer": b""}.get(self.fault, reply)


class Session:
    """One player's connection, from READY on."""

    def __init__(self, server, stream):
        self.server, self.stream, self.fault = server, stream, server.fault
        self.answers, self.held = [], b""
        self.ending = self.bearing = False
        self.due_record = False

    def run(self):
        while True:
            try:
                self.take_frames()  # some may have come together with READY
            except Bad:
                self.cut_garbage()
            self.flush()
            if self.ending:
                return
            try:
                self.stream.plain += self.stream.read_record()
            except Tampered:
                if self.fault == "explain":
                    self.stream.write_frames(close_frame(PROTOCOL))
                return

    def take_frames(self):
        while not self.ending and not self.bearing:
            plain = self.stream.plain
            if len(plain) < 4:
                return
            kind, size = plain[3], int.from_bytes(plain[:3], "little")
            if not allowed(kind, size):
                raise Bad
            if len(plain) < 4 + size:
                return
            self.stream.plain = plain[4 + size:]
            self.take_frame(kind, plain[4:4 + size])
        self.stream.plain = b""

    def take_frame(self, kind, payload):
        if kind == DATA:
            due = self.server.is_due()
            if due and self.fault in MESSAGES:
                self.answer_wrongly(payload)
                return
            self.due_record = self.due_record or due
            self.answers += [frame(payload), self.held]
            self.held = b""
        elif kind == PING:
            self.answers.append(frame(payload, PONG))
        elif kind == CLOSE:
            if self.fault == "never-end":
                self.server.stopping.wait()
            self.ending = True

    def answer_wrongly(self, payload):
        answer = frame(payload)
        if self.fault == "corrupt":
            self.answers.append(answer[:-1] + bytes([answer[-1] ^ 1]))
        elif self.fault == "reorder":
            self.held = answer
        elif self.fault == "shorten":
            self.answers.append(frame(payload[:-1]))
        elif self.fault == "duplicate":
            self.answers += [answer, answer]
        elif self.fault == "hang-up":
            self.ending = True
        elif self.fault == "ping":
            self.answers += [frame(b"abc", PING), answer]

    def cut_garbage(self):
        if self.fault == "bear-garbage":
            self.bearing = True
            return
        if self.fault == "answer-garbage":
            self.answers.append(frame(b"x"))
        self.answers.append(close_frame(IDLE if self.fault == "wrong-reason" else PROTOCOL))
        self.ending = True

    def flush(self):
        stream = b"".join(self.answers)
        self.answers = []
        if not stream:
            return
        sealing, due, self.due_record = self.stream.sealing, self.due_record, False
        if due and self.fault in RECORDS:
            self.stream.write_bytes(self.spoil(sealing, stream))
        else:
            self.stream.write_bytes(sealing.seal_all(stream))

    def spoil(self, sealing, stream):
        """The records of `stream`, with the fault in them."""
        half = max(1, len(stream) // 2)
        if self.fault == "swap":
            first, second = sealing.seal(stream[:half][:PLAIN_MAX]), sealing.seal(stream[half:][:PLAIN_MAX])
            return second + first
        if self.fault == "lose":
            sealing.seal(frame(b"", PAD))
            return sealing.seal_all(stream)
        record = sealing.seal(stream[:PLAIN_MAX])
        if self.fault == "tamper":
            return record[:-20] + bytes([record[-20] ^ 1]) + record[-19:]
        if self.fault == "repeat":
            return record + record
        if self.fault == "reflect":
            return self.stream.opening.seal(stream[:PLAIN_MAX])
        if self.fault == "too-long":
            return struct.pack("<H", 16401) + bytes(100)
        if self.fault == "too-short":
            return struct.pack("<H", 16) + bytes(16)
        self.ending = True  # truncate
        return record[:len(record) // 2]


def allowed(kind, size):
    if kind in (DATA, PAD):
        return size <= LIMIT
    return kind in (PING, PONG) and size <= 32 or kind == CLOSE and 2 <= size <= 66


def shut(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
