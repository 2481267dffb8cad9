#!/usr/bin/env python3
"""The benchmark's conductor: measures the tables, prints them, writes them as JSON, and checks the project's
targets.

    bench.py --bin build/release/bin --out build/release/bench.json [--quick] [--tables echo,bus]
             [--compare OLD.json]
    bench.py --compare OLD.json --measured NEW.json

Every table consists of ratios within one run: the compared programs run in turn, round after round, the
server on one core and its load on another. --compare lists the rows of twinport that got worse than in an
earlier run by more than their spread; with --measured nothing is run. Exit code 0: everything was measured,
whatever the result; 1: a measurement failed, and is named; 2: wrong arguments.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

from conductor import (  # noqa: E402
    broadcast, bus, compare, echo, handshakes, idle, isolation, memory, path, pool, targets, wan,
)  # fmt: skip
from conductor.process import Failed, cores, raise_descriptor_limit  # noqa: E402

TABLES = {
    "echo": echo, "bus": bus, "pool": pool, "memory": memory, "broadcast": broadcast,
    "wan": wan, "handshakes": handshakes, "idle": idle, "path": path, "isolation": isolation,
}  # fmt: skip
PACKAGES = ["libuv1", "libevent-2.1-7", "libasio-dev", "nats-server", "haproxy", "libssl3", "libc6"]


@dataclasses.dataclass
class Settings:
    bin: str
    cores: tuple  # the server's, the load's
    descriptors: int
    rounds: int
    seconds: float  # of each load
    pool_seconds: float
    memory_rounds: int
    broadcasts: int

    def say(self, text):
        """Prints the progress to standard error."""
        print(f"... {text}", file=sys.stderr, flush=True)

    def show(self, text):
        print(f"\n{text}", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", help="folder of the programs")
    parser.add_argument("--out", help="where the JSON goes")
    parser.add_argument("--compare", metavar="OLD.json", help="an earlier run to compare with")
    parser.add_argument("--measured", metavar="NEW.json", help="compare this run instead of measuring")
    parser.add_argument("--quick", action="store_true", help="one short round: does it all run?")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="length of each load")
    parser.add_argument("--tables", default=",".join(TABLES), help="comma-separated; default all")
    chosen = parser.parse_args()
    if chosen.measured and not chosen.compare:
        parser.error("--measured is compared with an earlier run: --compare OLD.json")
    if not chosen.measured and not (chosen.bin and chosen.out):
        parser.error("--bin and --out are needed to measure")
    chosen.tables = chosen.tables.split(",")
    unknown = [name for name in chosen.tables if name not in TABLES]
    if unknown:
        parser.error(f"no table is called {', '.join(unknown)}: {', '.join(TABLES)}")
    return chosen


def make_settings(chosen):
    quick = chosen.quick
    return Settings(
        bin=str(pathlib.Path(chosen.bin).resolve()),
        cores=cores(),
        descriptors=raise_descriptor_limit(),
        rounds=chosen.rounds or (1 if quick else 5),
        seconds=chosen.seconds or (0.5 if quick else 3.0),
        pool_seconds=0.1 if quick else 0.4,
        memory_rounds=1 if quick else 3,
        broadcasts=5 if quick else 50,
    )


def surroundings():
    """The machine and versions, on which the figures depend besides the code."""
    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    packages = {}
    for name in PACKAGES:
        found = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        packages[name] = found.stdout if found.returncode == 0 else "?"
    return {
        "processor": model,
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "packages": packages,
    }


def describe(about, settings):
    lines = [
        f"{about['processors']} x {about['processor']}, Linux {about['kernel']}",
        ", ".join(f"{name} {version}" for name, version in about["packages"].items()),
        f"server on core {settings.cores[0]}, load on core {settings.cores[1]}; medians of"
        f" {settings.rounds} rounds of {settings.seconds:g} s, interleaved",
    ]
    if about["load_before"] > 0.5:
        lines.append(
            f"NOISY: the machine was busy before the run (load {about['load_before']:.2f})"
        )
    return "\n".join(lines)


def read(path):
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))


def show_comparison(old, new):
    lines = [compare.text(compare.judge(old["tables"], new["tables"])),
             compare.surroundings(old["surroundings"], new["surroundings"])]  # fmt: skip
    print("\n" + "\n".join(line for line in lines if line))


def stop(number, frame):
    raise SystemExit(128 + number)  # unwinds, so every child is ended


def main():
    chosen = arguments()
    old = read(chosen.compare) if chosen.compare else None
    if chosen.measured:
        show_comparison(old, read(chosen.measured))
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        settings = make_settings(chosen)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    about = surroundings()
    print(describe(about, settings), flush=True)
    begin = time.monotonic()
    tables, failures = {}, []
    for name in chosen.tables:
        tables[name], failed = TABLES[name].run(settings)
        failures += failed
    verdicts = targets.judge(tables)
    print(f"\n{targets.text(verdicts)}")
    if failures:
        print("\nNOT MEASURED:\n" + "\n".join(f"  {failure}" for failure in failures))
    # Through JSON, so that a run is compared in the form in which the old one was kept.
    written = json.dumps(
        {"surroundings": about, "settings": dataclasses.asdict(settings), "tables": tables,
         "targets": verdicts, "failures": failures},
        indent=1,
    )  # fmt: skip
    pathlib.Path(chosen.out).write_text(written, encoding="utf-8")
    if old:
        show_comparison(old, json.loads(written))
    print(f"\n{time.monotonic() - begin:.0f} s; also in {chosen.out}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
