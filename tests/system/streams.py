"""Readers, limits and signals from outside must not disturb either program.

Each case runs for lanserver and for wanserver. The reader of their output closes or blocks, standard streams
are closed, a log file is at its limit, signals of other programs arrive: they still serve, count the lines
that were lost, and end when they are asked to.
"""
import os
import signal
import socket
import subprocess
import tempfile

from bus_client import SEND, BusClient
from bus_hub import Hub
from fixture import FACTOR, PATIENCE, WINDOWS, Failed, cases, expect, expect_equal, skip, until
from wanserver_fixture import Gate

PROGRAMS = {"lanserver": Hub, "wanserver": Gate}
STOP_SECONDS = 10  # the time that a container gets before it is killed

def each(check):
    for name, program in PROGRAMS.items():
        try:
            check(name, program)
        except Failed as why:
            raise Failed(f"{name}: {why}") from why


def cause_log_lines(program):
    """Connections and peers that cause lines in its log. Returns what one of them received."""
    if isinstance(program, Hub):
        BusClient(program.port, "someone").close()
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", program.port), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64)
            client.shutdown(socket.SHUT_WR)
            part = client.recv(4096)
            while part:
                received += part
                part = client.recv(4096)
    except OSError:
        pass  # it was refused: reset, perhaps before it was established
    return received


def check_serves(program):
    """Checks that a new client is admitted, once the gate's limit for the address allows it."""
    if isinstance(program, Gate):
        until(lambda: program.admits(program.mint()), "a player is admitted")
    else:
        BusClient(program.port, "someone").close()


def leave(program):
    for player in getattr(program, "players", ()):
        player.close()


def ask_to_stop(program):
    program.interrupt() if WINDOWS else program.terminate()  # SIGTERM kills under Wine


def stop_and_wait(program, seconds=PATIENCE, leaving=True):
    """Asks it to stop and returns the exit code, whether its output is read or not."""
    ask_to_stop(program)
    if leaving:
        leave(program)
    try:
        return program.process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"it does not end within {seconds:g} s") from None


class Pipe:
    """A pipe for a program's output. This process keeps both ends and reads nothing."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def fill(self):
        """Fills it. Its users must not notice any other change."""
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
    """A case in which a pipe is the program's `streams`, and `spoil` disturbs it."""
    def check(_name, program_of):
        with Pipe() as pipe, program_of(**{name: pipe.writer for name in streams}) as program:
            spoil(pipe)
            for _ in range(3):
                cause_log_lines(program)
            check_serves(program)
            expect_equal(stop_and_wait(program), 0, "exit code")
    each(check)


def case_a_blocked_reader_of_errors_does_not_disturb():
    check_output(Pipe.fill, "stderr")


def case_a_blocked_reader_of_output_does_not_disturb():
    posix_only()
    check_output(Pipe.fill, "stdout", "stderr")


def case_a_closed_reader_of_output_does_not_disturb():
    posix_only()
    check_output(Pipe.close, "stdout", "stderr")


def close_streams():
    for number in range(3):
        os.close(number)


def case_closed_standard_streams_do_not_disturb():
    posix_only()
    def check(name, program_of):
        with program_of(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                        preexec_fn=close_streams) as program:
            for number in range(3):
                expect_equal(os.readlink(f"/proc/{program.process.pid}/fd/{number}"), "/dev/null",
                             f"descriptor {number}")
            words = b"".join(cause_log_lines(program) for _ in range(3))
            for text in (name.encode(), b"twinport", b"warning", b"info"):
                expect(text not in words, f"the log's text went to a peer: {words!r}")
            check_serves(program)
            expect_equal(stop_and_wait(program), 0, "exit code")
    each(check)


def limit_files():
    import resource  # exists on POSIX only
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))


def case_a_log_file_at_its_limit_does_not_disturb():
    posix_only()
    def check(name, program_of):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "the.log")
            with program_of(f"log_file = {path}", "log_level = debug",
                            preexec_fn=limit_files) as program:
                until(lambda: cause_log_lines(program) is None or os.path.getsize(path) == 2048,
                      "the file is full")
                until(lambda: cause_log_lines(program) is None or any(
                    "writing the log file failed" in line for line in program.errors),
                    "the log has a line about it")
                check_serves(program)
                program.terminate()
                leave(program)
                expect_equal(program.wait(), 0, f"exit code\n{program.output()}")
                program.wait_for(rf"^{name}: log: [1-9]\d* lines not written", errors=True)
    each(check)


def case_other_signals_do_not_disturb():
    posix_only()
    def check(_name, program_of):
        with program_of() as program:
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGXFSZ,
                           signal.SIGHUP):
                program.process.send_signal(number)
                check_serves(program)
            expect_equal(stop_and_wait(program), 0, f"exit code\n{program.output()}")
    each(check)


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def case_a_renamed_log_is_opened_again():
    posix_only()
    def check(_name, program_of):
        with tempfile.TemporaryDirectory() as parent:
            folder, gone = os.path.join(parent, "logs"), os.path.join(parent, "gone")
            path, put_away = os.path.join(folder, "the.log"), os.path.join(parent, "the.log.1")
            os.mkdir(folder)
            with program_of(f"log_file = {path}", "log_level = info") as program:
                os.rename(path, put_away)
                program.process.send_signal(signal.SIGHUP)
                until(lambda: os.path.exists(path) and "log file reopened" in text_of(path),
                      "a line in the new file")
                expect("log file reopened" not in text_of(put_away), "no such line in the old one")
                # When the folder is missing, the open file is kept.
                os.rename(folder, gone)
                program.process.send_signal(signal.SIGHUP)
                until(lambda: "keeping the open file" in text_of(os.path.join(gone, "the.log")),
                      "a line in the open file")
                check_serves(program)
                program.terminate()
                leave(program)
                expect_equal(program.wait(), 0, f"exit code\n{program.output()}")
    each(check)


class Hung:
    """Keeps a program from ending by itself: a peer that neither acknowledges nor closes, or a player that does
    not close."""

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


def case_a_second_request_ends_it_immediately():
    def check(name, program_of):
        pairs = [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)]
        for first, second in [(signal.SIGINT, signal.SIGINT)] if WINDOWS else pairs:
            with program_of("drain_timeout = 10min") as program, Hung(program):
                program.process.send_signal(first)
                program.wait_for(f"^{name}: stopping$")  # two pending signals would count as one
                expect(program.process.poll() is None, f"it drains\n{program.output()}")
                program.process.send_signal(second)
                expect_equal(program.wait(), 3, f"exit code\n{program.output()}")
                program.wait_for("stop requested a second time", errors=True)
    each(check)


def case_a_stop_with_hung_clients_is_in_time():
    """With the default time-out. Time is checked here, because a container limits it."""
    posix_only()
    def check(_name, program_of):
        with Pipe() as pipe:
            pipe.fill()
            with program_of("drain_timeout = 5s", stdout=pipe.writer,
                            stderr=pipe.writer) as program, Hung(program):
                cause_log_lines(program)
                code = stop_and_wait(program, STOP_SECONDS * FACTOR, leaving=False)
                expect_equal(code, 0, "exit code")
    each(check)


cases(globals())
