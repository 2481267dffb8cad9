"""Tests of the benchmark's programs: they run, they detect wrong answers, and their counts are right. Speed is not
checked.

    bench_test.py [CASE...]
"""
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]
from conductor import compare, gateway, memory, players  # noqa: E402
from conductor.process import START_SECONDS, Child, start_server  # noqa: E402
from fixture import Program, cases, expect, expect_equal, skip  # noqa: E402

BIN = os.environ["TWINPORT_BIN"]
SETTINGS = types.SimpleNamespace(bin=BIN, cores=(None, None), descriptors=1000)
SHORT = ["--seconds", "0.05", "--warm", "0"]
CONNECTIONS, WINDOW = 8, 4


def run(name, *arguments):
    """Its exit code, its last line as JSON (None if it is not JSON), and its errors."""
    done = subprocess.run([f"{BIN}/{name}", *arguments], capture_output=True, text=True, check=False,
                          timeout=5 * START_SECONDS)
    lines = done.stdout.splitlines()
    result = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None
    return done.returncode, result, done.stderr


def expect_answers(least, name, *arguments):
    code, result, said = run(name, *arguments)
    expect_equal(code, 0, f"{name}'s exit code, with the errors {said!r}")
    expect_equal(result["errors"], 0, "errors")
    expect(result["answers"] >= least, f"{result['answers']} answers, at least {least} expected")
    return result


def expect_echo(where):
    expect_answers(CONNECTIONS * WINDOW, "bench-player-echo", *where, "--connections", str(CONNECTIONS),
                   "--window", str(WINDOW), "--size", "64", *SHORT)


def expect_players(where):
    expect_answers(CONNECTIONS, "bench-player-join", *where, "--crowd", str(CONNECTIONS), *SHORT)


def expect_held(where):
    with memory.hold(SETTINGS, where, CONNECTIONS) as clients:
        memory.echo_once(clients)
        clients.say("count")
        least, most, size = clients.expect("frames").split()
        expect_equal((least, most), ("1", "1"), "frames at each connection")
        expect_equal(int(size), CONNECTIONS * (4 + memory.SIZE), "bytes at all")


@contextlib.contextmanager
def tp_echo(*arguments):
    """A WAN echo. Yields it and --connect with its address; checks at the end that it ends in order."""
    with Program("tp-echo", "wan", "--port", 0, "--workers", 1, *arguments) as server:
        port = server.wait_for(r"listening on \S+:(\d+)").group(1)
        yield server, ["--connect", f"127.0.0.1:{port}"]
        server.terminate()
        expect_equal(server.wait(), 0, "tp-echo's exit code")


def account(server):
    line = next(line for line in server.lines if line.startswith("statistics:"))
    return {name: int(value) for name, value in (word.split("=") for word in line.split()[1:])}


def case_the_checks_of_a_hello_are_measured():
    code, result, said = run("bench-hello", "0.005")
    expect_equal(code, 0, f"bench-hello's exit code, with the errors {said!r}")
    expect(all(value > 0 for value in result.values()), f"a cost of each: {result}")


def case_loads_run_over_plain():
    server, port = start_server([f"{BIN}/tp-echo", "lan", "--port", "0"], None)
    with server:
        where = ["--connect", f"127.0.0.1:{port}", "--over", "plain"]
        expect_echo(where)
        expect_players(where)
        expect_held(where)


def over_wan(suite):
    with players.SERVERS[suite](SETTINGS) as (_, where):
        expect_echo(where)
        expect_players(where)
        expect_held(where)


def case_loads_run_over_wan():
    over_wan(players.WAN_AES)


def case_loads_run_over_wan_with_chacha():
    over_wan(players.WAN_CHACHA)


def case_loads_run_over_tls():
    if not os.path.exists(f"{BIN}/peer-tls"):
        skip("peer-tls is built with the bench only")
    for name in (players.TLS, players.TLS_AHEAD, players.TLS_EACH, players.TLS_RELEASE):
        with players.SERVERS[name](SETTINGS) as (_, where):
            expect_echo(where)
            expect_players(where)
            expect_held(where)


def case_wrong_answers_are_detected():
    with Child([f"{BIN}/frame-echo", "--fault", "corrupt", "--every", "3"], stdin=True) as server:
        port = server.expect("listening")
        code, _, said = run("bench-player-echo", "--connect", f"127.0.0.1:{port}", "--connections", "1",
                            "--window", str(WINDOW), "--size", "64", *SHORT)
        expect(code == 1 and "a wrong answer" in said, f"exit code {code}, and {said!r}")


def case_a_wrong_server_key_is_detected():
    with players.wan(SETTINGS) as (_, where):
        key = where.index("--server-key") + 1
        other = where[:key] + ["09" + "00" * 31] + where[key + 1 :]
        code, _, said = run("bench-player-join", *other, "--crowd", "1", *SHORT)
        expect(code == 1, f"exit code {code}, and {said!r}")


def case_forged_hellos_cost_no_diffie_hellman():
    key, _ = players.gateway_key(BIN)
    with tp_echo("--auth", "token", "--key", key, "--key-ring", players.key_ring()) as (server, address):
        result = expect_answers(CONNECTIONS, "bench-player-join", *address, "--over", "plain", "--hello",
                                f"forged:{players.KEY_ID}", "--crowd", str(CONNECTIONS), *SHORT)
    said = account(server)
    expect_equal((said["forged"], said["diffie_hellman"]), (result["answers"], 0),
                 "forged HELLOs, and what was computed for them")


def case_replayed_hellos_cost_a_handshake_each():
    key, public = players.gateway_key(BIN)
    with tp_echo("--auth", "open", "--key", key) as (server, address):
        result = expect_answers(CONNECTIONS, "bench-player-join", *address, "--over", "plain", "--hello",
                                "replayed", "--server-key", public, "--crowd", str(CONNECTIONS), *SHORT)
    said = account(server)
    expect(said["diffie_hellman"] >= result["answers"] and said["established"] == 0,
           f"a handshake for each of {result['answers']}, and no session: {said}")


def case_the_whole_path_works():
    with tempfile.TemporaryDirectory() as folder:
        lan, port = gateway.start_lanserver(SETTINGS, folder, None, workers=1)
        with (
            lan,
            gateway.backend(SETTINGS, port, None),
            gateway.wanserver(SETTINGS, folder, port, None, **gateway.WITHOUT_LIMITS) as (_, where),
        ):
            expect_echo(where)
            expect_answers(1, "bench-lan-requests", "--connect", f"127.0.0.1:{port}", "--size", "64",
                           *SHORT)


def run_with(cpu_us, spread=0.05, floor_us=1.0, silent=512.0):
    """Tables of a run in which our echo took `cpu_us`, and an idle session `silent` bytes."""
    row = {"cpu_us": cpu_us, "spread": spread}
    floor = {"cpu_us": floor_us, "spread": 0.02}
    return {"echo": {"window 1": {"epoll raw (floor)": floor, "twinport": row, "asio": row}},
            "memory": {"1000": {"twinport": {"silent": silent, "spoken": silent - 1}}}}


def verdicts(old, new):
    return {entry["row"]: entry["verdict"] for entry in compare.judge(old, new)}


def case_two_runs_are_compared():
    echo, idle = "echo, window 1, twinport", "memory, 1000 sessions, twinport"
    expect_equal(verdicts(run_with(1.2), run_with(1.25)), {echo: "same", idle: "same"}, "within the margin")
    expect_equal(verdicts(run_with(1.2), run_with(1.3))[echo], "WORSE", "8 % more, with a margin of 7 %")
    expect_equal(verdicts(run_with(1.2), run_with(1.1))[echo], "better", "8 % less")
    expect_equal(verdicts(run_with(1.2), run_with(1.3, spread=0.1))[echo], "same", "8 % more, margin 12 %")
    expect_equal(verdicts(run_with(1.2), run_with(2.4, floor_us=2.0))[echo], "same", "a slower machine")
    expect_equal(verdicts(run_with(1.2), run_with(1.2, silent=552.0))[idle], "WORSE", "8 % more memory")
    expect_equal(verdicts({}, run_with(1.2))[echo], "only new", "a row that the old run does not have")
    expect("1 of 2 rows got worse" in compare.text(compare.judge(run_with(1.2), run_with(1.3))), "the sum")


cases(globals())
