"""The programs' descriptors: a child process would inherit none, and a gate whose players use all others
still has its reserve.

    lanserver  <-- link --  wanserver  <== more players than descriptors
"""
import os
import re
import resource
import socket
import time

from bus_hub import Hub
from fixture import WINDOWS, cases, expect, expect_equal, skip, until, write_file
from wanserver_fixture import Gate

SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PRODUCT = ("common", "proto", "lanserver", "lanclient", "wanserver")
CLOSE_ON_EXEC = 0o2000000  # O_CLOEXEC, as /proc/PID/fdinfo has it
PLAYERS = 12
MORE = 30  # players that connect when all descriptors for players are in use
RESERVE = 8


def descriptors(program):
    return [int(name) for name in os.listdir(f"/proc/{program.process.pid}/fd")]


def descriptors_of(program, below):
    """The files of the descriptors with numbers below this one."""
    found = set()
    for number in descriptors(program):
        try:
            found |= {os.readlink(f"/proc/{program.process.pid}/fd/{number}")} if number < below else set()
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def inherited(program):
    """The descriptors that a child process would inherit, besides the standard streams."""
    found = []
    for number in descriptors(program):
        with open(f"/proc/{program.process.pid}/fdinfo/{number}", encoding="ascii") as file:
            flags = int(re.search(r"^flags:\s*([0-7]+)$", file.read(), re.M).group(1), 8)
        if number > 2 and not flags & CLOSE_ON_EXEC:
            found.append(os.readlink(f"/proc/{program.process.pid}/fd/{number}"))
    return found


def needs_linux():
    if WINDOWS:
        skip("under Wine the descriptors are the wineserver's")


def case_no_descriptor_is_inherited():
    needs_linux()
    with Hub(f"log_file = {write_file('', '.log')}") as hub:
        with Gate(f"bus = 127.0.0.1:{hub.port}", f"log_file = {write_file('', '.log')}") as gate:
            player = gate.player(gate.mint())
            expect(player.is_answered(), "a player is in")
            for program in (hub, gate):
                kinds = [os.readlink(f"/proc/{program.process.pid}/fd/{number}")
                         for number in descriptors(program)]
                for kind in ("socket:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", ".log"):
                    expect(any(kind in name for name in kinds), f"{kind} among {kinds}")
                expect_equal(inherited(program), [], f"{program.name}: inherited")
            gate.finish()
        hub.finish()


def case_only_common_os_opens_files():
    """Only common/os opens files with the C library, with flags that prevent inheritance."""
    wrong = []
    for folder in PRODUCT:
        for place, folders, files in os.walk(os.path.join(SOURCES, folder)):
            if place.endswith(os.path.join("common", "os")):
                folders.clear()
                continue
            for name in files:
                if name.endswith((".c", ".h")):
                    with open(os.path.join(place, name), encoding="utf-8") as file:
                        if re.search(r"\b(fopen|freopen|open|tmpfile|popen)\(", file.read()):
                            wrong.append(name)
    expect_equal(wrong, [], "sources that open files by themselves")


def lower_limit(program, room):
    """Lowers the limit to `room` more descriptors and the reserve, once earlier connections are closed."""
    until(lambda: sorted(descriptors(program)) == list(range(len(descriptors(program)))), "no gaps")
    limit = len(descriptors(program)) + room + RESERVE
    expect(limit >= 4 * RESERVE, "the whole reserve is kept")
    resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    return limit


def case_a_gate_at_its_limit_reconnects_to_its_bus():
    needs_linux()
    log = write_file("", ".log")
    hub = Hub()
    port = hub.port
    with Gate(f"bus = 127.0.0.1:{port}", f"reserve_descriptors = {RESERVE}", "max_waiting = 100",
              "connections_per_address = 0", "handshake_timeout = 10min", "accept_rate = 0",
              "keep_time = 10min", f"log_file = {log}") as gate:
        with open(log, encoding="utf-8") as lines:
            def said(text):
                return until(lambda: text in lines.readline(), f"the gate's log says '{text}'")

            said("gate: on the bus")
            gate.player(gate.mint()).is_answered()  # the files that the first player opens are open
            limit = lower_limit(gate, PLAYERS)
            players = [gate.player(gate.mint()) for _ in range(PLAYERS)]
            expect(all(player.is_answered() for player in players), "as many as fit are in")
            crowd = [socket.create_connection(gate.address, 20) for _ in range(MORE)]
            said("TP_ERR_NO_DESCRIPTORS")
            until(lambda: len(descriptors(gate)) == limit - RESERVE, "all but the reserve are open")

            hub.kill()
            hub.wait()
            said("gate: off the bus")
            # A waiting player has the link's descriptor now.
            until(lambda: len(descriptors(gate)) >= limit - RESERVE, "they are in use again")
            began = time.monotonic()
            hub = Hub(f"listen = 127.0.0.1:{port}")
            said("gate: on the bus")
            print(f"    back on the bus after {time.monotonic() - began:.1f} s", flush=True)
            # The link, and for a moment the descriptor with which the gate checks the limit before it accepts.
            until(lambda: len(descriptors(gate)) == limit - RESERVE + 1, "the link has one of them")
            # So can other files: the lists are read again.
            gate.hang_up()
            said("token_keys: reloaded")
            expect(all(player.is_answered() for player in players), "the players are kept")
        for connection in crowd:
            connection.close()
        gate.finish()
    hub.finish()


def case_freed_low_numbers_do_not_use_up_the_reserve():
    """Also near a large limit: that one connection gets a low number proves nothing about the next one."""
    needs_linux()
    many = 400  # so many that the gate checks the limit (epoll_accept.c, RESERVE_MARGIN)
    log = write_file("", ".log")
    with Hub() as hub:
        with Gate(f"bus = 127.0.0.1:{hub.port}", f"reserve_descriptors = {RESERVE}",
                  "connections_per_address = 0", "handshake_timeout = 10min", "accept_rate = 0",
                  f"max_pending = {4 * many}", f"log_file = {log}") as gate:
            # The link is opened before the first player connects, so that its number leaves no gap.
            with open(log, encoding="utf-8") as lines:
                until(lambda: "gate: on the bus" in lines.readline(), "the gate is on the bus")
            gate.player(gate.mint()).is_answered()
            limit = lower_limit(gate, many)
            crowd = [socket.create_connection(gate.address, 20) for _ in range(many + MORE)]
            until(lambda: len(descriptors(gate)) >= limit - RESERVE, "all but the reserve are open")
            for leaver in crowd[:2 * RESERVE]:
                known = descriptors_of(gate, below=limit - RESERVE)
                leaver.close()
                until(lambda: len(known - descriptors_of(gate, below=limit - RESERVE)) == 1 and
                      len(descriptors_of(gate, below=limit - RESERVE)) == len(known),
                      "another connection has the number of the one that left")
            # One that was opened between the check and the accept, and one for a moment.
            until(lambda: sum(number >= limit - RESERVE for number in descriptors(gate)) <= 2,
                  "the reserve is kept")
            for connection in crowd:
                connection.close()
            gate.finish()
        hub.finish()


cases(globals())
