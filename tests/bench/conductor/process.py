"""Child processes: pinned to a core, read line by line with a time-out, their processor time and memory measured
from outside, and ended whatever happens to the conductor.

Linux only, as the benchmark.
"""

import contextlib
import ctypes
import os
import re
import resource
import selectors
import shutil
import signal
import subprocess
import time

# The time-out of everything.
START_SECONDS = 60.0 * float(os.environ.get("TWINPORT_TIME_FACTOR", "1"))

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A measurement failed, with the reason."""


def raise_descriptor_limit():
    """Raises the soft limit to the hard one for all children; returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cores():
    """The core for servers and the core for load."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise Failed("server and load need a core each; this process may use one only")
    return usable[0], usable[1]


def find_program(name):
    """Also looks in /usr/sbin, where Debian installs servers and which may not be on the path."""
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise Failed(f"{name} is not installed (Debian package {name})")
    return program


class Child:
    """One running program, as a context manager that ends it. `core`: the core it is pinned to; None: all. `idle`: run
    it as SCHED_IDLE."""

    def __init__(self, argv, core=None, environment=None, stdin=False, pass_fds=(), idle=False):
        self.name = os.path.basename(argv[0])
        conductor = os.getpid()

        def in_child():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != conductor:  # the conductor ended before prctl
                os._exit(1)
            if core is not None:
                os.sched_setaffinity(0, {core})
            if idle:
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
                pass_fds=pass_fds,
                preexec_fn=in_child,
            )
        except OSError as error:
            raise Failed(f"{argv[0]}: {error.strerror}") from error
        self.pid = self.process.pid
        self._rest = {"out": b"", "err": b""}
        self._open = selectors.DefaultSelector()
        for stream, which in ((self.process.stdout, "out"), (self.process.stderr, "err")):
            os.set_blocking(stream.fileno(), False)
            self._open.register(stream, selectors.EVENT_READ, which)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.end()

    def end(self):
        """SIGTERM, then SIGKILL after five seconds; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            deadline = time.monotonic() + 5
            while self.process.poll() is None and time.monotonic() < deadline:
                self._read(0.05)  # a full pipe must not block its end
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self._open.close()
        return code

    def say(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name} has ended{self.last_words()}") from None

    def line(self, seconds=START_SECONDS):
        """The next line of stdout."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest["out"]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"{self.name} printed nothing for {seconds:.0f} s{self.last_words()}")
            if not self._read(left):
                self.process.wait()
                code = self.process.returncode
                raise Failed(f"{self.name} ended with {code}{self.last_words()}")
        line, self._rest["out"] = self._rest["out"].split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def expect(self, beginning, seconds=START_SECONDS):
        """Reads the next line, which must begin with `beginning`. Returns the rest of it."""
        line = self.line(seconds)
        if not line.startswith(beginning):
            raise Failed(f"{self.name} printed {line!r}, expected {beginning!r}")
        return line[len(beginning) :].strip()

    def _read(self, seconds):
        """Reads what comes within the time. False when both streams have ended."""
        if not self._open.get_map():
            return False
        for key, _ in self._open.select(seconds):
            data = os.read(key.fd, 65536)
            if data:
                self._rest[key.data] += data
                self._rest["err"] = self._rest["err"][-4000:]
            else:
                self._open.unregister(key.fileobj)
        return True

    def last_words(self):
        text = self._rest["err"].decode(errors="replace").strip()
        return f": {text[-600:]}" if text else ""

    # ---- what it uses ----------------------------------------------------------------------

    def cpu_ns(self):
        """Processor time of all its threads so far, user and system, in nanoseconds.

        The process's CPU clock: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED), as
        clock_getcpuclockid() makes it."""
        return time.clock_gettime_ns((~self.pid << 3) | 2)

    def cpu_each_ns(self):
        """The same for each part of Several: only this one."""
        return {}

    def user_memory(self):
        """Bytes of anonymous memory that are resident, exact (status' RssAnon is an estimate)."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as rollup:
            return int(re.search(r"^Anonymous:\s+(\d+) kB", rollup.read(), re.M).group(1)) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@contextlib.contextmanager
def machine_busy():
    """Yields a function that, after the block, returns how busy the machine was meanwhile, 0 to 1."""

    def look():
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
        return sum(ticks), ticks[3] + ticks[4]  # all, and idle

    share = []
    begin = look()
    yield lambda: share[0]
    end = look()
    share.append(1 - (end[1] - begin[1]) / max(1, end[0] - begin[0]))


class Several:
    """Servers that do one job together: their processor time is one figure, and each one's is kept, too."""

    def __init__(self, **servers):
        self.servers = servers

    def cpu_ns(self):
        return sum(server.cpu_ns() for server in self.servers.values())

    def cpu_each_ns(self):
        return {name: server.cpu_ns() for name, server in self.servers.items()}


def start_server(argv, core, environment=None):
    """Starts a server whose first line is `listening on ADDRESS:PORT`. Returns it and the port."""
    server = Child(argv, core, environment)
    try:
        line = server.line()
        port = re.search(r"listening on \S+:(\d+)", line)
        if port is None:
            raise Failed(f"{server.name} printed {line!r} in place of its address")
        return server, int(port.group(1))
    except BaseException:
        server.end()
        raise


def wait_until(seen, what, seconds=START_SECONDS):
    """Waits until `seen` returns something true."""
    deadline = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.02)
