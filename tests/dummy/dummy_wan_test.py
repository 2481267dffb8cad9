"""tp-dummy wan on trial, against an echo in Python that shares nothing with it: when that is right it
exits 0; when it is wrong in a known way it exits 1 and names the fault.

    dummy_wan_test.py [CASE...]
"""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from stage import (PATIENCE, Failed, cases, expect, expect_equal, run, system_path,  # noqa: E402
                   write_file)
from wan_server import EchoServer  # noqa: E402
from wan_protocol import OPEN, TOKEN, mint, public_of  # noqa: E402

CONNECTIONS = 10
SHORT = 2  # seconds that an answer is waited for which will not come, at first

# (what the echo does wrong, mode, more options, one of the faults that may be named)
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
    ("echo", {"size": 3000, "window": 40}),  # flights of many records
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
    """Its exit code, what it said on its last line of output, and all it said."""
    options = {"connections": CONNECTIONS, "seconds": 0.3, **options}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    done = run("tp-dummy", "wan", "--connect", f"127.0.0.1:{port}", "--server-key", key.hex(),
               "--patience", patience, "--json", *words, seconds=5 * PATIENCE)
    return done.code, done.lines[-1] if done.lines else "", done.said()


def report(server, mode, patience=PATIENCE, code=0, **options):
    found, line, said = dummy(server.port, server.public, patience, mode=mode, **options)
    expect_equal(found, code, f"exit code\n{said}")
    return json.loads(line), said


def is_enough(found):
    """It did what its mode is for."""
    if found["mode"] == "echo":
        return found["answers"] >= found["connections"]
    if found["mode"] == "garbage":  # both kinds of it, the wire's and that of the frames
        return found["closes"]["none"] > 0 and found["closes"].get("protocol", 0) > 0
    return found["connects"] >= 1


def check_right(mode, options, tokens=False):
    for seconds in (0.2, 3, 30):  # a machine that stalls lets little happen in a short time
        with EchoServer(mode=TOKEN if tokens else OPEN, ring={5: os.urandom(32)}) as server:
            more = {"token_file": system_path(tokens_file(server, 500))} if tokens else {}
            found, said = report(server, mode, seconds=seconds, **more, **options)
            expect_equal(found["errors"], 0, said)
        if is_enough(found):
            return
    raise Failed(f"it does not do what it is for: {said}")


def case_right():
    for mode, options in RIGHT + CHACHA:
        check_right(mode, options)


def case_right_with_tokens():
    for mode, options in RIGHT[-5:] + CHACHA:
        check_right(mode, options, tokens=True)


def check_wrong(patience, seconds, fault, mode, options, names):
    with EchoServer(fault) as server:
        found, said = report(server, mode, patience=patience, seconds=seconds, code=1, **options)
        expect(set(names) & set(found["faults"]), f"{fault}: none of {names} is named\n{said}")


def case_wrong():
    for wanted in WRONG:
        try:
            check_wrong(SHORT, 0.1, *wanted)
        except Failed:  # on a machine that stalls, what takes long may hide the fault, or it does not happen
            check_wrong(PATIENCE, 10, *wanted)


def case_ping():
    with EchoServer("ping") as server:
        found, said = report(server, "echo", window=4)
        expect(found["pings"] > 0, f"it was asked: {said}")


def case_a_key_that_is_not_the_servers():
    with EchoServer() as server:
        code, line, said = dummy(server.port, public_of(os.urandom(32)), PATIENCE)
        expect_equal(code, 1, said)
        expect("not_welcome" in json.loads(line)["faults"], said)


def case_a_tokens_server_and_no_tokens():
    for mode, options in ((OPEN, {}), (TOKEN, {"suite": "chacha"})):
        with EchoServer(mode=TOKEN - mode, ring={5: os.urandom(32)}) as server:
            if mode == TOKEN:
                options["token_file"] = system_path(tokens_file(server, CONNECTIONS))
            found, said = report(server, "echo", code=1, **options)
            expect("not_welcome" in found["faults"], said)


def case_a_token_is_used_once():
    """As many as there are, and none again: the server would not take it."""
    with EchoServer(mode=TOKEN, ring={5: os.urandom(32)}) as server:
        path = system_path(tokens_file(server, 30))
        found, said = report(server, "storm", token_file=path, seconds=600)  # or until there are none left
        expect_equal((found["errors"], found["connects"]), (0, 30), said)
        found, said = report(server, "echo", token_file=path, code=1)
        expect("not_welcome" in found["faults"], f"these are used up: {said}")


def case_wrong_usage():
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
        code, _, said = dummy(port, key, PATIENCE, **options)
        expect_equal(code, 2, said)
        expect(why in said, f"'{why}' is said: {said}")
    for words in (["wan", "--connect", "127.0.0.1:1"], ["lan", "--connect", "127.0.0.1:1", "--suite", "aes"]):
        expect_equal(run("tp-dummy", *words).code, 2, " ".join(words))
    expect_equal(run("tp-dummy", "wan", "--help").code, 0, "help")


cases(globals())
