#!/usr/bin/env python3
"""The tables of docs/statistics.md, made from the lists of counters and the comments of the public headers.

    statistics_page.py SOURCE           checks the page; exit code 1 if a table differs
    statistics_page.py SOURCE --write   writes the tables into the page

SOURCE is the project's folder. A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`. A counter without
a meaning is an error: in a public struct it is the comment of the field, else the comment in the list.
"""
import pathlib
import re
import sys

PAGE = "docs/statistics.md"
SOURCE = pathlib.Path(sys.argv[1])
ENTRY = re.compile(r"(\w+)\(([^()]*)\)(?:\s*/\*\s*(.*?)\s*\*/)?")
FIELD = re.compile(r"(?:/\*(?P<before>(?:(?!\*/).)*)\*/\s*)?uint64_t (?P<name>\w+)(?:\[\w+\])?;"
                   r"(?:[ ]*/\*(?P<after>(?:(?!\*/).)*)\*/)?", re.S)


class Wrong(Exception):
    pass


def read(path):
    return (SOURCE / path).read_text(encoding="utf-8")


def read_list(path, macro):
    """[(kind, [argument, ...], comment)] of an X-macro."""
    found = re.search(rf"#define {macro}\(.*?\)((?:.*\\\n)*.*\n)", read(path))
    if not found:
        raise Wrong(f"{path} has no {macro}")
    entries = ENTRY.findall(found.group(1).replace("\\\n", "\n"))
    return [
        (kind, [argument.strip().strip('"') for argument in arguments.split(",")], meaning)
        for kind, arguments, meaning in entries
    ]


def read_struct(path, struct):
    """{field: comment} of a public struct."""
    body = re.search(rf"typedef struct {struct} {{(.*?)\n}} {struct};", read(path), re.S).group(1)
    meanings = {}
    for field in FIELD.finditer(body):
        words = [word for word in (field["after"] or field["before"] or "").split() if word != "*"]
        meanings[field["name"]] = " ".join(words)
    return meanings


def meaning_of(name, meaning):
    if not meaning or meaning.startswith("..."):
        raise Wrong(f"{name}: its comment has to say, without the line above, what is counted")
    first = meaning.split()[0]  # a sentence begins with a capital letter, a cell of the table does not
    lower = first[1:] == first[1:].lower()
    return ((first[0].lower() if lower else first[0]) + meaning[1:]).rstrip(".").replace("|", "\\|")


def table(heads, rows):
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += ["|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|" for cells in rows]
    return "".join(f"{line}\n" for line in lines)


def public_rows(listed, struct, printed):
    meanings = read_struct(*struct)
    for kind, (name, *_), _ in read_list(*listed):
        yield [f"`{name}`", meaning_of(name, meanings[name]), *printed(kind, name)]


def server_table():
    bus = {name: text for _, (name, text), _ in read_list("lanserver/bus/hub_stats.c", "HUB_SERVER_STATS")}
    wan = {name for _, (name,), _ in read_list("wanserver/wan_stats.h", "TP__WAN_SERVER_STATS")}
    rows = public_rows(
        ("common/core/engine/counters.h", "TP__SERVER_STATS"),
        ("common/include/twinport/server.h", "tp_server_stats"),
        lambda kind, name: [f"`{bus[name]}`" if name in bus else "", f"`wan {name}`" if name in wan else ""],
    )
    return table(["field", "meaning", "the bus's answer", "wanserver's line"], rows)


def wan_table():
    rows = public_rows(
        ("wanserver/wan_stats.h", "TP__WAN_STATS"),
        ("wanserver/include/twinport/wanserver.h", "tp_wanserver_stats"),
        lambda kind, name: ["" if kind == "NOW" else f"`wan {name}`"],
    )
    return table(["field", "meaning", "wanserver's line"], rows)


def hub_table():
    rows = []
    for kind, (name, *_, text), meaning in read_list("lanserver/bus/hub.h", "TP__HUB_STATS"):
        rows.append([f"`{text}`", meaning_of(name, meaning)])
        if kind == "REASONS":
            rows.append([f"`{text}.REASON`", "its parts, one for each reason that occurred"])
    return table(["name", "meaning"], rows)


def gate_table():
    words = {"dropped": "TP__GATE_DROPS", "refused": "TP__GATE_REFUSALS"}
    rows = []
    for kind, (name, *_), meaning in read_list("wanserver/gate/gate_api.h", "TP__GATE_STATS"):
        if kind == "PARTS":
            reasons = [word for _, (_, word), _ in read_list("wanserver/gate/gate_api.h", words[name])]
            listed = ", ".join(f"`{reason}`" for reason in reasons)
            rows.append([f"`gate {name}.REASON`", f"{meaning_of(name, meaning)}: {listed}"])
        else:
            rows.append([f"`gate {name}`", meaning_of(name, meaning)])
    return table(["line", "meaning"], rows)


def library_table(path, macro, header, struct):
    rows = public_rows((path, macro), (header, struct), lambda kind, name: [])
    return table(["field", "meaning"], rows)


def main():
    tables = {
        "server": server_table(),
        "wan": wan_table(),
        "hub": hub_table(),
        "gate": gate_table(),
        "lanclient": library_table("lanclient/client/client.h", "TP__CLIENT_STATS",
                                   "lanclient/include/twinport/lanclient.h", "tp_lanclient_stats"),
        "backend": library_table("lanclient/backend/backend_internal.h", "TP__BACKEND_STATS",
                                 "lanclient/include/twinport/backend.h", "tp_backend_stats"),
    }  # fmt: skip
    page = read(PAGE)
    written = page
    for name, text in tables.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise Wrong(f"{PAGE} has no `{begin.strip()}` or no `{end}`")
        before, rest = written.split(begin)
        held, after = rest.split(end)
        if held != f"\n{text}\n":
            print(f"{PAGE}: the table `{name}` is not that of the lists")
        written = f"{before}{begin}\n{text}\n{end}{after}"
    if "--write" in sys.argv:
        (SOURCE / PAGE).write_text(written, encoding="utf-8")
    elif written != page:
        raise Wrong("write the page anew: tests/statistics/statistics_page.py . --write")


try:
    main()
except Wrong as wrong:
    sys.exit(f"statistics_page.py: {wrong}")
