#!/usr/bin/env python3
"""Doxygen's input filter: prints a header with its plain comments marked as documentation.

    doxygen_comments.py HEADER

A comment that begins a line documents what follows it; one behind code on the same line documents that; the
first one documents the file. Headings (`/* ---- sending ---- */`) become plain text. What Doxygen would take
for a command or a tag is escaped, and lines that are indented by more than one space keep their layout.
"""

import pathlib
import re
import sys

COMMENT = re.compile(r"/\*(.*?)\*/", re.S)


def escaped(text):
    return re.sub(r"([\\@<>#%&])", r"\\\1", text)


def body(text):
    """The comment's lines without their stars; layouts as Doxygen's verbatim blocks."""
    lines = [re.sub(r"^\s*\* ?", "", line) if number else line.lstrip(" ")
             for number, line in enumerate(text.split("\n"))]
    made, layout = [], False
    for line in lines:
        indented = line.startswith("  ") and line.strip() != ""
        if indented and not layout:
            made.append("@verbatim")
        if layout and not indented and line.strip():
            made.append("@endverbatim")
        layout = indented or (layout and not line.strip())
        made.append(line.rstrip() if layout else escaped(line.rstrip()))
    if layout:
        made.append("@endverbatim")
    return "\n".join(made)


def marked(source, path):
    first = True

    def mark(match):
        nonlocal first
        text = match.group(1)
        before = source[source.rfind("\n", 0, match.start()) + 1:match.start()]
        if re.match(r" ---", text):
            return ""
        if first:
            first = False
            return f"/** @file {path.name}\n{body(text)}\n*/"
        if before.strip():
            return f"/**< {escaped(' '.join(text.split()))} */"
        return f"/** {body(text)}\n*/"

    return COMMENT.sub(mark, source)


header = pathlib.Path(sys.argv[1])
sys.stdout.write(marked(header.read_text(encoding="utf-8"), header))
