"""The demo: players walk in an arena, over the whole path and back, and the arena is killed in between.

    demo.py [--seconds 15] [--players 200] [--alone 3]

Starts lanserver, wanserver and tp-arena as processes of their own, and players of tp-dummy, each with a token, which
connect over the encrypted WAN and check everything they see. Two services on the bus send each other requests: first
alone, then beside the players. The arena is killed (SIGKILL) and started again; the players stay. At the end the
statistics of all processes must add up. Exit code 0 if they do, 1 if not.
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

from programs import PATIENCE, Failed, Program, Service, command, show_programs, start_hub

REQUESTS = 200  # a second, from each of the two services


class Arena(Program):
    """A tp-arena, and the last two statistics that it has printed. When the last one was printed, all answers and
    acknowledgements that belong to the one before had left the process."""

    def __init__(self, bus, instance):
        self.statistics = {}
        self.before = {}
        self.change = threading.Condition()
        super().__init__("tp-arena", "--bus", bus, "--instance", instance, "--report")
        while self.next_line("'up'") != "up":
            pass

    def on_line(self, line):
        if line.startswith("{"):
            with self.change:
                self.before, self.statistics = self.statistics, json.loads(line)
                self.change.notify_all()
        else:
            super().on_line(line)

    def wait_for(self, what, holds):
        """Waits until there are two statistics, and the condition holds for the one before the last."""
        with self.change:
            if not self.change.wait_for(lambda: self.before and holds(self.before), PATIENCE):
                raise Failed(f"{what}: not within {PATIENCE} s: {self.statistics}")

    def wait_walking(self, players):
        self.wait_for(f"{players} players walk in the arena", lambda statistics: statistics["walking"] >= players)


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
    """Starts wanserver with a new key and a new key ring, and without limits for one address: all players have one."""
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
        raise Failed(f"unexpected output of wanserver: {line}\n" + "\n".join(gate.errors))
    return gate, line.split("listening on ")[1].split()[0], public, ring


def mint_tokens(folder, ring, public, players):
    """A token and its secret for each player, as a login service makes them."""
    lines = [output_of("tp-token", "--key-ring", ring, "--key-id", "1", "--server-key", public,
                       "--account", str(1000 + n), "--ttl", "600") for n in range(players)]
    return write(folder, "tokens", "".join(lines))


# ---- the run ------------------------------------------------------------------------------------


def measure_requests(bus, instance, during):
    """Two services send each other requests while `during` runs. Returns what each has measured, and the result of
    `during`."""
    pair = [Service(bus, name, instance, REQUESTS, "--ask", other)
            for name, other in (("login", "db"), ("db", "login"))]
    try:
        for service in pair:
            service.wait("up")
        for service in pair:
            service.send_command("go")
        result = during()
        for service in pair:
            service.send_command("quiet")
        numbers = [service.wait("quiet") and service.wait("report", time.monotonic()) for service in pair]
        for service in pair:
            service.send_command("stop")
            if service.process.wait(PATIENCE) != 0:
                raise Failed(f"{service.title} ended with {service.process.returncode}")
        return numbers, result
    finally:
        for service in pair:
            service.end()


def play(arguments, address, public, tokens, arenas, bus):
    """The players walk; after a third of the time the arena is killed, and started again. They end when the time is
    over and all of them have walked in the new arena."""
    count = arguments.players
    players = Program("tp-dummy", "wan", "--connect", address, "--server-key", public, "--token-file", tokens,
                      "--connections", str(count), "--mode", "arena", "--seconds",
                      str(arguments.seconds + 2 * PATIENCE), "--patience", str(PATIENCE), "--json", "--marks")
    try:
        while players.next_line("the start of the measurement") != "measuring":
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
        while not (line := players.next_line("the players' statistics")).startswith("{"):
            pass
        players.process.wait(PATIENCE)
        return json.loads(line), (back - killed) * 1e3, players.errors
    finally:
        players.end()


def stop(program, what):
    """Asks the program to stop and waits for its end. Returns the rest of its output."""
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


def read_statistics(lines):
    """`wanserver: gate name=value` and `wanserver: wan name=value`, as {"gate.name": value}."""
    statistics = {}
    for line in lines:
        _, _, rest = line.partition(": ")
        part, _, pair = rest.partition(" ")
        name, equals, value = pair.partition("=")
        if equals:
            statistics[f"{part}.{name}"] = int(value)
    return statistics


# ---- the results ----------------------------------------------------------------------------------


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
          f" the longest time without a message was {seen['arena']['longest_away_ms']:.0f} ms")
    print(f"  lost: {gate['gate.dropped.no-service']:,} messages sent meanwhile,"
          f" {gate['gate.returned']:,} returned by the bus, {seen['arena']['probes_lost']:,} open probes")


def show_services(alone, beside):
    print("\n  requests on the bus, round trip        p50         p99         max")
    for what, numbers in (("alone", alone), ("beside the players", beside)):
        worst = [max(n[name] for n in numbers) / 1e3 for name in ("p50_us", "p99_us", "max_us")]
        print(f"    {what:<30}" + "".join(f"{ms:>9.2f} ms" for ms in worst))


def claims_of(players, seen, gate, killed, second, services):
    """(claim, its numbers, whether it holds)"""
    arena = seen["arena"]
    sent = arena["steps"] + arena["probes"]
    dropped = sum(value for name, value in gate.items() if name.startswith("gate.dropped."))
    refused = sum(value for name, value in gate.items() if name.startswith("gate.refused."))
    received = second["steps"] + second["stale_steps"] + second["probes"] + second["malformed"]
    by_killed = gate["gate.forwarded"] - gate["gate.returned"] - received
    reported = killed["steps"] + killed["stale_steps"] + killed["probes"]
    return [
        ("every player was admitted with a token",
         f"{gate['wan.established']:,} of {players:,}, {gate['wan.forged'] + gate['wan.expired']} refused",
         gate["wan.established"] == gate["gate.arrived"] == players),
        ("no player was disconnected", "",
         gate["gate.lost_closed"] == 0 and gate["gate.left"] == players and seen["errors"] == 0),
        ("what the players saw was consistent",
         f"{arena['entries_known']:,} positions checked against the walkers' own steps",
         seen["errors"] == 0 and arena["entries_known"] > 0),
        ("sent by players = received by the gate", f"{sent:,} = {gate['gate.from_players']:,}",
         sent == gate["gate.from_players"]),
        ("received by the gate = forwarded + dropped, while there was no arena",
         f"{gate['gate.from_players']:,} = {gate['gate.forwarded']:,} + {dropped:,}",
         gate["gate.from_players"] == gate["gate.forwarded"] + dropped
         and dropped == gate["gate.dropped.no-service"]),
        ("forwarded = returned + processed by the second arena + by the killed one",
         f"{gate['gate.forwarded']:,} = {gate['gate.returned']:,} + {received:,} + {by_killed:,}"
         f" (it had reported {reported:,})", reported <= by_killed and reported > 0 and received > 0),
        ("to players = sent + refused", f"{gate['gate.to_players']:,} = {gate['gate.sent']:,} + {refused:,}",
         gate["gate.to_players"] == gate["gate.sent"] + refused and gate["gate.sent"] > arena["sights"]),
        ("every player joined the new arena once, as a returning player", f"{arena['returns']:,}",
         arena["returns"] == second["joined"] == second["returned"] == second["left"] == players),
        ("the arenas had each player, and no assignment is left",
         f"{gate['gate.joined']:,} assignments = {gate['gate.confirmed_leaves']:,} left +"
         f" {gate['gate.lost_visits']:,} lost with the arena",
         gate["gate.joined"] == gate["gate.confirmed_leaves"] + gate["gate.lost_visits"]
         and gate["gate.lost_visits"] == players and gate["gate.visits"] == 0),
        ("probes = answered + lost with the arena",
         f"{arena['probes']:,} = {seen['answers']:,} + {arena['probes_lost']:,}",
         arena["probes"] == seen["answers"] + arena["probes_lost"]),
        ("every request on the bus was answered", "",
         all(n["timed_out"] == 0 and n["failed"] == 0 and n["wrong"] == 0 and n["asked"] == n["answered"] > 0
             for n in services)),
    ]


def check_statistics(claims):
    print("\n  the statistics")
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
        alone, _ = measure_requests(bus, "alone", lambda: time.sleep(arguments.alone))
        print(f"  {arguments.players} players walk for {arguments.seconds:g} seconds")
        beside, (seen, back_ms, complaints) = measure_requests(
            bus, "beside", lambda: play(arguments, address, public, tokens, arenas, bus))
        killed = arenas[0].before
        arenas[1].wait_for("all have left the arena", lambda statistics: statistics["left"] >= arguments.players)
        stop(arenas[1], "the second arena")
        second = arenas[1].statistics
        statistics = read_statistics(stop(gate, "wanserver"))
        stop(hub, "lanserver")
        show_players(seen)
        show_kill(seen, statistics, back_ms)
        show_services(alone, beside)
        good = check_statistics(claims_of(arguments.players, seen, statistics, killed, second, alone + beside))
        if not good:
            print("\n".join(["", *complaints, json.dumps(seen), json.dumps(statistics), json.dumps(second)]))
        print("\n  every message is accounted for" if good else "\n  the statistics do not add up")
        return 0 if good else 1
    except Failed as failure:
        print(f"\nthe demo failed: {failure}")
        show_programs([*programs, *arenas])
        return 1
    finally:
        for program in [*arenas, *reversed(programs)]:
            program.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=15, help="how long the players walk")
    parser.add_argument("--players", type=int, default=200)
    parser.add_argument("--alone", type=float, default=3, help="seconds of the services alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(arguments, folder))


if __name__ == "__main__":
    main()
