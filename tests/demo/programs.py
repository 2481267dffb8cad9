"""Programs of the project as child processes whose output is read line by line; for the demo and its tests."""

import json
import os
import queue
import shlex
import subprocess
import threading
import time

BIN = os.environ["TWINPORT_BIN"]
EXE = os.environ.get("TWINPORT_EXE", "")
EMULATOR = shlex.split(os.environ.get("TWINPORT_EMULATOR", "").replace(";", " "))
PATIENCE = 20 * int(os.environ.get("TWINPORT_TIME_FACTOR", "1"))


def command(name, *arguments):
    return [*EMULATOR, os.path.join(BIN, name + EXE), *arguments]


class Failed(Exception):
    """The demo cannot continue; the text is the reason."""


class Program:
    """A process whose standard output is read line by line."""

    def __init__(self, name, *arguments):
        self.name = name
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            command(name, *arguments), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.errors = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.on_line(line.rstrip("\r\n"))
        self.lines.put(None)

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line.rstrip())

    def on_line(self, line):
        self.lines.put(line)

    def next_line(self, what):
        try:
            line = self.lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise Failed(f"{self.name}: waited {PATIENCE} s for {what}") from None
        if line is None:
            raise Failed(f"{self.name} ended before {what}:\n" + "\n".join(self.errors[-10:]))
        return line

    def send_command(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Service(Program):
    """A tp-demo-service, and the last line of each kind that it has printed."""

    def __init__(self, address, service, instance, rate, *more):
        self.title = f"{service}/{instance}"
        self.last = {}
        self.times = {}
        self.change = threading.Condition()
        super().__init__("tp-demo-service", "--connect", address, "--service", service,
                         "--instance", instance, "--rate", str(rate), *more)

    def on_line(self, line):
        word, _, text = line.partition(" ")
        with self.change:
            self.last[word] = json.loads(text)
            self.times[word] = time.monotonic()
            self.change.notify_all()

    def wait(self, word, since=0.0):
        with self.change:
            if not self.change.wait_for(
                    lambda: self.times.get(word, -1.0) > since or self.process.poll() is not None,
                    PATIENCE) or self.times.get(word, -1.0) <= since:
                raise Failed(f"{self.title} has not printed '{word}' within {PATIENCE} s\n"
                             + "\n".join(self.errors[-10:]))
            return self.last[word]


def show_programs(programs):
    """The state and the last output of each program, after a failure."""
    for program in programs:
        ended = program.process.poll()
        state = "runs" if ended is None else f"ended with {ended}"
        print(f"\n  {getattr(program, 'title', program.name)} {state}")
        for word, values in getattr(program, "last", {}).items():
            ago = time.monotonic() - program.times[word]
            print(f"    '{word}' {ago:.1f} s ago: {json.dumps(values)}")
        for line in program.errors[-20:]:
            print(f"    {line}")


def start_hub(folder):
    path = os.path.join(folder, "demo.conf")
    with open(path, "w", encoding="ascii") as file:
        file.write("listen = 127.0.0.1:0\nlog_level = info\n")
    hub = Program("lanserver", "--config", path)
    line = hub.next_line("its address")
    if "listening on " not in line:
        raise Failed(f"unexpected output of lanserver: {line}")
    return hub, line.split("listening on ")[1].split()[0]
