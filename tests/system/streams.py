"""What readers, limits and signals from outside can do to both programs: nothing.

Each case runs for lanserver and for wanserver. The reader of their output goes or stands still,
standard streams are closed, a log file is at its limit, signals come that mean something to other
programs: they serve on, count what was lost, and end when they are asked to.
"""
import os
import signal
import socket
import subprocess
import tempfile

from bus_client import SEND, BusClient
from bus_hub import Hub
from stage import FACTOR, PATIENCE, WINDOWS, Failed, cases, expect, expect_equal, skip, until
from wanserver_stage import Gate

PROGRAMS = {"lanserver": Hub, "wanserver": Gate}
STOP_SECONDS = 10  # what a container is given before it is killed

def each(check):
    for name, program in PROGRAMS.items():
        try:
            check(name, program)
        except Failed as why:
            raise Failed(f"{name}: {why}") from why


def annoy(program):
    """Strangers and peers that cause lines in its log. Returns what a stranger was sent."""
    if isinstance(program, Hub):
        BusClient(program.port, "someone").close()
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", program.port), PATIENCE) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64)
            stranger.shutdown(socket.SHUT_WR)
            part = stranger.recv(4096)
            while part:
                received += part
                part = stranger.recv(4096)
    except OSError:
        pass  # it was turned away: reset, even before it was seen to stand, or no longer connected
    return received


def serves(program):
    """A newcomer is let in, once the gate's limit for an address has forgotten the strangers."""
    if isinstance(program, Gate):
        until(lambda: program.lets_in(program.mint()), "a player is let in")
    else:
        BusClient(program.port, "someone").close()


def leave(program):
    for player in getattr(program, "players", ()):
        player.close()


def ask_to_stop(program):
    program.interrupt() if WINDOWS else program.terminate()  # SIGTERM kills under Wine


def ends(program, seconds=PATIENCE, leaving=True):
    """The exit code once it is asked to stop, whether its output is read or not."""
    ask_to_stop(program)
    if leaving:
        leave(program)
    try:
        return program.process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"it does not end within {seconds:g} s") from None


class Pipe:
    """For a program's output; this process keeps both ends, and reads nothing."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def fill(self):
        """No more goes into it. Its users are not to notice any other change."""
        os.set_blocking(self.writer, False)
        for size in (4096, 1):
            try:
                while True:
                    os.write(self.writer, b"." * size)
            except BlockingIOError:
                pass
        os.set_blocking(self.writer, True)

    def close(self):
        for end in (self.reader, self.writer):
            if end is not None:
                os.close(end)
        self.reader = self.writer = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def posix_only():
    if WINDOWS:
        skip("these are POSIX's streams and signals")


def check_output(spoil, *streams):
    """A pipe is these standard streams of the program; `spoil` then does something to it."""
    def check(_name, program_of):
        with Pipe() as pipe, program_of(**{name: pipe.writer for name in streams}) as program:
            spoil(pipe)
            for _ in range(3):
                annoy(program)
            serves(program)
            expect_equal(ends(program), 0, "exit code")
    each(check)


def case_the_reader_of_its_errors_stands_still():
    check_output(Pipe.fill, "stderr")


def case_the_reader_of_its_output_stands_still():
    posix_only()
    check_output(Pipe.fill, "stdout", "stderr")


def case_the_reader_of_its_output_goes():
    posix_only()
    check_output(Pipe.close, "stdout", "stderr")


def close_streams():
    for number in range(3):
        os.close(number)


def case_its_streams_are_closed():
    posix_only()
    def check(name, program_of):
        with program_of(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                        preexec_fn=close_streams) as program:
            for number in range(3):
                expect_equal(os.readlink(f"/proc/{program.process.pid}/fd/{number}"), "/dev/null",
                             f"descriptor {number}")
            words = b"".join(annoy(program) for _ in range(3))
            for text in (name.encode(), b"twinport", b"warning", b"info"):
                expect(text not in words, f"the log's text went to a peer: {words!r}")
            serves(program)
            expect_equal(ends(program), 0, "exit code")
    each(check)


def limit_files():
    import resource  # the standard library of POSIX alone
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))


def case_its_log_file_reaches_a_limit():
    posix_only()
    def check(name, program_of):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "the.log")
            with program_of(f"log_file = {path}", "log_level = debug",
                            preexec_fn=limit_files) as program:
                until(lambda: annoy(program) is None or os.path.getsize(path) == 2048,
                      "the file is full")
                until(lambda: annoy(program) is None or any(
                    "the log's file cannot be written" in line for line in program.errors),
                    "it says so")
                serves(program)
                program.terminate()
                leave(program)
                expect_equal(program.wait(), 0, f"exit code\n{program.said()}")
                program.wait_for(rf"^{name}: log: [1-9]\d* lines could not be written", errors=True)
    each(check)


def case_signals_of_other_programs():
    posix_only()
    def check(_name, program_of):
        with program_of() as program:
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGXFSZ,
                           signal.SIGHUP):
                program.process.send_signal(number)
                serves(program)
            expect_equal(ends(program), 0, f"exit code\n{program.said()}")
    each(check)


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def case_a_log_put_away_is_opened_again():
    posix_only()
    def check(_name, program_of):
        with tempfile.TemporaryDirectory() as parent:
            folder, gone = os.path.join(parent, "logs"), os.path.join(parent, "gone")
            path, put_away = os.path.join(folder, "the.log"), os.path.join(parent, "the.log.1")
            os.mkdir(folder)
            with program_of(f"log_file = {path}", "log_level = info") as program:
                os.rename(path, put_away)
                program.process.send_signal(signal.SIGHUP)
                until(lambda: os.path.exists(path) and "the log goes on here" in text_of(path),
                      "the new file says so")
                expect("the log goes on here" not in text_of(put_away), "the old one does not")
                # Without a folder to open it in, the file at hand stays.
                os.rename(folder, gone)
                program.process.send_signal(signal.SIGHUP)
                until(lambda: "stays as it is" in text_of(os.path.join(gone, "the.log")),
                      "the file at hand says so")
                serves(program)
                program.terminate()
                leave(program)
                expect_equal(program.wait(), 0, f"exit code\n{program.said()}")
    each(check)


class Hung:
    """Keeps a program from ending by itself: a peer that neither confirms nor hangs up, a player
    who does not hang up."""

    def __init__(self, program):
        self.clients = []
        if isinstance(program, Gate):
            expect(program.player(program.mint()).is_answered(), "the player is in")
        else:
            self.clients = [BusClient(program.port, name) for name in ("a", "b")]
            self.clients[0].message(SEND, self.clients[1].id, b"never confirmed")
            self.clients[1].next()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()


def case_a_second_request_ends_it_at_once():
    def check(name, program_of):
        pairs = [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)]
        for first, second in [(signal.SIGINT, signal.SIGINT)] if WINDOWS else pairs:
            with program_of("drain_timeout = 10min") as program, Hung(program):
                program.process.send_signal(first)
                program.wait_for(f"^{name}: stopping$")  # two that are pending would be one
                expect(program.process.poll() is None, f"it drains\n{program.said()}")
                program.process.send_signal(second)
                expect_equal(program.wait(), 3, f"exit code\n{program.said()}")
                program.wait_for("asked to stop a second time", errors=True)
    each(check)


def case_a_stop_with_everything_hung_is_in_time():
    """With the default time-out. The limit is a container's, so here it is time that is checked."""
    posix_only()
    def check(_name, program_of):
        with Pipe() as pipe:
            pipe.fill()
            with program_of("drain_timeout = 5s", stdout=pipe.writer,
                            stderr=pipe.writer) as program, Hung(program):
                annoy(program)
                code = ends(program, STOP_SECONDS * FACTOR, leaving=False)
                expect_equal(code, 0, "exit code")
    each(check)


cases(globals())
