#!/usr/bin/env python3
"""docs/settings.md, the page of all settings: made from what the programs print with --print-config.

    settings.py SOURCE            compares the page with the programs' tables; exit code 1 if they differ
    settings.py SOURCE --write    writes the page

The programs are those in TWINPORT_BIN, as for the system tests.
"""

import difflib
import os
import pathlib
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from fixture import run  # noqa: E402

PROGRAMS = ("lanserver", "wanserver")
PAGE = "docs/settings.md"
HEAD = """# Settings

Every setting of the configuration files, with its range and default. This page is made from the tables of the
programs, which also make [lanserver.conf](../lanserver/lanserver.conf) and
[wanserver.conf](../wanserver/wanserver.conf): change the tables, not the page ([HACKING.md](HACKING.md#settings)).
Which settings depend on each other is in [operations.md](operations.md#settings-that-depend-on-each-other).

A session is a connection: of a service with lanserver, of a player with wanserver. Sizes have no suffix, or k, m or g;
times end with ms, s, min or h. A default in *italics* is an example: the setting is required.
"""


def read_settings(lines):
    """[(group, name, default, values, help)] of an example configuration."""
    settings, group, comment = [], None, []
    for line in lines:
        heading = re.match(r"# ---- (.*?) -+$", line)
        setting = re.match(r"(#?)(\w+) = (.*)$", line)
        if heading:
            group = heading.group(1)
        elif line.startswith("# "):
            comment.append(line[2:])
        elif setting:
            values = comment.pop().removeprefix("Value: ").removesuffix(".")
            default = code(setting.group(3)) if setting.group(1) else f"*{setting.group(3)}*"
            settings.append((group, setting.group(2), default, values, " ".join(comment)))
            comment = []
    return settings


def code(text):
    return f"`{text}`" if text.strip() else "empty"


def cell(text):
    """Ranges in short: 'from 4k to 1m' without the explanation of the kind, which the head has."""
    text = re.sub(r"a number of bytes such as [^,]*, [^,]* or [^,]*, |a whole number "
                  r"|a time with its unit such as .*?min, ", "", text)
    text = re.sub(r"^from (\S+) to (\S+?)(\. Unit: |$)", r"\1 to \2\3", text)
    return text.replace(". Unit: ", " ").replace("|", "\\|")


def rows(settings):
    """The lines of the page for one program."""
    group = None
    for title, name, default, values, text in settings:
        if title != group:
            group = title
            yield ""
            yield f"### {title}"
            yield ""
            yield "| setting | default | value | meaning |"
            yield "|---|---|---|---|"
        yield f"| `{name}` | {default} | {cell(values)} | {cell(text)} |"


def make_page():
    lines = HEAD.splitlines()
    for program in PROGRAMS:
        printed = run(program, "--print-config")
        settings = read_settings(printed.lines)
        if printed.code != 0 or len(settings) < 20:
            sys.exit(f"{program} --print-config: code {printed.code}, {len(settings)} settings")
        lines += ["", f"## {program}", *rows(settings)]
    return [line + "\n" for line in lines]


def main():
    source = pathlib.Path(sys.argv[1])
    made = make_page()
    if "--write" in sys.argv:
        (source / PAGE).write_text("".join(made), encoding="utf-8")
        return
    stands = (source / PAGE).read_text(encoding="utf-8").splitlines(keepends=True)
    if stands != made:
        sys.stdout.writelines(difflib.unified_diff(stands, made, PAGE, "the tables"))
        sys.exit(f"{PAGE} differs from the tables: make it again (docs/HACKING.md, Settings)")


if __name__ == "__main__":
    main()
