"""Table (c): allocating and freeing a block: the notes' three methods and packets, compared with malloc."""

import json

from . import report
from .process import Child, Failed

MALLOC, NONE = "malloc", "none"
POOL = "tp_pool (method 1)"
ALLOCATORS = [MALLOC, POOL, "method 2", "method 3", "tp_packet", NONE]
PATTERNS = {
    "pair": "one thread, allocate and free in turn",
    "burst": "one thread, 64 allocated, then 64 freed",
    "cross": "one thread allocates, another frees",
}
SIZES = [64, 256]


def measure(settings, allocator, pattern, size):
    seconds = settings.pool_seconds
    argv = [f"{settings.bin}/bench-pool", allocator, pattern, str(size), str(seconds)]
    with Child(argv) as child:
        result = json.loads(child.line(seconds + 30))
        code = child.process.wait(timeout=10)
    if code != 0:
        raise Failed(f"{result['damaged']} damaged blocks")
    return result


def run(settings):
    patterns, failures = {}, []
    for pattern, meaning in PATTERNS.items():
        patterns[pattern] = {}
        for size in SIZES:
            results, failed = report.interleave(
                settings.rounds,
                ALLOCATORS,
                lambda name: measure(settings, name, pattern, size),
                lambda text: settings.say(f"pool, {pattern}, {size} B, {text}"),
            )
            failures += [f"pool, {pattern}, {size} B, {n}: {why}" for n, why in failed.items()]
            patterns[pattern][size] = {
                name: {
                    "ns_per_block": report.median(rounds, "ns_per_block"),
                    "spread": report.spread(rounds, "ns_per_block"),
                }
                for name, rounds in results.items()
            }
        settings.show(
            report.table(
                f"(c) {meaning}: ns for a block's allocation and freeing",
                ["allocator"]
                + [f"{size} B{what}" for size in SIZES for what in ("", ", faster than malloc")],
                [row(name, patterns[pattern]) for name in ALLOCATORS],
            )
        )
    return patterns, failures


def row(name, sizes):
    cells = [name if name != NONE else "none (what the measuring costs)"]
    for size in SIZES:
        values = sizes[size]
        if name not in values:
            cells += ["failed", "-"]
            continue
        mine = values[name]["ns_per_block"]
        cells.append(f"{mine:.1f} +-{values[name]['spread']:.0%}")
        malloc = values.get(MALLOC, {}).get("ns_per_block")
        cells.append(report.ratio(malloc / mine if malloc and name != NONE else None))
    return cells
