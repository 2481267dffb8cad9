"""The test of tp-dummy: against a correct echo it exits with 0; against one with a known fault it exits with 1
and reports that fault.

    dummy_test.py [CASE...]
"""

import json
import os
import re
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ["TWINPORT_BIN"]
EXE = os.environ.get("TWINPORT_EXE", "")
EMULATOR = [os.environ["TWINPORT_EMULATOR"]] if os.environ.get("TWINPORT_EMULATOR") else []
FACTOR = int(os.environ.get("TWINPORT_TIME_FACTOR", "1"))
PATIENCE = 30 * FACTOR  # seconds: longer than a machine stalls
SHORT = 2               # seconds to wait for an answer that never comes, in the first attempt

# (fault of the echo, mode, more arguments, exit code, faults of which one must be reported)
CASES = [
    ("none", "echo", ["--window", "16"], 0, []),
    ("none", "echo", ["--size", "0"], 0, []),
    ("none", "echo", ["--size", "5", "--window", "7"], 0, []),
    ("none", "echo", ["--size", "1048576", "--connections", "3", "--seconds", "1"], 0, []),
    ("none", "echo", ["--threads", "2", "--window", "3"], 0, []),
    ("none", "storm", [], 0, []),
    ("none", "slow", ["--size", "2000"], 0, []),
    ("none", "garbage", [], 0, []),
    ("none", "half-open", [], 0, []),
    ("none", "reset", ["--window", "4"], 0, []),
    ("ping", "echo", ["--window", "4"], 0, []),
    ("corrupt", "echo", ["--window", "4"], 1, ["wrong_bytes"]),
    ("corrupt", "echo", ["--size", "3"], 1, ["wrong_bytes"]),
    ("corrupt", "storm", [], 1, ["wrong_bytes"]),
    ("corrupt", "slow", ["--size", "2000"], 1, ["wrong_bytes"]),
    ("drop", "echo", ["--window", "4"], 1, ["wrong_bytes", "missing_answer"]),
    ("drop", "echo", ["--window", "1"], 1, ["missing_answer"]),
    ("drop", "storm", [], 1, ["missing_answer"]),
    ("reorder", "echo", ["--window", "4"], 1, ["wrong_bytes"]),
    ("shorten", "echo", ["--window", "4"], 1, ["wrong_length"]),
    ("duplicate", "echo", ["--window", "1"], 1, ["answer_not_asked_for", "wrong_bytes"]),
    ("hang-up", "echo", ["--window", "4"], 1, ["connection_lost"]),
    ("answer-garbage", "garbage", [], 1, ["answer_not_asked_for"]),
    ("bear-garbage", "garbage", [], 1, ["not_cut"]),
    ("wrong-reason", "garbage", [], 1, ["wrong_close_reason"]),
    ("never-end", "echo", [], 1, ["end_not_answered"]),
]


class Echo:
    """A frame-echo, which ends with its standard input."""

    def __init__(self, fault):
        command = EMULATOR + [os.path.join(BIN, "frame-echo" + EXE), "--fault", fault,
                             "--every", "10"]  # a storm on a busy machine has not many more
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            raise RuntimeError(f"frame-echo does not listen: {line!r}")
        return int(line.split()[1])

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=2 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        if self.process.returncode != 0:
            raise RuntimeError(f"frame-echo ended with {self.process.returncode}")


def run_dummy(arguments):
    command = EMULATOR + [os.path.join(BIN, "tp-dummy" + EXE), "lan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE)


def check_report(fault, mode, more, code, faults):
    """None if the dummy reports what it must, or a text that says what is wrong."""
    if code == 0:
        return check_with_patience(PATIENCE, fault, mode, more, code, faults)
    # A missing answer is waited for until the time-out. If that is short, a stall of the machine may cause other
    # faults: then try again with a long one.
    return check_with_patience(SHORT, fault, mode, more, code, faults) and \
        check_with_patience(PATIENCE, fault, mode, more, code, faults)


def check_with_patience(patience, fault, mode, more, code, faults):
    with Echo(fault) as port:
        done = run_dummy(["--connect", f"127.0.0.1:{port}", "--mode", mode, "--connections", "10",
                          "--seconds", "0.3", "--patience", str(patience), "--json", *more])
    output = f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    if done.returncode != code:
        return f"expected exit code {code}: {output}"
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return f"no JSON: {output}"
    if code == 0 and (report["errors"] != 0 or report["connects"] < 1):
        return f"expected no errors: {output}"
    if code == 0 and mode == "echo" and report["answers"] < report["connections"]:
        return f"expected answers: {output}"
    if code != 0 and not set(faults) & set(report["faults"]):
        return f"expected one of {faults}: {output}"
    if fault == "ping" and report["pings"] < 1:
        return f"expected PINGs: {output}"
    return None


def check_usage():
    """Exit codes: 2 for wrong usage, 1 without a server, 0 for --help."""
    for arguments, code in [([], 2), (["--connect", "nonsense"], 2),
                            (["--connect", "127.0.0.1:1", "--window", "0"], 2),
                            (["--connect", "127.0.0.1:1", "--mode", "dance"], 2), (["--help"], 0)]:
        done = run_dummy(arguments)
        if done.returncode != code:
            return f"{arguments}: expected exit code {code}, got {done.returncode}: {done.stderr}"
    with socket.socket() as bound:  # bound to the port, and not listening
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        done = run_dummy(["--connect", f"127.0.0.1:{port}", "--seconds", "0.1", "--json"])
    if done.returncode != 1 or "connect_failed" not in json.loads(done.stdout)["faults"]:
        return f"no server: expected connect_failed, got {done.stdout}{done.stderr}"
    return None


def check_text():
    """The report as text: throughput, latency and errors."""
    for seconds in ("0.2", "1", "5", "20"):  # on a machine that stalls a short time is not enough
        with Echo("none") as port:
            done = run_dummy(["--connect", f"127.0.0.1:{port}", "--connections", "3",
                              "--seconds", seconds])
        if " 0 of them measured" not in done.stdout:
            break
    wanted = [r"^echo: 3 connections, window 1, 64 bytes, \d+\.\d+ s$",
              r"^  answers   [1-9]\d* right, [1-9]\d* of them measured, [1-9]\d* a second$",
              r"^  latency   p50 \d+\.\d us, p99 \d+\.\d us, max \d+\.\d us$",
              r"^  connects  3$", r"^  errors    0$"]
    missing = [line for line in wanted if not re.search(line, done.stdout, re.MULTILINE)]
    if done.returncode != 0 or missing:
        return f"exit code {done.returncode}, no line {missing}:\n{done.stdout}{done.stderr}"
    return None


def check_simple_client():
    """The simple client accepts a correct echo and refuses a wrong one."""
    for fault, content in [("none", True), ("corrupt", False), ("shorten", False)]:
        with Echo(fault) as port:
            done = subprocess.run(
                [sys.executable, os.path.join(HERE, "..", "simple", "simple_client.py"),
                 "127.0.0.1", str(port)], capture_output=True, text=True, timeout=4 * PATIENCE)
        if (done.returncode == 0) != content:
            return f"echo that is {fault}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return None


def main():
    wanted = sys.argv[1:]
    failed = 0
    trials = [(" ".join([*case[:2], *case[2]]), lambda case=case: check_report(*case)) for case in CASES]
    trials += [("usage", check_usage), ("text", check_text), ("simple client", check_simple_client)]
    for name, trial in trials:
        if wanted and name not in wanted:
            continue
        try:
            wrong = trial()
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            wrong = str(error)
        print(f"{name}: {'ok' if wrong is None else 'FAILED: ' + wrong}", flush=True)
        failed += wrong is not None
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
