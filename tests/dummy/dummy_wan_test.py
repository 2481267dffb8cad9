"""The test of tp-dummy wan, against an echo in Python that shares no code with it: if the echo is correct it
exits with 0; if it has a known fault it exits with 1 and reports that fault.

    dummy_wan_test.py [CASE...]
"""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from fixture import (PATIENCE, Failed, cases, expect, expect_equal, run, system_path,  # noqa: E402
                   write_file)
from wan_server import EchoServer  # noqa: E402
from wan_protocol import OPEN, TOKEN, mint, public_of  # noqa: E402

CONNECTIONS = 10
SHORT = 2  # seconds to wait for an answer that never comes, in the first attempt

# (fault of the echo, mode, more options, faults of which one must be reported)
WRONG = [
    ("other-key", "echo", {}, ["not_welcome"]),
    ("change-reply", "echo", {}, ["not_welcome"]),
    ("busy", "echo", {}, ["not_welcome"]),
    ("version", "echo", {}, ["not_welcome"]),
    ("strange-status", "echo", {}, ["not_welcome"]),
    ("never-answer", "echo", {}, ["not_welcome"]),
    ("corrupt", "echo", {"window": 4}, ["wrong_bytes"]),
    ("corrupt", "storm", {}, ["wrong_bytes"]),
    ("drop", "echo", {"window": 4}, ["wrong_bytes", "missing_answer"]),
    ("reorder", "echo", {"window": 4}, ["wrong_bytes"]),
    ("shorten", "echo", {}, ["wrong_length"]),
    ("duplicate", "echo", {}, ["answer_not_asked_for", "wrong_bytes"]),
    ("hang-up", "echo", {"window": 4}, ["connection_lost"]),
    ("tamper", "echo", {}, ["bad_record"]),
    ("swap", "echo", {}, ["bad_record"]),
    ("repeat", "echo", {}, ["bad_record"]),
    ("lose", "echo", {}, ["bad_record"]),
    ("reflect", "echo", {}, ["bad_record"]),
    ("too-long", "echo", {}, ["bad_record"]),
    ("too-short", "echo", {}, ["bad_record"]),
    ("truncate", "echo", {"window": 4}, ["connection_lost"]),
    ("answer-garbage", "garbage", {}, ["answer_not_asked_for"]),
    ("bear-garbage", "garbage", {}, ["not_cut"]),
    ("wrong-reason", "garbage", {}, ["wrong_close_reason"]),
    ("explain", "garbage", {}, ["wrong_close_reason"]),
    ("never-end", "echo", {}, ["end_not_answered"]),
]

RIGHT = [
    ("echo", {"window": 16}),
    ("echo", {"size": 0}),
    ("echo", {"size": 65536, "connections": 3, "window": 2}),  # frames that span records
    ("echo", {"size": 3000, "window": 40}),  # send batches of many records
    ("echo", {"threads": 2, "window": 3}),
    ("echo", {"rate": 50, "window": 4}),
    ("storm", {}),
    ("slow", {"size": 2000}),
    ("garbage", {}),
    ("half-open", {}),
    ("reset", {"window": 4}),
]

CHACHA = [(mode, {"suite": "chacha", "window": 4}) for mode in ("echo", "garbage")]


def tokens_file(server, count):
    return write_file("".join(mint(server.ring[5], 5, server.public, account=number).text()
                              for number in range(count)), suffix=".tokens")


def dummy(port, key, patience, **options):
    """Runs a dummy. Returns its exit code, its last line of output, and all output."""
    options = {"connections": CONNECTIONS, "seconds": 0.3, **options}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    done = run("tp-dummy", "wan", "--connect", f"127.0.0.1:{port}", "--server-key", key.hex(),
               "--patience", patience, "--json", *words, seconds=5 * PATIENCE)
    return done.code, done.lines[-1] if done.lines else "", done.output()


def report(server, mode, patience=PATIENCE, code=0, **options):
    found, line, output = dummy(server.port, server.public, patience, mode=mode, **options)
    expect_equal(found, code, f"exit code\n{output}")
    return json.loads(line), output


def is_enough(found):
    """It did what its mode is for."""
    if found["mode"] == "echo":
        return found["answers"] >= found["connections"]
    if found["mode"] == "garbage":  # both kinds of garbage: of the wire and of frames
        return found["closes"]["none"] > 0 and found["closes"].get("protocol", 0) > 0
    return found["connects"] >= 1


def check_right(mode, options, tokens=False):
    for seconds in (0.2, 3, 30):  # on a machine that stalls a short time is not enough
        with EchoServer(mode=TOKEN if tokens else OPEN, ring={5: os.urandom(32)}) as server:
            more = {"token_file": system_path(tokens_file(server, 500))} if tokens else {}
            found, output = report(server, mode, seconds=seconds, **more, **options)
            expect_equal(found["errors"], 0, output)
        if is_enough(found):
            return
    raise Failed(f"the run was not long enough: {output}")


def case_a_correct_server_gives_no_fault():
    for mode, options in RIGHT + CHACHA:
        check_right(mode, options)


def case_a_correct_server_with_tokens_gives_no_fault():
    for mode, options in RIGHT[-5:] + CHACHA:
        check_right(mode, options, tokens=True)


def check_wrong(patience, seconds, fault, mode, options, names):
    with EchoServer(fault) as server:
        found, output = report(server, mode, patience=patience, seconds=seconds, code=1, **options)
        expect(set(names) & set(found["faults"]), f"{fault}: none of {names} is reported\n{output}")


def case_every_fault_of_a_server_is_reported():
    for wanted in WRONG:
        try:
            check_wrong(SHORT, 0.1, *wanted)
        except Failed:  # on a machine that stalls, time-outs may hide the fault, or it does not happen
            check_wrong(PATIENCE, 10, *wanted)


def case_pings_are_answered():
    with EchoServer("ping") as server:
        found, output = report(server, "echo", window=4)
        expect(found["pings"] > 0, f"PINGs: {output}")


def case_a_wrong_server_key_is_reported():
    with EchoServer() as server:
        code, line, output = dummy(server.port, public_of(os.urandom(32)), PATIENCE)
        expect_equal(code, 1, output)
        expect("not_welcome" in json.loads(line)["faults"], output)


def case_a_wrong_mode_is_reported():
    for mode, options in ((OPEN, {}), (TOKEN, {"suite": "chacha"})):
        with EchoServer(mode=TOKEN - mode, ring={5: os.urandom(32)}) as server:
            if mode == TOKEN:
                options["token_file"] = system_path(tokens_file(server, CONNECTIONS))
            found, output = report(server, "echo", code=1, **options)
            expect("not_welcome" in found["faults"], output)


def case_a_token_is_used_once():
    """All of them, and none a second time: the server would refuse it."""
    with EchoServer(mode=TOKEN, ring={5: os.urandom(32)}) as server:
        path = system_path(tokens_file(server, 30))
        found, output = report(server, "storm", token_file=path, seconds=600)  # or until all are used
        expect_equal((found["errors"], found["connects"]), (0, 30), output)
        found, output = report(server, "echo", token_file=path, code=1)
        expect("not_welcome" in found["faults"], f"all are used: {output}")


def case_wrong_usage_is_an_error():
    key, port = os.urandom(32), 1
    with EchoServer(ring={5: os.urandom(32)}) as server:
        few = system_path(tokens_file(server, CONNECTIONS - 1))
    odd = system_path(write_file("00" * 140 + "\n", suffix=".tokens"))
    short = system_path(write_file("00" * 139 + "\n" + "00" * 32 + "\n", suffix=".tokens"))
    for options, why in (({"token_file": few}, "9 tokens, and 10 are needed"),
                         ({"token_file": few, "connections": 9, "mode": "reset"}, "10 are needed"),
                         ({"token_file": odd}, "expected a token's secret"),
                         ({"token_file": short}, "expected a token,"),
                         ({"token_file": "/no/such/file"}, "cannot be read"),
                         ({"suite": "des"}, "expected aes or chacha"),
                         ({"server_key": "00" * 31}, "64 hexadecimal digits")):
        code, _, output = dummy(port, key, PATIENCE, **options)
        expect_equal(code, 2, output)
        expect(why in output, f"'{why}' in the output: {output}")
    for words in (["wan", "--connect", "127.0.0.1:1"], ["lan", "--connect", "127.0.0.1:1", "--suite", "aes"]):
        expect_equal(run("tp-dummy", *words).code, 2, " ".join(words))
    expect_equal(run("tp-dummy", "wan", "--help").code, 0, "help")


cases(globals())
