"""A gate and a hub that are stopped for seconds (SIGSTOP): what waits in their sockets meanwhile does not count
as late. No client is ended, limited or refused for it, and afterwards all time-outs work again."""
import contextlib
import os
import signal
import struct
import time

from bus_client import BusClient, HELLO, WELCOME, text16
from bus_hub import Hub
from fixture import WINDOWS, cases, expect, expect_equal, skip, until
from wan_protocol import CLOSE, PING, PONG, READY, RATE, Closed, Ended, frame
from wanserver_fixture import Gate, GatePlayer

TIME = 3         # seconds: every time-out of the test
STALL = 2 * TIME  # seconds of the stop: longer than any of them
TIMES = (f"idle_timeout = {TIME}s", f"ping_interval = {TIME - 1}s")
RATE_OF_MESSAGES, BURST_OF_MESSAGES = 50, 20
RATE_OF_CONNECTIONS, BURST_OF_CONNECTIONS, NEWCOMERS = 5, 5, 20


def state_of(program):
    with open(f"/proc/{program.process.pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(") ")[2][0]


@contextlib.contextmanager
def stopped_for_a_while(*programs):
    """Stops the programs for STALL seconds; the block runs at their beginning."""
    for program in programs:
        program.process.send_signal(signal.SIGSTOP)
    for program in programs:
        until(lambda stopped=program: state_of(stopped) == "T", "the program is stopped")
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
                f"message_burst = {BURST_OF_MESSAGES}", f"accept_rate = {RATE_OF_CONNECTIONS}",
                f"accept_burst = {BURST_OF_CONNECTIONS}", "keep_time = 600s", *TIMES)


def pings(count):
    return b"".join(frame(os.urandom(4), PING) for _ in range(count))


def receive_pongs(player, count):
    heard = 0
    while heard < count:
        kind, payload = player.read_frame()
        if kind == CLOSE:
            raise Closed(int.from_bytes(payload[:2], "little"))
        if kind == PING:
            player.write_frames(frame(payload, PONG))
        heard += kind == PONG


def send_hello(client, service):
    client.message(HELLO, 0, struct.pack("<HHI", 1, 0, 1 << 20) + text16(service) + text16("1"),
                   correlation=0)


def has_welcome(client):
    return client.next(peers=True).kind == WELCOME


def newcomer(gate):
    """A player that has connected and sent its HELLO, and is not yet accepted."""
    player = GatePlayer(gate.address, gate.public, log_in=False)
    gate.players.append(player)
    player.write_bytes(player.hello.bytes)
    return player


def case_a_stop_of_the_process_does_not_count_against_clients():
    if WINDOWS:
        skip("a process cannot be stopped from outside under Wine")
    with Hub(f"hello_timeout = {TIME}s", *TIMES) as hub, open_gate(hub) as gate:
        service = BusClient(hub.port, "watcher")
        until(lambda: service.stats() and service.peers, "the gate is on the bus")
        sent = RATE_OF_MESSAGES // 2 * STALL
        talker = gate.player()
        expect(talker.is_answered(), "a player is in")
        pending = gate.silent()
        guest = BusClient(hub.port)
        with stopped_for_a_while(hub, gate):
            talker.write_frames(pings(sent))
            pending.write_bytes(pending.hello.bytes)
            send_hello(guest, "guest")
            newcomers = [newcomer(gate) for _ in range(NEWCOMERS)]
        receive_pongs(talker, sent)
        expect(has_welcome(guest), "a HELLO that waited in the hub's socket is answered by WELCOME")
        for player in [pending] + newcomers:
            player.take_reply()
            player.write_frames(frame(kind=READY))
            expect(player.is_answered(), "a HELLO that waited in the gate's socket is admitted")
        service.stats()
        expect_equal(service.down, {}, "peers that left the bus")

        check_time_outs_work_again(hub, gate, talker)
        account = gate.finish()
        hub.finish()
        expect_equal((account["wan"]["limited"], account["wan"]["late"],
                      account["wan"]["rate_limited"]), (0, 1, 1), "limited, late, rate limited")


def check_time_outs_work_again(hub, gate, talker):
    """Once the credit of the stop has lapsed."""
    def is_ended_for_its_rate():
        try:
            talker.write_frames(pings(4 * BURST_OF_MESSAGES))
            receive_pongs(talker, 4 * BURST_OF_MESSAGES)
        except Closed as closed:
            expect_equal(closed.args[0], RATE, "CLOSE")
            return True
        return False
    until(is_ended_for_its_rate, "a player that sends too much is ended")
    late = gate.silent()
    try:
        late.read_bytes(1)
        expect(False, "a silent connection gets no answer")
    except Ended:
        pass
    guest = BusClient(hub.port)
    expect_equal(guest.closed(), 3, "the hub's CLOSE to a silent connection")


cases(globals())
