"""A client of the bus, written from docs/bus-protocol.md alone: blocking, one thread, no code shared
with lanclient. It acknowledges messages only when the test calls ack()."""
import select
import socket
import struct
import time

from fixture import PATIENCE

DATA, PING, PONG, CLOSE, PAD = 0, 1, 2, 3, 5
HELLO, WELCOME, PEER_UP, PEER_DOWN, ACK, SEND, ANY, ALL, REQUEST, REPLY, ERROR = range(1, 12)
ACK_VALID, TO_SERVICE, KEYED = 1, 2, 4


def service_hash(name):
    value = 2166136261
    for byte in name.encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


def text16(text):
    return struct.pack("<H", len(text)) + text.encode()


class Message:
    def __init__(self, payload):
        (self.kind, self.flags, self.key, self.source, self.destination,
         self.correlation) = struct.unpack_from("<BBHIII", payload)
        self.body = payload[16:]


class Closed(Exception):
    """The connection has ended; `reason` is that of the CLOSE frame, or None."""

    def __init__(self, reason):
        super().__init__(f"closed, reason {reason}")
        self.reason = reason


class BusClient:
    open = []  # connections not closed yet

    def __init__(self, port, service=None, instance="test", timeout=PATIENCE):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = port
        BusClient.open.append(self)
        self.timeout = timeout
        self.bytes = b""
        self.correlation = 0  # of the last message sent
        self.handled = 0      # messages received from others, which ack() acknowledges
        self.confirmed = 0    # the count in the last message sent
        self.taken = 0        # own messages that the hub has accepted
        self.peers = {}       # id: (service, instance)
        self.down = {}        # id: reason
        if service is not None:
            self.hello(service, instance)

    # ---- frames

    def frame(self, kind, payload=b""):
        self.socket.sendall(struct.pack("<I", len(payload) | kind << 24) + payload)

    def read(self, count):
        while len(self.bytes) < count:
            more = self.socket.recv(65536)
            if not more:
                raise Closed(None)
            self.bytes += more
        taken, self.bytes = self.bytes[:count], self.bytes[count:]
        return taken

    def frame_in(self):
        """The payload of the next DATA frame. PING is answered, PONG and PAD are skipped."""
        while True:
            header, = struct.unpack("<I", self.read(4))
            kind, payload = header >> 24, self.read(header & 0xFFFFFF)
            if kind == DATA:
                return payload
            if kind == PING:
                self.frame(PONG, payload)
            elif kind == CLOSE:
                raise Closed(struct.unpack_from("<H", payload)[0])

    # ---- messages

    def message(self, kind, destination=0, body=b"", flags=0, key=0, correlation=None):
        """Sends a message and returns its correlation."""
        if correlation is None:
            self.correlation += 1
            correlation = self.correlation
        self.frame(DATA, struct.pack("<BBHIII", kind, flags, key, self.confirmed, destination,
                                     correlation) + body)
        return correlation

    def ack(self):
        """Acknowledges all messages received so far."""
        self.confirmed = self.handled
        self.message(ACK, correlation=0)

    def hello(self, service, instance="test", version=1, largest=1 << 20):
        self.message(HELLO, 0, struct.pack("<HHI", version, 0, largest) + text16(service) +
                     text16(instance), correlation=0)
        answer = self.next(peers=True)
        if answer.kind != WELCOME:
            raise Closed(answer.key)
        (self.version, _, self.id, self.hub, self.largest, self.unconfirmed, self.ack_messages,
         self.ack_ms, self.heartbeat, self.idle, count) = struct.unpack("<HHIQIIIIIII", answer.body)
        for _ in range(count):
            self.note(self.next(peers=True))

    def note(self, message):
        """Records a PEER_UP or PEER_DOWN."""
        peer, = struct.unpack_from("<I", message.body)
        if message.kind == PEER_DOWN:
            self.down[peer] = struct.unpack_from("<H", message.body, 4)[0]
            self.peers.pop(peer, None)
            return
        length, = struct.unpack_from("<H", message.body, 4)
        rest = message.body[6 + length:]
        self.peers[peer] = (message.body[6:6 + length].decode(), rest[2:].decode())

    def next(self, peers=False, acks=False):
        """The next message. PEER_UP, PEER_DOWN and ACK are recorded, and returned only on request."""
        while True:
            message = Message(self.frame_in())
            if message.flags & ACK_VALID:
                self.taken = message.destination
            if message.kind >= SEND and message.source != 0:
                self.handled = (self.handled + 1) & 0xFFFFFFFF
            if message.kind in (PEER_UP, PEER_DOWN) and not peers:
                self.note(message)
            elif message.kind != ACK or acks:
                return message

    def error(self):
        """The next message, which must be an ERROR: (correlation, reason, peer, destination, kind)."""
        message = self.next()
        assert message.kind == ERROR and message.source == 0, message.kind
        return (message.correlation, message.key) + struct.unpack_from("<IIB", message.body)

    def quiet(self, seconds):
        """Whether no message comes for `seconds`."""
        return not self.bytes and not select.select([self.socket], [], [], seconds)[0]

    def stats(self):
        asked = self.message(REQUEST, 0, b"stats")
        while True:
            message = self.next()
            if message.kind == REPLY and message.correlation == asked:
                lines = message.body.decode().split()
                return {name: int(value) for name, value in (line.split("=") for line in lines)}

    def closed(self):
        """Reads to the end and closes. Returns the reason of the CLOSE frame, or None."""
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            try:
                self.frame_in()
            except Closed as why:
                self.close()
                return why.reason
            except ConnectionResetError:
                self.close()
                return None
        raise TimeoutError("the connection does not end")

    def close(self):
        self.socket.close()
        if self in BusClient.open:
            BusClient.open.remove(self)
