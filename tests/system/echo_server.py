"""For the system tests of tp-echo: the server as a process, and loads that check its answers."""
import contextlib
import io
import json
import os
import re
import sys

from fixture import EMULATOR, PATIENCE, Failed, Program, expect, expect_equal

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "simple"))
import simple_client  # noqa: E402 (its folder is on the path only now)

PATIENT = ("--patience", PATIENCE / 2)  # the dummy's time-out of one answer


def starts(backend):
    """Whether this build and this machine have that back end."""
    with Program("tp-echo", "lan", "--port", 0, "--io", backend) as server:
        try:
            server.wait_for(r"^listening on ")
        except Failed:
            expect("TP_ERR_UNSUPPORTED" in server.output(), f"it neither starts nor prints why\n"
                   f"{server.output()}")
            return False
        return True


def each_server(kind=None):
    """Servers one after another: on each back end of this system, with one worker and with four."""
    backends = [name for name in ("epoll", "io_uring", "iocp") if starts(name)]
    expect(backends, "a back end")
    for backend in backends:
        for workers in (1, 4):
            with (kind or Echo)(workers, backend) as server:
                yield server


class Echo(Program):
    """A running tp-echo. `reach`: a dummy's arguments for connecting to it."""

    def __init__(self, workers=2, backend="auto", network=("lan",)):
        super().__init__("tp-echo", *network, "--port", 0, "--workers", workers, "--io", backend)
        self.port = int(self.wait_for(r"^listening on 127\.0\.0\.1:(\d+)$").group(1))
        self.address = f"127.0.0.1:{self.port}"
        self.reach = ("lan", "--connect", self.address)

    def descriptors(self):
        """The number of open descriptors. None under Wine, where they are the wineserver's."""
        return None if EMULATOR else len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def most_memory(self):
        """Its largest resident size so far, in bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"^VmHWM:\s+(\d+) kB$", file.read(), re.MULTILINE).group(1)) << 10

    def serves_the_simplest_client(self):
        steps = io.StringIO()
        with contextlib.redirect_stdout(steps), contextlib.redirect_stderr(steps):
            content = simple_client.echo_everything("127.0.0.1", self.port)
        expect(content, f"the simplest client is served:\n{steps.getvalue()}")

    def finish(self, ask=Program.interrupt, errors=(), lines=1):
        """Stops it: it must end in order, and have printed no errors but those that match `errors`."""
        ask(self)
        expect_equal(self.wait(), 0, f"exit code\n{self.output()}")
        wrong = [line for line in self.errors if not any(re.search(e, line) for e in errors)]
        expect(not wrong, f"unexpected errors:\n{self.output()}")
        expect_equal(len(self.lines), lines, "lines of output")


class Load(Program):
    """A running tp-dummy, which checks every byte."""

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
        """Waits for the end and returns the report. Fails the test if the exit code is another one."""
        found = self.wait(self.seconds + 3 * PATIENCE)
        expect_equal(found, code, f"exit code of the dummy: {self.title}\n{self.output()}")
        return json.loads(self.lines[-1])


def load(server, mode="echo", **options):
    """Runs a load to its end. Returns its report, which must have no errors."""
    with Load(server, mode, **options) as dummy:
        report = dummy.report()
    expect_equal(report["errors"], 0, dummy.title)
    return report
