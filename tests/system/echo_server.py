"""What the system tests of tp-echo share: the server, seen from outside, and loads that judge it."""
import contextlib
import io
import json
import os
import re
import sys

from stage import EMULATOR, PATIENCE, Failed, Program, expect, expect_equal

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "simple"))
import simple_client  # noqa: E402 (its folder is known only now)

PATIENT = ("--patience", PATIENCE / 2)  # of a dummy, per answer


def starts(backend):
    """Whether this build and this machine have that back end."""
    with Program("tp-echo", "lan", "--port", 0, "--io", backend) as server:
        try:
            server.wait_for(r"^listening on ")
        except Failed:
            expect("TP_ERR_UNSUPPORTED" in server.said(), f"neither it starts nor says why not\n"
                   f"{server.said()}")
            return False
        return True


def each_server(kind=None):
    """One after the other: a server on each back end there is, with one worker and with four."""
    backends = [name for name in ("epoll", "io_uring", "iocp") if starts(name)]
    expect(backends, "a back end that has a name")
    for backend in backends:
        for workers in (1, 4):
            with (kind or Echo)(workers, backend) as server:
                yield server


class Echo(Program):
    """tp-echo on a port of its own, listening. `reach`: how a dummy is told where it is."""

    def __init__(self, workers=2, backend="auto", network=("lan",)):
        super().__init__("tp-echo", *network, "--port", 0, "--workers", workers, "--io", backend)
        self.port = int(self.wait_for(r"^listening on 127\.0\.0\.1:(\d+)$").group(1))
        self.address = f"127.0.0.1:{self.port}"
        self.reach = ("lan", "--connect", self.address)

    def descriptors(self):
        """How many it has open. Under Wine the wineserver has them: nothing to be seen."""
        return None if EMULATOR else len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def most_memory(self):
        """Its resident size where it was largest, in bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"^VmHWM:\s+(\d+) kB$", file.read(), re.MULTILINE).group(1)) << 10

    def serves_the_simplest_client(self):
        steps = io.StringIO()
        with contextlib.redirect_stdout(steps), contextlib.redirect_stderr(steps):
            content = simple_client.echo_everything("127.0.0.1", self.port)
        expect(content, f"the simplest client is content:\n{steps.getvalue()}")

    def finish(self, ask=Program.interrupt, errors=(), lines=1):
        """It must end gently, and have said nothing but lines that match `errors`."""
        ask(self)
        expect_equal(self.wait(), 0, f"exit code\n{self.said()}")
        wrong = [line for line in self.errors if not any(re.search(e, line) for e in errors)]
        expect(not wrong, f"it said what nobody expects:\n{self.said()}")
        expect_equal(len(self.lines), lines, "lines of output")


class Load(Program):
    """A tp-dummy on its way, judging every byte."""

    def __init__(self, server, mode="echo", seconds=0.3, **options):
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        self.title = f"{mode} {' '.join(map(str, words))}"
        super().__init__("tp-dummy", *server.reach, "--mode", mode, "--seconds", seconds, *PATIENT,
                         "--marks", "--json", *words)
        self.seconds = seconds

    def begun(self):
        self.wait_for("^measuring$")
        return self

    def report(self, code=0):
        """What it found, when it has ended: with no errors, or else it is the test's failure."""
        found = self.wait(self.seconds + 3 * PATIENCE)
        expect_equal(found, code, f"exit code of the dummy: {self.title}\n{self.said()}")
        return json.loads(self.lines[-1])


def load(server, mode="echo", **options):
    """One after the other: a load to its end, and its report, free of errors."""
    with Load(server, mode, **options) as dummy:
        report = dummy.report()
    expect_equal(report["errors"], 0, dummy.title)
    return report
