"""A gate and a hub that stood still for seconds, as processes that were stopped: what lay in their sockets
meanwhile is nobody's fault. Nobody is ended, limited or refused for it; afterwards all times count again."""
import contextlib
import os
import signal
import struct
import time

from bus_client import BusClient, HELLO, WELCOME, text16
from bus_hub import Hub
from stage import WINDOWS, cases, expect, expect_equal, skip, until
from wan_protocol import CLOSE, PING, PONG, READY, RATE, Closed, Ended, frame
from wanserver_stage import Gate, GatePlayer

TIME = 3         # seconds that everybody may be silent, late, ...
STALL = 2 * TIME  # seconds that we stand still: more than any of them
TIMES = (f"idle_timeout = {TIME}s", f"ping_interval = {TIME - 1}s")
RATE_OF_MESSAGES, BURST_OF_MESSAGES = 50, 20
RATE_OF_COMERS, BURST_OF_COMERS, COMERS = 5, 5, 20


def state_of(program):
    with open(f"/proc/{program.process.pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(") ")[2][0]


@contextlib.contextmanager
def standing_still(*programs):
    """For STALL seconds; what is done inside happens at their beginning."""
    for program in programs:
        program.process.send_signal(signal.SIGSTOP)
    for program in programs:
        until(lambda stopped=program: state_of(stopped) == "T", "it stands still")
    begin = time.monotonic()
    try:
        yield
        time.sleep(max(0, begin + STALL - time.monotonic()))
    finally:
        for program in programs:
            program.process.send_signal(signal.SIGCONT)


def open_gate(hub):
    return Gate(f"bus = 127.0.0.1:{hub.port}", "auth = open", "max_players = 200",
                f"handshake_timeout = {TIME}s", f"message_rate = {RATE_OF_MESSAGES}",
                f"message_burst = {BURST_OF_MESSAGES}", f"accept_rate = {RATE_OF_COMERS}",
                f"accept_burst = {BURST_OF_COMERS}", "keep_time = 600s", *TIMES)


def pings(count):
    return b"".join(frame(os.urandom(4), PING) for _ in range(count))


def hear_pongs(player, count):
    heard = 0
    while heard < count:
        kind, payload = player.read_frame()
        if kind == CLOSE:
            raise Closed(int.from_bytes(payload[:2], "little"))
        if kind == PING:
            player.write_frames(frame(payload, PONG))
        heard += kind == PONG


def say_hello(client, service):
    client.message(HELLO, 0, struct.pack("<HHI", 1, 0, 1 << 20) + text16(service) + text16("1"),
                   correlation=0)


def is_welcomed(client):
    return client.next(peers=True).kind == WELCOME


def newcomer(gate):
    """Connected, with its HELLO on the way: nobody has accepted it yet."""
    player = GatePlayer(gate.address, gate.public, greet=False)
    gate.players.append(player)
    player.write_bytes(player.hello.bytes)
    return player


def case_nobody_pays_for_it():
    if WINDOWS:
        skip("a process cannot be stopped from outside under Wine")
    with Hub(f"hello_timeout = {TIME}s", *TIMES) as hub, open_gate(hub) as gate:
        service = BusClient(hub.port, "watcher")
        until(lambda: service.stats() and service.peers, "the gate is on the bus")
        said = RATE_OF_MESSAGES // 2 * STALL
        talker = gate.player()
        expect(talker.is_answered(), "a player is there")
        pending = gate.silent()
        guest = BusClient(hub.port)
        with standing_still(hub, gate):
            talker.write_frames(pings(said))
            pending.write_bytes(pending.hello.bytes)
            say_hello(guest, "guest")
            comers = [newcomer(gate) for _ in range(COMERS)]
        hear_pongs(talker, said)
        expect(is_welcomed(guest), "whose HELLO lay in the hub's socket is welcome")
        for player in [pending] + comers:
            player.take_reply()
            player.write_frames(frame(kind=READY))
            expect(player.is_answered(), "whose HELLO lay in the gate's socket has a place")
        service.stats()
        expect_equal(service.down, {}, "who has left the bus")

        check_times_count_again(hub, gate, talker)
        account = gate.finish()
        hub.finish()
        expect_equal((account["wan"]["limited"], account["wan"]["late"],
                      account["wan"]["rate_limited"]), (0, 1, 1), "limited, late, too much said")


def check_times_count_again(hub, gate, talker):
    """When what there was to catch up on is forgotten."""
    def is_ended_for_its_rate():
        try:
            talker.write_frames(pings(4 * BURST_OF_MESSAGES))
            hear_pongs(talker, 4 * BURST_OF_MESSAGES)
        except Closed as closed:
            expect_equal(closed.args[0], RATE, "CLOSE")
            return True
        return False
    until(is_ended_for_its_rate, "who says too much is ended")
    late = gate.silent()
    try:
        late.read_bytes(1)
        expect(False, "nothing is said to who says nothing")
    except Ended:
        pass
    guest = BusClient(hub.port)
    expect_equal(guest.closed(), 3, "the hub's CLOSE to who says nothing")


cases(globals())
