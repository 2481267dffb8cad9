"""The benchmark's targets, each with the measured value: met or missed."""

from . import bus, echo, handshakes, isolation, path, players, pool

BYTES_PER_SESSION = 512
BYTES_PER_PLAYER = 3584


def _cpu(table, *path):
    for key in path:
        table = table.get(key, {})
    return table.get("cpu_us")


def _divide(a, b):
    return a / b if a is not None and b else None


def _echo(tables):
    for shape, over, under, limit, at_most, what in (
        ("window 1", echo.TWINPORT, echo.ASIO, 1.0, True, "CPU per message / asio's"),
        ("window 1", echo.TWINPORT, echo.FLOOR, 1.15, True, "CPU per message / the raw floor's"),
        ("window 16", echo.TWINPORT, echo.FLOOR, 2.0, True, "CPU per message / the raw floor's"),
        ("window 16", echo.LIBUV, echo.TWINPORT, 6.0, False,
         "CPU per message of libuv with one write per message / ours"),
    ):  # fmt: skip
        measured = _divide(
            _cpu(tables, "echo", shape, over), _cpu(tables, "echo", shape, under)
        )
        yield "echo", f"echo, {shape}: {what}", measured, limit, at_most, "x"


def _bus(tables):
    for window in bus.WINDOWS:
        rows = tables.get("bus", {}).get(window, {})
        floor = rows.get(bus.FLOOR, {}).get("ratio")
        for name, load in (
            (bus.TWINPORT, "one thread of load"),
            (bus.TWINPORT_EACH, "lanclient / a thread for each connection"),
        ):
            what = f"bus, window {window}, {load}: CPU per routed message / nats-server's"
            if name == bus.TWINPORT and floor is not None:
                what += f" (the relay that never looks: {floor:.2f} x)"
            yield "bus", what, rows.get(name, {}).get("ratio"), 1 / 3, True, "x"


def _memory(tables):
    for count, servers in tables.get("memory", {}).items():
        of_ours = servers.get(echo.TWINPORT)
        measured = max(of_ours["silent"], of_ours["spoken"]) if of_ours else None
        what = f"user memory per idle session at {count:,}, the worse of before and after speaking"
        yield "memory", what, measured, BYTES_PER_SESSION, True, "B"


def _pool(tables):
    for size, names in tables.get("pool", {}).get("cross", {}).items():
        measured = _divide(
            names.get(pool.MALLOC, {}).get("ns_per_block"),
            names.get(pool.POOL, {}).get("ns_per_block"),
        )
        what = f"cross-thread allocation, {size} B: times faster than glibc's malloc"
        yield "pool", what, measured, 2.0, False, "x"


def _wan(tables):
    for shape, over, under, limit, at_most, what in (
        ("window 1", players.WAN_AES, players.TLS, 0.8, True, "CPU per message / TLS 1.3's"),
        ("window 16", players.WAN_AES, players.TLS, 1.5, True,
         "CPU per message / that of TLS 1.3 with the raw bytes back"),
        ("window 16", players.TLS_EACH, players.WAN_AES, 6.0, False,
         "CPU per message of TLS 1.3 with one write per message / ours"),
    ):  # fmt: skip
        ours = _cpu(tables, "wan", shape, players.WAN_AES)
        ahead = _divide(ours, _cpu(tables, "wan", shape, players.TLS_AHEAD))
        if under == players.TLS and ahead is not None:
            what += f" (to TLS that reads ahead: {ahead:.2f} x)"
        measured = _divide(_cpu(tables, "wan", shape, over), _cpu(tables, "wan", shape, under))
        yield "wan", f"players' echo, {shape}: {what}", measured, limit, at_most, "x"


def _handshakes(tables):
    ours = _cpu(tables, "handshakes", "joins", players.WAN_AES)
    theirs = _cpu(tables, "handshakes", "joins", players.TLS)
    what = "handshakes per core, open mode / TLS 1.3's"
    yield "handshakes", what, _divide(theirs, ours), 1.5, False, "x"
    checks = tables.get("handshakes", {}).get("checks", {})
    worst = max((checks[kind] for kind in handshakes.FORGED if kind in checks), default=None)
    what = "checking a forged HELLO in token mode, the worse of box and mac1"
    yield "handshakes", what, worst, 5.0, True, "us"


def _idle(tables):
    for count, servers in tables.get("idle", {}).items():
        for name in (players.WAN_AES, players.WAN_CHACHA):
            of_ours = servers.get(name)
            measured = max(of_ours["silent"], of_ours["spoken"]) if of_ours else None
            what = f"user memory per idle player at {count:,}, {name.partition(', ')[2] or 'AES'}"
            yield "idle", what, measured, BYTES_PER_PLAYER, True, "B"


def _path(tables):
    paths = tables.get("path", {}).get("paths", {})
    one = _divide(paths.get(path.TWINPORT), paths.get(path.THEIRS_ONE))
    what = "whole path, window 1: CPU of gate and bus / haproxy's and nats-server's"
    if one is not None:
        what += f" (with one connection to nats-server: {one:.2f} x)"
    measured = _divide(paths.get(path.TWINPORT), paths.get(path.THEIRS))
    yield "path", what, measured, 0.6, True, "x"


def _isolation(tables):
    rows = tables.get("isolation", {})
    beside = {  # shown for comparison
        "beside talk": ("players on a bus of their own", isolation.APART),
        "beside storm": ("idle-class computing instead", isolation.COMPUTING),
    }
    for name in isolation.JUDGED:
        what = f"isolation, {name}: p99 of the LAN / alone"
        note, other = beside.get(name, (None, None))
        if rows.get(other, {}).get("ratio") is not None:
            what += f" ({note}: {rows[other]['ratio']:.2f} x)"
        limit = 2.0 if isolation.ROWS[name][1] else 3.0
        yield "isolation", what, rows.get(name, {}).get("ratio"), limit, True, "x"


def judge(tables):
    """One entry for each target of a requested table."""
    entries = []
    for source in (_echo, _bus, _memory, _pool, _wan, _handshakes, _idle, _path, _isolation):
        for table, what, measured, limit, at_most, unit in source(tables):
            if table not in tables:
                continue
            met = measured is not None and (measured <= limit if at_most else measured >= limit)
            entries.append({
                "target": what, "measured": measured, "limit": limit,
                "at": "most" if at_most else "least", "unit": unit,
                "verdict": "not measured" if measured is None else "met" if met else "MISSED",
            })  # fmt: skip
    return entries


def text(entries):
    lines = ["Targets"]
    for entry in entries:
        measured = "-" if entry["measured"] is None else f"{entry['measured']:.3g} {entry['unit']}"
        limit = f"at {entry['at']} {entry['limit']:.3g} {entry['unit']}"
        lines.append(f"  {entry['verdict']:<12}  {measured:>9}  ({limit})  {entry['target']}")
    return "\n".join(lines)
