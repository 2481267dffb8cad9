"""One run of a load program against a server, and the table that such runs make."""

import json
import time

from . import report
from .process import START_SECONDS, Child, Failed

# A load program prints these around the measured window.
BEGIN, END = "measuring", "measured"


def _look(server):
    return time.monotonic_ns(), server.cpu_ns(), server.cpu_each_ns()


def run(server, argv, core, seconds):
    """Runs the load; returns its JSON object with the share of the server (a Child, or Several) added:
    cpu_us (per message), each_us (of several, by name), busy (of one core), per_second. Errors of the
    load fail the run."""
    with Child(argv, core) as load:
        begin = end = None
        while True:
            line = load.line(seconds + START_SECONDS)
            now = _look(server)
            if line == BEGIN:
                begin = now
            elif line == END:
                end = now
            elif line.startswith("{"):
                break
        code = load.process.wait(timeout=START_SECONDS)
    try:
        result = json.loads(line)
    except ValueError:
        raise Failed(f"{load.name} printed no JSON object: {line!r}") from None
    if code != 0 or result["errors"] != 0:
        raise Failed(
            f"{load.name} ended with {code} and {result['errors']} errors{load.last_words()}"
        )
    if begin is None or end is None:
        raise Failed(f"{load.name} did not say when it measured")
    if result["messages"] == 0:
        raise Failed(f"{load.name} got no message through")
    wall_ns, cpu_ns = end[0] - begin[0], end[1] - begin[1]
    result["lasted"] = wall_ns / 1e9
    result["cpu_us"] = cpu_ns / 1e3 / result["messages"]
    result["each_us"] = {
        name: (after - begin[2][name]) / 1e3 / result["messages"] for name, after in end[2].items()
    }
    result["busy"] = cpu_ns / wall_ns
    result["per_second"] = result["messages"] / (wall_ns / 1e9)
    return result


def summarise(results, reference):
    """{name: rounds} to {name: medians}, with each one's CPU as a ratio to that of the name which
    `reference` gives for it."""
    summary = {}
    for name, rounds in results.items():
        summary[name] = {
            key: report.median(rounds, key)
            for key in ("cpu_us", "per_second", "p50_us", "p99_us", "max_us", "busy")
        }
        summary[name]["spread"] = report.spread(rounds, "cpu_us")
        summary[name]["each_us"] = {
            part: report.median([result["each_us"] for result in rounds], part)
            for part in rounds[0]["each_us"]
        }
        summary[name]["rounds"] = rounds
    for name, value in summary.items():
        base = summary.get(reference[name])
        value["ratio"] = value["cpu_us"] / base["cpu_us"] if base else None
    return summary


def table(title, ratio_head, summary):
    return report.table(
        title,
        ["server", "CPU us/message", ratio_head, "spread", "messages/s", "p50 us", "p99 us",
         "core busy"],
        [
            [
                name,
                report.number(value["cpu_us"]),
                report.ratio(value["ratio"]),
                f"+-{value['spread']:.0%}",
                report.number(value["per_second"]),
                report.number(value["p50_us"]),
                report.number(value["p99_us"]),
                f"{value['busy']:.0%}",
            ]
            for name, value in summary.items()
        ],
    )  # fmt: skip
