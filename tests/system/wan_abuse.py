"""tp-echo on the WAN with hostile clients: those of the LAN tests, and those of the WAN alone: connections that
send no HELLO, and forged HELLOs."""
import os
import resource
import select
import socket
import time

from echo_abuse import GARBAGE, HALF_OPEN, LARGE, RESET, SLOW, STORM, check_beside
from echo_server import Load, each_server
from fixture import EMULATOR, FACTOR, PATIENCE, cases, expect, expect_equal, until
from wan_noise import AES, SUITES
from wan_protocol import RATE, Ended, Hello
from wan_fixture import WanEcho

PLAIN = FACTOR == 1 and not EMULATOR  # neither sanitizers nor Wine: with the full numbers
MIB = 1 << 20


def scaled(number):
    return number if PLAIN else number // 10


# ---- those of the LAN ---------------------------------------------------------------------------------

# Long, so that a stall of the machine does not end half-open connections: another case tests that.
PATIENT = {"handshake_timeout": 600000}


def check_beside_in_turn(hostile):
    with WanEcho(**PATIENT) as server:
        check_beside(server, hostile)
        server.finish()


def case_a_storm_does_not_affect_others():
    check_beside_in_turn(STORM)


def case_slow_readers_do_not_affect_others():
    check_beside_in_turn(SLOW)


def case_garbage_does_not_affect_others():
    check_beside_in_turn(GARBAGE)


def case_half_open_connections_do_not_affect_others():
    check_beside_in_turn(HALF_OPEN)


def case_resets_do_not_affect_others():
    check_beside_in_turn(RESET)


def case_all_hostile_loads_together_do_not_affect_others():
    for server in each_server(lambda workers, backend: WanEcho(workers, backend, **PATIENT)):
        check_beside(server, STORM, SLOW, GARBAGE, HALF_OPEN, RESET, LARGE)
        server.finish()


# ---- security test 8: sockets that do not say HELLO -----------------------------------------------------

PENDING = 1024 if PLAIN else 128
FLOOD = scaled(5000)
LOGINS = scaled(100)
DEADLINE_MS = int(5000 * FACTOR)
PER_ADDRESS = 40  # below the server's limit for one address
KIB_EACH = 4      # of the server's memory for one connection, its part of the tables included


class Flood:
    """Connections from many addresses: every other one is silent, the rest send a byte of HELLO each second."""

    def __init__(self, server):
        self.server = server
        self.hello = Hello(server.public).bytes
        self.sockets = {}  # by descriptor: socket, when it connected, bytes sent
        self.poll = select.poll()
        self.opened = 0
        self.longest = 0.0
        self.told = time.monotonic()

    def open_some(self, count):
        for _ in range(count):
            self.opened += 1
            address = self.opened // PER_ADDRESS
            source = (f"127.1.{address // 250}.{address % 250 + 1}", 0)
            try:
                one = socket.create_connection(("127.0.0.1", self.server.port), PATIENCE, source)
            except ConnectionError:
                continue  # refused immediately
            self.sockets[one.fileno()] = [one, time.monotonic(), 0]
            self.poll.register(one, select.POLLIN)

    def speak(self):
        """A byte each second from half of them."""
        if time.monotonic() < self.told + 1:
            return
        self.told = time.monotonic()
        for descriptor, entry in self.sockets.items():
            if descriptor % 2 and entry[2] < len(self.hello) - 1:
                try:
                    entry[0].send(self.hello[entry[2]:entry[2] + 1])
                except OSError:
                    pass  # it is closed: forget_closed() removes it
                entry[2] += 1

    def forget_closed(self):
        for descriptor, _ in self.poll.poll(0):
            one, began, _ = self.sockets.pop(descriptor)
            self.poll.unregister(descriptor)
            self.longest = max(self.longest, time.monotonic() - began)
            try:
                expect_equal(one.recv(1), b"", "the answer to a silent connection")
            except ConnectionError:
                pass
            one.close()

    def all_are_gone(self):
        self.speak()
        self.forget_closed()
        return not self.sockets


def log_in(server, number):
    """Whether a genuine player from an address of its own is admitted and answered."""
    try:
        with server.player(SUITES[number % 2], source=f"127.2.0.{number % 250 + 1}") as player:
            player.send(b"honest")
            return player.receive() == b"honest" and player.leave() is None
    except (Ended, OSError):
        return False


def memory(server):
    """Resident size in bytes; None where a sanitizer or Wine adds to it."""
    if not PLAIN:
        return None
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def raise_descriptor_limit(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def case_silent_connections_do_not_keep_players_out():
    """5,000 such connections, and 100 genuine players in between."""
    count = min(FLOOD, raise_descriptor_limit(FLOOD + 500) - 500)
    with WanEcho(limits="on", pending=PENDING, handshake_timeout=DEADLINE_MS) as server:
        before = server.descriptors()
        expect(log_in(server, 0), "a login before the flood")
        memory_before = memory(server)
        flood, welcome, most, memory_most = Flood(server), 0, 0, 0
        for number in range(LOGINS):
            flood.open_some(count // LOGINS)
            welcome += log_in(server, number)
            flood.speak()
            flood.forget_closed()
            if before is not None:
                most = max(most, server.descriptors() - before)
                memory_most = max(memory_most, (memory(server) or 0) - (memory_before or 0))
        stayed = len(flood.sockets)
        until(flood.all_are_gone, "all are closed by the server")
        print(f"    {flood.opened} sockets, at most {PENDING} pending: at most {most} descriptors and "
              f"{memory_most / MIB:.1f} MiB; {stayed} at the end of it, the last was gone after "
              f"{flood.longest:.2f} s, the deadline is {DEADLINE_MS / 1000:.2f} s; "
              f"{welcome} of {LOGINS} genuine logins", flush=True)
        expect(welcome >= LOGINS * 0.99, f"{welcome} genuine logins of {LOGINS}")
        expect(most <= PENDING + 128, f"{most} descriptors at once")  # some are being closed
        expect(memory_most <= PENDING * KIB_EACH * 1024, f"{memory_most} bytes of memory")
        until(lambda: server.descriptors() == before, "every descriptor is given back")
        account = server.finish()
        expect_equal(account["evicted"] + account["crowded"] + account["late"], flood.opened,
                     f"their account: {account}")
        expect_equal((account["established"], account["limited"]), (welcome + 1, 0), str(account))


# ---- security test 9: forged HELLOs ----------------------------------------------------------------------

PLAYERS = scaled(500)
FORGED = scaled(5000)
AT_ONCE = 50


def forgeries(server):
    """(its counter, HELLO): every way in which a token can be wrong."""
    def signed(token):
        return Hello(server.public, AES, token).bytes

    used = server.mint()
    with server.player(token=used) as player:
        player.send(b"once")
        player.receive()
    spoilt = bytearray(signed(server.mint()))
    spoilt[-1] ^= 1
    changed = bytearray(signed(server.mint()))
    changed[100] ^= 1
    return [("forged", signed(server.mint(ring_key=os.urandom(32)))),
            ("forged", signed(server.mint(server_public=os.urandom(32)))),
            ("forged", bytes(spoilt)), ("forged", bytes(changed)),
            ("expired", signed(server.mint(expiry=1))),
            ("unknown_key", signed(server.mint(key_id=server.key_id ^ 0x80))),
            ("replayed", signed(used)),
            ("foreign", Hello(server.public).bytes + bytes(156))]  # mode open


def send_all(server, hellos):
    """Sends all of them together; each must be closed without an answer."""
    sockets = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in hellos]
    for one, hello in zip(sockets, hellos):
        one.sendall(hello)
    for one in sockets:
        with one:
            try:
                expect_equal(one.recv(1), b"", "the answer to a forged HELLO")
            except ConnectionError:
                pass  # a reset is as silent


def case_forged_hellos_do_not_affect_players():
    """A storm of them beside 500 players: no player is affected, and none costs a Diffie-Hellman operation."""
    with WanEcho(tokens=True) as server:
        kinds = forgeries(server)
        with Load(server, connections=PLAYERS, rate=2, window=8, seconds=3600,
                  token_file=server.tokens_file(PLAYERS)) as players:
            players.begun()
            began = time.monotonic()
            for at in range(0, FORGED, AT_ONCE):
                send_all(server, [kinds[number % len(kinds)][1] for number in range(at, at + AT_ONCE)])
            storm = time.monotonic() - began
            players.interrupt()
            found = players.report()
        expect_equal((found["errors"], found["connects"], found["closes"]), (0, PLAYERS, {"none": 0}),
                     f"the players' report: {found}")
        account = server.finish()
        print(f"    {FORGED} forged HELLOs in {storm:.2f} s beside {PLAYERS} players: "
              f"p99 {found['p99_us'] / 1000:.1f} ms, {account['diffie_hellman']} handshakes computed",
              flush=True)
        expect_equal((account["established"], account["diffie_hellman"]), (PLAYERS + 1, PLAYERS + 1),
                     f"handshakes, of the players alone: {account}")
        for name in ("forged", "expired", "unknown_key", "replayed", "foreign"):
            wanted = sum(kinds[number % len(kinds)][0] == name for number in range(FORGED))
            expect_equal(account[name], wanted, f"{name} of {account}")


# ---- limits -------------------------------------------------------------------------------------------------

def case_connections_of_an_address_are_limited():
    """With limits: connections of one address are limited, and other addresses are not affected."""
    with WanEcho(limits="on") as server:
        inside = []
        try:
            while len(inside) < 100:
                inside.append(server.player())
                inside[-1].send(b"hello")
                inside[-1].receive()
        except Ended:
            pass
        expect(50 <= len(inside) <= 64, f"connections of one address: {len(inside)}")
        expect(log_in(server, 1), "a login from another address")
        for player in inside:
            player.send(b"still here")
            expect_equal(player.receive(), b"still here", "an accepted player")
            player.close()
        expect(server.finish()["limited"] >= 1, "counted")


def case_a_message_rate_is_limited():
    """With limits: a player that sends too much gets CLOSE rate."""
    with WanEcho(limits="on") as server:
        with server.player() as player:
            player.write_frames(*[b"\0\0\0\0"] * 20000)  # empty messages, a hundred seconds' worth
            expect_equal(player.end(), RATE, "the reason")
        expect_equal(server.finish()["rate_limited"], 1, "counted")


cases(globals())
