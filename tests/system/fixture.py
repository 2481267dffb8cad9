"""The fixture of the system tests: programs as processes, with their output collected and time-outs.

    with Program("lanserver", "--config", path) as server:
        port = int(server.wait_for(r"listening on .*:(\\d+) ").group(1))
        ...
        server.interrupt()
        expect(server.wait() == 0, "an orderly end")

    cases(globals())        # runs every function named `case_...`, or those given as arguments

Programs are taken from TWINPORT_BIN and run with TWINPORT_EMULATOR. TWINPORT_TIME_FACTOR multiplies
time-outs. Programs that still run at the end of a test are killed.
"""
import atexit
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

FACTOR = float(os.environ.get("TWINPORT_TIME_FACTOR", "1"))
EMULATOR = [word for word in [os.environ.get("TWINPORT_EMULATOR", "")] if word]
WINDOWS = os.environ.get("TWINPORT_EXE", "") == ".exe"
PATIENCE = 60.0 * FACTOR  # the time-out of everything: longer than a busy machine stalls
OUTPUT_SHOWN = 40  # lines of each program, when a case fails

_running = []
_started = []  # by the case that runs
_skipped = []


class Failed(Exception):
    """A check failed; the message describes it."""


class Skipped(Exception):
    """The case needs something that this machine does not have; the message names it."""


def expect(holds, what):
    if not holds:
        raise Failed(what)


def expect_equal(value, wanted, what):
    if value != wanted:
        raise Failed(f"{what}: {value!r}, expected {wanted!r}")


def until(condition, what, seconds=PATIENCE):
    """Waits until condition() is true, and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def program_path(name):
    return os.path.join(os.environ["TWINPORT_BIN"], name + os.environ.get("TWINPORT_EXE", ""))


@contextlib.contextmanager
def descriptors_limited_to(count):
    """Programs started inside have no more descriptors, and cannot raise the limit."""
    before = EMULATOR[:]
    EMULATOR[:] = ["sh", "-c", f'ulimit -n {count}; exec "$0" "$@"'] + before
    try:
        yield
    finally:
        EMULATOR[:] = before


def write_file(text, suffix=".conf"):
    """A file that is removed at the end of the test. Programs under the emulator find it, too."""
    handle, path = tempfile.mkstemp(suffix=suffix)
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    atexit.register(lambda: os.path.exists(path) and os.unlink(path))
    return path


def system_path(path):
    """The path by which a program opens a file of this system: under Wine, Z: is the root."""
    return "Z:" + path.replace("/", "\\") if WINDOWS else path


class Program:
    """A process. Its lines of output are collected in `lines` and `errors`."""

    def __init__(self, name, *arguments, **popen):
        """`popen`: other arguments of subprocess.Popen, such as a standard stream."""
        self.name = name
        self.lines, self.errors = [], []
        self._changed = threading.Condition()
        streams = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.process = subprocess.Popen(
            EMULATOR + [program_path(name)] + [str(a) for a in arguments], **{**streams, **popen})
        _running.append(self)
        _started.append(self)
        read = [pair for pair in ((self.process.stdout, self.lines),
                                  (self.process.stderr, self.errors)) if pair[0]]
        self._open = len(read)
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                         for pair in read]
        for reader in self._readers:
            reader.start()

    def listening_port(self):
        """The port that it prints, or that the system shows if its output goes elsewhere."""
        if self.process.stdout:
            return int(self.wait_for(rf"^{self.name}: listening on 127\.0\.0\.1:(\d+) "
                                     r"\(io \w+, workers \d+\)$").group(1))
        return until(self._port_in_proc, f"{self.name} listens")

    def _port_in_proc(self):
        expect(self.process.poll() is None, f"{self.name} ended with {self.process.poll()}")
        folder = f"/proc/{self.process.pid}"
        sockets = set()
        for number in os.listdir(f"{folder}/fd"):
            try:
                sockets.add(os.readlink(f"{folder}/fd/{number}"))
            except FileNotFoundError:
                pass  # closed meanwhile
        with open(f"{folder}/net/tcp", encoding="ascii") as table:
            for words in map(str.split, table):
                if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                    return int(words[1].split(":")[1], 16)
        return None

    def _read(self, stream, lines):
        for raw in stream:
            with self._changed:
                lines.append(raw.decode("utf-8", "replace").rstrip("\r\n"))
                self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait_for(self, pattern, errors=False, seconds=PATIENCE):
        """The first line of output (or of the errors) that `pattern` matches, as a match."""
        lines = self.errors if errors else self.lines
        end = time.monotonic() + seconds
        seen = 0
        with self._changed:
            while True:
                while seen < len(lines):
                    match = re.search(pattern, lines[seen])
                    if match:
                        return match
                    seen += 1
                left = end - time.monotonic()
                if left <= 0 or self._open == 0:
                    raise Failed(f"{self.name} did not print '{pattern}'\n{self.output()}")
                self._changed.wait(left)

    def interrupt(self):
        """Sends SIGINT, which Wine turns into Ctrl-C for a Win32 program."""
        self.process.send_signal(signal.SIGINT)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()

    def wait(self, seconds=PATIENCE):
        """Waits for the end and returns the exit code; all output is then collected."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not end\n{self.output()}") from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def output(self):
        """All its output and how it ended, for the message of a failure."""
        code = self.process.poll()
        end = "still runs" if code is None else f"ended with {code}"
        return "\n".join(f"    {self.name}: {line}" for line in self.lines + self.errors + [end])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.wait()
        if self in _running:
            _running.remove(self)


@atexit.register
def _kill_all():
    for program in _running:
        program.kill()


def run(name, *arguments, seconds=PATIENCE):
    """Runs a program to its end. Returns it, with its exit code in `code`."""
    with Program(name, *arguments) as program:
        program.code = program.wait(seconds)
        return program


def skip(why):
    raise Skipped(why)


def show_outputs():
    """The last lines of each program that the failed case has started."""
    for program in _started:
        lines = program.output().splitlines()
        print(f"{program.name} (pid {program.process.pid}), the last of {len(lines)} lines:")
        print("\n".join(line[:300] for line in lines[-OUTPUT_SHOWN:]), flush=True)


def cases(names):
    """Runs the functions case_... of a module in order, or those that the command line names."""
    wanted = sys.argv[1:]
    found = {name[5:]: case for name, case in names.items() if name.startswith("case_")}
    unknown = [name for name in wanted if name not in found]
    if unknown:
        sys.exit(f"no case named {unknown[0]}")
    failed = 0
    for name, case in found.items():
        if wanted and name not in wanted:
            continue
        begin = time.monotonic()
        _started.clear()
        try:
            case()
            verdict = "ok"
        except Skipped as why:
            _skipped.append(name)
            verdict = f"skipped: {why}"
        except Failed as why:
            failed += 1
            verdict = f"FAILED: {why}"
        except Exception:  # an error in the test or of a program; the other cases still run
            failed += 1
            verdict = f"FAILED:\n{traceback.format_exc()}"
        for program in list(_running):
            program.__exit__()
        if verdict.startswith("FAILED"):
            show_outputs()
        print(f"{name}: {verdict} ({time.monotonic() - begin:.2f} s)", flush=True)
    ran = len(wanted or found)
    print(f"{ran} cases, {failed} failed, {len(_skipped)} skipped")
    sys.exit(1 if failed else 77 if len(_skipped) == ran else 0)
