"""Two runs of the benchmark compared: which of our rows got worse by more than their spread.

A figure is a ratio to the reference of its own run (the floor, nats-server, TLS, malloc, the LAN alone), so
that a slower or busier machine does not count as a regression; memory is compared in bytes. The margin of a
ratio is the spread of the row and of its reference together, in the run in which that is larger.
"""

from . import bus, echo, isolation, path, players, pool

OURS = ("twinport", "tp_", "beside")
MEMORY_MARGIN = 0.01  # resident memory comes in whole pages


def _is_ours(name):
    return name.startswith(OURS)


def _cpu(label, rows, reference):
    """Rows of one load table; `reference` gives for each row the one that it is compared with."""
    for name, row in rows.items():
        base = rows.get(reference(name))
        if _is_ours(name) and base and name != reference(name):
            yield f"{label}, {name}", row["cpu_us"] / base["cpu_us"], row["spread"] + base["spread"], "x"


def _memory(label, counts):
    for count, rows in counts.items():
        for name, row in rows.items():
            if _is_ours(name):
                worse = max(row["silent"], row["spoken"])
                yield f"{label}, {count} sessions, {name}", worse, MEMORY_MARGIN, "B"


def _pool(patterns):
    for pattern, sizes in patterns.items():
        for size, rows in sizes.items():
            base = rows.get(pool.MALLOC)
            for name, row in rows.items():
                if _is_ours(name) and base:
                    yield (f"pool, {pattern}, {size} B, {name}", row["ns_per_block"] / base["ns_per_block"],
                           row["spread"] + base["spread"], "x")


def _isolation(rows):
    base = rows.get(isolation.ALONE, {})
    for name, row in rows.items():
        if _is_ours(name) and row.get("ratio") is not None and "spread" in row and "spread" in base:
            yield f"isolation, {name}", row["ratio"], row["spread"] + base["spread"], "x"


def figures(tables):
    """{what: (figure, margin, unit)}; a smaller figure is better in all of them."""
    found = []
    for shape, rows in tables.get("echo", {}).items():
        found += _cpu(f"echo, {shape}", rows, lambda name: echo.FLOOR)
    for window, rows in tables.get("bus", {}).items():
        found += _cpu(f"bus, window {window}", rows, lambda name: bus.REFERENCE[name])
    for shape, rows in tables.get("wan", {}).items():
        found += _cpu(f"wan, {shape}", rows, lambda name: players.TLS)
    found += _cpu("handshakes", tables.get("handshakes", {}).get("joins", {}), lambda name: players.TLS)
    found += _cpu("path", tables.get("path", {}).get("rows", {}), lambda name: path.HAPROXY)
    found += _pool(tables.get("pool", {}))
    found += _memory("memory", tables.get("memory", {}))
    found += _memory("idle", tables.get("idle", {}))
    found += _isolation(tables.get("isolation", {}))
    return {what: (figure, margin, unit) for what, figure, margin, unit in found}


def judge(old, new):
    """One entry for each row that either run has."""
    old, new = figures(old), figures(new)
    entries = []
    for what in dict.fromkeys([*old, *new]):
        if what not in old or what not in new:
            entries.append({"row": what, "verdict": "only old" if what in old else "only new"})
            continue
        (before, margin, unit), (after, other, _) = old[what], new[what]
        change, margin = after / before - 1, max(margin, other)
        verdict = "WORSE" if change > margin else "better" if change < -margin else "same"
        entries.append({"row": what, "verdict": verdict, "old": before, "new": after, "unit": unit,
                        "change": change, "margin": margin})
    return entries


def text(entries):
    lines = ["Compared with the old run: smaller is better; a change within the margin is none"]
    for entry in entries:
        if "change" not in entry:
            lines.append(f"  {entry['verdict']:<8}  {'-':>6}  {'':16}  {entry['row']}")
            continue
        figure = f"{entry['old']:.3g} -> {entry['new']:.3g} {entry['unit']}"
        lines.append(f"  {entry['verdict']:<8}  {entry['change']:>+6.0%}  (margin {entry['margin']:>4.0%})"
                     f"  {entry['row']}: {figure}")
    worse = sum(entry["verdict"] == "WORSE" for entry in entries)
    lines.append(f"  {worse} of {len(entries)} rows got worse by more than their spread")
    return "\n".join(lines)


def surroundings(old, new):
    """What differs between the machines of two runs, or ''."""
    differ = [f"{key}: {old.get(key)} -> {new.get(key)}" for key in ("processor", "processors", "kernel",
              "packages") if old.get(key) != new.get(key)]
    return "\n".join(f"  not the same in both runs: {line}" for line in differ)
