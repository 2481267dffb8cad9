"""What the settings and files of wanserver do in a running gate: tokens, keys, bans, limits."""
import os
import re
import time

from scheduling import (IDLE, OTHER, SHORTEST_NS, has_slices, nice_values, policies, slices,
                        threads_of)
from fixture import (WINDOWS, cases, descriptors_limited_to, expect, expect_equal, skip, system_path,
                     until, write_file)
from wan_noise import public_of
from wan_protocol import Ended, Token
from wanserver_fixture import Gate, mint_by_tool


def case_players_are_admitted_by_their_tokens():
    with Gate() as gate:
        made = mint_by_tool(gate.ring_file, 1, gate.public, 42, 600)
        token = Token(*map(bytes.fromhex, made.lines))
        player = gate.player(token)
        expect(player.is_answered(), "a player with a token made by tp-token is admitted")
        for wrong in (token, gate.mint(expiry=int(time.time()) - 1), gate.mint(key_id=2),
                      gate.mint(ring_key=os.urandom(32)), gate.mint(server_public=public_of(os.urandom(32)))):
            expect(not gate.admits(wrong), "a used, expired or foreign token is refused")
        for expiry in (1000 * int(time.time()), 2**64 - 1):
            expect(not gate.admits(gate.mint(expiry=expiry)), "a token that lives too long is refused")
        gate.wait_for(
            r"warning +wan: refused 127\.0\.0\.1:\d+: token lives too long: .* is 3600 s",
            errors=True)
        expect(gate.admits(gate.mint()), "a valid token after them")
        player.leave()
        account = gate.finish()
    wan = account["wan"]
    expect_equal((wan["established"], wan["replayed"], wan["expired"], wan["unknown_key"], wan["forged"]),
                 (2, 1, 1, 1, 2), "established and refused")
    expect_equal(wan["long_lived"], 2, "tokens that live too long")
    expect_equal(wan["diffie_hellman"], 2, "handshakes computed")
    expect_equal((account["gate"]["arrived"], account["gate"]["left"]), (2, 2), "players")


def case_an_open_gate_logs_a_warning():
    with Gate("auth = open") as gate:
        gate.wait_for(r"warning +auth = open: ANYONE WHO REACHES THIS ADDRESS CAN PLAY", errors=True)
        expect(gate.admits(None), "any player")
        expect_equal(gate.finish()["wan"]["established"], 1, "players that came")


def rewrite(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def read_again(gate, name, what="reloaded"):
    """Sends SIGHUP and waits for the log line of this file."""
    before = len(gate.errors)
    gate.hang_up()
    until(lambda: any(f" {name}: {what}" in line for line in gate.errors[before:]),
          f"{name}: {what}\n{gate.output()}")


def case_the_key_ring_is_reloaded():
    if WINDOWS:
        skip("Win32 has no such signal")
    with Gate() as gate:
        old_key, new_key = gate.ring_key, os.urandom(32)
        expect(gate.admits(gate.mint()), "the old key")
        expect(not gate.admits(gate.mint(ring_key=new_key, key_id=2)), "the new key, too early")
        rewrite(gate.ring_file, f"1 {old_key.hex()}\n2 {new_key.hex()}\n")
        read_again(gate, "token_keys")
        expect(gate.admits(gate.mint(ring_key=new_key, key_id=2)), "the new key")
        expect(gate.admits(gate.mint()), "the old key, still")
        rewrite(gate.ring_file, f"2 {new_key.hex()}\n")
        read_again(gate, "token_keys")
        expect(not gate.admits(gate.mint()), "the old key, too late")
        rewrite(gate.ring_file, f"2 {new_key.hex()}\nsomething else\n")
        read_again(gate, "token_keys", "reload failed")
        gate.wait_for(re.escape(system_path(gate.ring_file)) + ":2: expected an id", errors=True)
        expect(gate.admits(gate.mint(ring_key=new_key, key_id=2)), "the new key stays")
        expect(new_key.hex() not in gate.output(), "no key is logged")
        expect_equal(gate.finish()["wan"]["unknown_key"], 2, "tokens of a missing key")


def case_too_few_descriptors_give_a_warning():
    if WINDOWS:
        skip("Win32 has no such limit")
    limits = "max_players = 80", "max_waiting = 20", "max_pending = 50"
    enough = 80 + 20 + 50 + (64 + 25) + 64
    with descriptors_limited_to(enough - 1), Gate(*limits) as gate:
        gate.wait_for("too few for 100 sessions and 139 connections that are pending or being",
                      errors=True)
        gate.finish()
    with descriptors_limited_to(enough), Gate(*limits) as gate:
        gate.finish()
        expect(not any("too few for" in line for line in gate.errors), gate.output())


def case_bans_are_enforced_and_reloaded():
    bans = write_file("# nobody yet\n10.0.0.0/8\n127.0.0.1 1000\n", ".bans")  # expired long ago
    with Gate(f"bans = {system_path(bans)}") as gate:
        player = gate.player(gate.mint())
        expect(player.is_answered(), "no ban applies here")
        if not WINDOWS:
            rewrite(bans, f"127.0.0.0/8 {int(time.time()) + 100000}\n")
            read_again(gate, "bans")
            expect_equal(player.end(), 10, "a banned player is disconnected")
            expect(not gate.admits(gate.mint()), "and is not admitted again")
            rewrite(bans, "127.0.0.0/8\nnobody\n")
            read_again(gate, "bans", "reload failed")
            path = re.escape(system_path(bans))
            gate.wait_for(path + ":2: 'nobody': expected a network", errors=True)
            expect(not gate.admits(gate.mint()), "a list with a wrong line changes nothing")
            rewrite(bans, "10.0.0.0/8\n10.0.0.0/8\n")
            read_again(gate, "bans")
            gate.wait_for("warning +" + path + ":2: network given again", errors=True)
            expect(gate.admits(gate.mint()), "lifted")
            expect(not any("NOBODY" in line for line in gate.errors), gate.output())
            rewrite(bans, "")
            read_again(gate, "bans")
            gate.wait_for(r"warning +bans: NOBODY IS BANNED ANY MORE .before: 1", errors=True)
        gate.finish()
    with Gate(f"bans = {system_path(write_file('127.0.0.1', '.bans'))}") as gate:
        expect(not gate.admits(gate.mint()), "banned from the start")
        expect_equal(gate.finish()["wan"]["banned"], 1, "the banned connection")


def case_a_full_list_of_bans_is_replaced():
    # The maximum number, before and after, with no ban in common; the new ones come first in the order.
    old = "".join(f"200.0.{n // 256}.{n % 256}\n" for n in range(4096))
    new = "".join(f"10.0.{n // 256}.{n % 256}\n" for n in range(4095)) + f"127.0.0.1 {2**64 - 1}\n"
    bans = write_file(new if WINDOWS else old, ".bans")
    with Gate(f"bans = {system_path(bans)}") as gate:
        if not WINDOWS:
            expect(gate.admits(gate.mint()), "no ban applies here")
            rewrite(bans, new)
            read_again(gate, "bans")
        expect(not gate.admits(gate.mint()), "banned by the new list, until the largest possible time")
        expect(not any("bans: line" in line for line in gate.errors), gate.output())
        gate.finish()


def silent_or_reset(gate):
    """A connection that sends nothing; None if it was reset before it was established."""
    try:
        return gate.silent()
    except Ended:
        return None


def case_limits_are_as_configured():
    with Gate("max_players = 1") as gate:
        first = gate.player(gate.mint())
        expect(first.is_answered(), "the only player")
        expect_equal(gate.player(gate.mint()).end(), 1, "CLOSE for one too many")
        gate.finish()
    with Gate("connections_per_address = 2") as gate:
        players = [gate.player(gate.mint()) for _ in range(2)]
        expect(all(player.is_answered() for player in players), "two of one address")
        expect(not gate.admits(gate.mint()), "a third")
        players[0].leave()
        until(lambda: gate.admits(gate.mint()), "one of them has left")
        expect(gate.finish()["wan"]["limited"] >= 1, "the refused connection is counted")
    with Gate("accept_rate = 1", "accept_burst = 2") as gate:
        crowd = [silent_or_reset(gate) for _ in range(100)]
        expect(all(player is None or player.end() is None for player in crowd[2:4]),
               "connections above the limit")
        expect(gate.finish()["wan"]["limited"] > 2, "refused connections of a hundred")
    with Gate("message_rate = 1", "message_burst = 20") as gate:
        player = gate.player(gate.mint())
        player.send(*[b"x"] * 200)
        expect_equal(player.end(), 6, "CLOSE for the rate")
        gate.finish()
    with Gate("handshake_timeout = 100ms") as gate:
        expect_equal(gate.silent().end(), None, "a silent connection is ended")
        expect_equal(gate.finish()["wan"]["late"], 1, "late connections")
    with Gate("keep_players = 0", "lost_close = kicked") as gate:
        expect_equal(gate.player(gate.mint()).end(), 10, "CLOSE without a service, as configured")
        gate.finish()


def case_priorities_and_processors_are_as_configured():
    if WINDOWS:
        for line in ("processors = 0", "priority = normal", "priority = idle", "handshake_priority = low",
                     "handshake_priority = normal"):
            with Gate(line) as gate:
                expect(gate.admits(gate.mint()), f"it serves with {line}")
                gate.finish()
        return
    begin = os.nice(0)
    first = min(os.sched_getaffinity(0))
    for lines, base in ((["priority = normal"], begin), ([f"processors = {first}"], max(begin, 10))):
        with Gate(*lines, "handshake_threads = 2") as gate:
            expect(gate.admits(gate.mint()), "it serves")
            expect_equal(nice_values(gate.process, "^(wan|lanclient)$"), {base},
                         "nice of the threads that serve players")
            expect_equal(policies(gate.process, "^(wan|lanclient)$"), {OTHER}, "their policy")
            expect_equal(policies(gate.process, "^tp-handshake$"), {IDLE}, "policy of the handshake threads")
            expect_equal(policies(gate.process, "^tp-hs-overdue$"), {OTHER}, "policy of their reserve")
            expect_equal(nice_values(gate.process, "^tp-hs-overdue$"), {min(base + 5, 19)}, "nice of their reserve")
            shortest = has_slices() and base == begin
            expect_equal(slices(gate.process, "^(wan|lanclient)$") == {SHORTEST_NS}, shortest,
                         "the threads that serve players have the shortest slice at priority = normal alone")
            gate.finish()
    with Gate("priority = normal", "handshake_priority = low") as gate:
        expect(gate.admits(gate.mint()), "it serves")
        expect_equal(policies(gate.process), {OTHER}, "policy of all threads")
        expect_equal(nice_values(gate.process, "^tp-handshake$"), {min(begin + 5, 19)}, "nice of the handshake threads")
        expect_equal(threads_of(gate.process, "^tp-hs-overdue$"), {}, "no reserve")
        gate.finish()
    with Gate("priority = normal", "handshake_priority = normal") as gate:
        expect(gate.admits(gate.mint()), "it serves")
        expect_equal(nice_values(gate.process), {begin}, "nice of all threads")
        gate.finish()
    with Gate("priority = idle") as gate:
        expect(gate.admits(gate.mint()), "it serves")
        expect_equal(policies(gate.process), {IDLE}, "policy of all threads")
        gate.finish()


cases(globals())
