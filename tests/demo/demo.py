"""The demo: players walk in an arena, over the whole path and back, and the arena is killed in between.

    demo.py [--seconds 15] [--players 200] [--alone 3]

Starts lanserver, wanserver and tp-arena as processes of their own, and players of tp-dummy, each with a token,
who come over the encrypted WAN and check everything they see. Beside them two services on the bus ask each
other questions: first alone, then while the players are there. The arena is killed (SIGKILL) and started again;
the players stay. It ends with an account that must add up. Exit code 0 if it does, 1 if not.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from programs import PATIENCE, Failed, Program, Service, command, show_last_words, start_hub

QUESTIONS = 200  # a second, from each of the two services


class Arena(Program):
    """A tp-arena, and the last two accounts it has given. By the time it gave the last one, all that it had
    answered and confirmed by the one before had left it."""

    def __init__(self, bus, instance):
        self.account = {}
        self.before = {}
        self.change = threading.Condition()
        super().__init__("tp-arena", "--bus", bus, "--instance", instance, "--report")
        while self.next_line("'up'") != "up":
            pass

    def hear(self, line):
        if line.startswith("{"):
            with self.change:
                self.before, self.account = self.account, json.loads(line)
                self.change.notify_all()
        else:
            super().hear(line)

    def wait_for(self, what, holds):
        """Until both accounts are there, and it holds for the one before the last."""
        with self.change:
            if not self.change.wait_for(lambda: self.before and holds(self.before), PATIENCE):
                raise Failed(f"{what}: not within {PATIENCE} s: {self.account}")

    def wait_walking(self, players):
        self.wait_for(f"{players} players walk in the arena", lambda account: account["walking"] >= players)


def output_of(name, *arguments):
    done = subprocess.run(command(name, *arguments), capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        raise Failed(f"{name} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(text)
    return path


def start_gate(folder, bus, players):
    """wanserver with a key and a ring of its own. All players come from one address: its limits are lifted."""
    key = os.path.join(folder, "gate.key")
    public = output_of("wanserver", "--genkey", key).strip()
    ring = write(folder, "ring", output_of("tp-token", "--new-key", "1"))
    config = write(folder, "gate.conf", f"""
        listen = 127.0.0.1:0
        key_file = {key}
        token_keys = {ring}
        bus = {bus}
        service = arena
        max_players = {players}
        accept_rate = 0
        connections_per_address = 0
        log_level = warning
        """)
    gate = Program("wanserver", "--config", config)
    line = gate.next_line("its address")
    if "listening on " not in line:
        raise Failed(f"wanserver said: {line}\n" + "\n".join(gate.errors))
    return gate, line.split("listening on ")[1].split()[0], public, ring


def mint_tokens(folder, ring, public, players):
    """What a login service does: a token and its secret for each player."""
    lines = [output_of("tp-token", "--key-ring", ring, "--key-id", "1", "--server-key", public,
                       "--account", str(1000 + n), "--ttl", "600") for n in range(players)]
    return write(folder, "tokens", "".join(lines))


# ---- what happens -------------------------------------------------------------------------------


def ask_and_answer(bus, instance, during):
    """Two services ask each other while `during` runs. What each has measured."""
    pair = [Service(bus, name, instance, QUESTIONS, "--ask", other)
            for name, other in (("login", "db"), ("db", "login"))]
    try:
        for service in pair:
            service.wait("up")
        for service in pair:
            service.tell("go")
        happened = during()
        for service in pair:
            service.tell("quiet")
        numbers = [service.wait("quiet") and service.wait("report", time.monotonic()) for service in pair]
        for service in pair:
            service.tell("stop")
            if service.process.wait(PATIENCE) != 0:
                raise Failed(f"{service.title} ended with {service.process.returncode}")
        return numbers, happened
    finally:
        for service in pair:
            service.end()


def play(arguments, address, public, tokens, arenas, bus):
    """The players play; after a third of the time the arena is killed, and started again. They end when the time
    is up and they have been seen to walk in the new one."""
    count = arguments.players
    players = Program("tp-dummy", "wan", "--connect", address, "--server-key", public, "--token-file", tokens,
                      "--connections", str(count), "--mode", "arena", "--seconds",
                      str(arguments.seconds + 2 * PATIENCE), "--patience", str(PATIENCE), "--json", "--marks")
    try:
        while players.next_line("the players to be there") != "measuring":
            pass
        began = time.monotonic()
        arenas[0].wait_walking(count)
        time.sleep(max(0.0, began + arguments.seconds / 3 - time.monotonic()))
        arenas[0].process.send_signal(signal.SIGKILL)
        arenas[0].process.wait()
        killed = time.monotonic()
        arenas.append(Arena(bus, "two"))
        back = time.monotonic()
        arenas[1].wait_walking(count)
        time.sleep(max(0.0, began + arguments.seconds - time.monotonic()))
        players.process.send_signal(signal.SIGINT)
        while not (line := players.next_line("the players' account")).startswith("{"):
            pass
        players.process.wait(PATIENCE)
        return json.loads(line), (back - killed) * 1e3, players.errors
    finally:
        players.end()


def last_words(program, what):
    """Ends it gently; what it says in going."""
    program.process.send_signal(signal.SIGINT)
    try:
        code = program.process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"{what} does not stop") from None
    if code != 0:
        raise Failed(f"{what} ended with {code}:\n" + "\n".join(program.errors[-10:]))
    lines = []
    while (line := program.lines.get(timeout=PATIENCE)) is not None:
        lines.append(line)
    return lines


def read_account(lines):
    """`wanserver: gate name=value` and `wanserver: wan name=value`, as {"gate.name": value}."""
    account = {}
    for line in lines:
        _, _, rest = line.partition(": ")
        part, _, pair = rest.partition(" ")
        name, equals, value = pair.partition("=")
        if equals:
            account[f"{part}.{name}"] = int(value)
    return account


# ---- what it was like -----------------------------------------------------------------------------


def show_players(seen):
    arena, seconds = seen["arena"], seen["seconds"]
    print(f"\n  {seen['connections']} players; each second {(arena['steps'] + arena['probes']) / seconds:,.0f}"
          f" messages to the service, {(arena['sights'] + seen['answers']) / seconds:,.0f} back,"
          f" {arena['entries'] / seconds:,.0f} positions")
    print(f"  round trip, player to service and back: p50 {seen['p50_us'] / 1e3:.2f} ms,"
          f" p99 {seen['p99_us'] / 1e3:.2f} ms, max {seen['max_us'] / 1e3:.2f} ms")


def show_kill(seen, gate, back_ms):
    print(f"\n  the arena was killed (SIGKILL) and started again: back on the bus after {back_ms:.0f} ms")
    print(f"  players kept {gate['gate.kept_total']:,}, disconnected {gate['gate.lost_closed']:,};"
          f" the longest heard nothing for {seen['arena']['longest_away_ms']:.0f} ms")
    print(f"  it cost {gate['gate.dropped.no-service']:,} messages said meanwhile,"
          f" {gate['gate.returned']:,} that came back, {seen['arena']['probes_lost']:,} open probes")


def show_services(alone, beside):
    print("\n  on the bus, question and answer        p50         p99         max")
    for what, numbers in (("alone", alone), ("beside the players", beside)):
        worst = [max(n[name] for n in numbers) / 1e3 for name in ("p50_us", "p99_us", "max_us")]
        print(f"    {what:<30}" + "".join(f"{ms:>9.2f} ms" for ms in worst))


def claims_of(players, seen, gate, killed, second, services):
    """(claim, its numbers, whether they bear it out)"""
    arena = seen["arena"]
    said = arena["steps"] + arena["probes"]
    dropped = sum(value for name, value in gate.items() if name.startswith("gate.dropped."))
    refused = sum(value for name, value in gate.items() if name.startswith("gate.refused."))
    heard = second["steps"] + second["stale_steps"] + second["probes"] + second["malformed"]
    by_killed = gate["gate.forwarded"] - gate["gate.returned"] - heard
    told = killed["steps"] + killed["stale_steps"] + killed["probes"]
    return [
        ("everybody came with a token, and was welcome",
         f"{gate['wan.established']:,} of {players:,}, {gate['wan.forged'] + gate['wan.expired']} refused",
         gate["wan.established"] == gate["gate.arrived"] == players),
        ("nobody was disconnected", "",
         gate["gate.lost_closed"] == 0 and gate["gate.left"] == players and seen["errors"] == 0),
        ("what they saw was consistent",
         f"{arena['entries_known']:,} positions checked against the walkers' own steps",
         seen["errors"] == 0 and arena["entries_known"] > 0),
        ("said by players = heard by the gate", f"{said:,} = {gate['gate.from_players']:,}",
         said == gate["gate.from_players"]),
        ("heard by the gate = forwarded + dropped, while there was no arena",
         f"{gate['gate.from_players']:,} = {gate['gate.forwarded']:,} + {dropped:,}",
         gate["gate.from_players"] == gate["gate.forwarded"] + dropped
         and dropped == gate["gate.dropped.no-service"]),
        ("forwarded = returned + handled by the second arena + by the killed one",
         f"{gate['gate.forwarded']:,} = {gate['gate.returned']:,} + {heard:,} + {by_killed:,}"
         f" (it had told of {told:,})", told <= by_killed and told > 0 and heard > 0),
        ("to players = sent + refused", f"{gate['gate.to_players']:,} = {gate['gate.sent']:,} + {refused:,}",
         gate["gate.to_players"] == gate["gate.sent"] + refused and gate["gate.sent"] > arena["sights"]),
        ("every player came back once, and the new arena knew it", f"{arena['returns']:,}",
         arena["returns"] == second["joined"] == second["returned"] == second["left"] == players),
        ("the arenas had each player, and none is left",
         f"{gate['gate.joined']:,} visits = {gate['gate.confirmed_leaves']:,} left +"
         f" {gate['gate.lost_visits']:,} lost with the arena",
         gate["gate.joined"] == gate["gate.confirmed_leaves"] + gate["gate.lost_visits"]
         and gate["gate.lost_visits"] == players and gate["gate.visits"] == 0),
        ("probes = answered + lost with the arena",
         f"{arena['probes']:,} = {seen['answers']:,} + {arena['probes_lost']:,}",
         arena["probes"] == seen["answers"] + arena["probes_lost"]),
        ("the services on the bus noticed nothing", "",
         all(n["timed_out"] == 0 and n["failed"] == 0 and n["wrong"] == 0 and n["asked"] == n["answered"] > 0
             for n in services)),
    ]


def check_account(claims):
    print("\n  the account")
    for text, numbers, holds in claims:
        print(f"  {'ok  ' if holds else 'NOT '} {text}{': ' + numbers if numbers else ''}")
    return all(holds for _, _, holds in claims)


def run(arguments, folder):
    print("twinport demo: players, a gate, a bus, an arena")
    programs = []
    arenas = []
    try:
        hub, bus = start_hub(folder)
        programs.append(hub)
        gate, address, public, ring = start_gate(folder, bus, arguments.players)
        programs.append(gate)
        arenas.append(Arena(bus, "one"))
        print(f"  lanserver listens on {bus}, wanserver on {address}, the arena is on the bus")
        tokens = mint_tokens(folder, ring, public, arguments.players)
        alone, _ = ask_and_answer(bus, "alone", lambda: time.sleep(arguments.alone))
        print(f"  {arguments.players} players walk for {arguments.seconds:g} seconds")
        beside, (seen, back_ms, complaints) = ask_and_answer(
            bus, "beside", lambda: play(arguments, address, public, tokens, arenas, bus))
        killed = arenas[0].before
        arenas[1].wait_for("all have left the arena", lambda account: account["left"] >= arguments.players)
        last_words(arenas[1], "the second arena")
        second = arenas[1].account
        account = read_account(last_words(gate, "wanserver"))
        last_words(hub, "lanserver")
        show_players(seen)
        show_kill(seen, account, back_ms)
        show_services(alone, beside)
        good = check_account(claims_of(arguments.players, seen, account, killed, second, alone + beside))
        if not good:
            print("\n".join(["", *complaints, json.dumps(seen), json.dumps(account), json.dumps(second)]))
        print("\n  nothing was lost in silence" if good else "\n  the account does not add up")
        return 0 if good else 1
    except Failed as failure:
        print(f"\nthe demo failed: {failure}")
        show_last_words([*programs, *arenas])
        return 1
    finally:
        for program in [*arenas, *reversed(programs)]:
            program.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=15, help="that the players play")
    parser.add_argument("--players", type=int, default=200)
    parser.add_argument("--alone", type=float, default=3, help="seconds that the services have for themselves")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(arguments, folder))


if __name__ == "__main__":
    main()
