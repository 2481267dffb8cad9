"""Rounds, medians, tables."""

import statistics


def interleave(rounds, names, measure, say):
    """Runs measure(name) for every name, round after round (A B C A B C ...), so that changes
    of the machine affect all alike. Returns {name: [result of each round]}; a name whose
    measurement failed is left out of the rounds that follow and has its error in the second
    result."""
    results = {name: [] for name in names}
    failures = {}
    for number in range(rounds):
        for name in names:
            if name in failures:
                continue
            say(f"round {number + 1}/{rounds}: {name}")
            try:
                results[name].append(measure(name))
            except Exception as error:  # any error: the others are still measured
                failures[name] = f"{type(error).__name__}: {error}"
    return {n: r for n, r in results.items() if n not in failures}, failures


def median(results, key):
    return statistics.median(result[key] for result in results)


def spread(results, key):
    """Half the range as a share of the median: how much the rounds differ."""
    values = [result[key] for result in results]
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def table(title, heads, rows):
    """The table as text: the first column is left-aligned, the others right-aligned."""
    cells = [heads] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    lines = [title]
    for row in cells:
        line = "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        )
        lines.append("  " + line.rstrip())
    return "\n".join(lines)


def number(value):
    """Three significant digits or whole, with thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def ratio(value):
    return "-" if value is None else f"{value:.2f} x"
