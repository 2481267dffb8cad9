#!/usr/bin/env python3
"""The look of the sources, checked: format, width, whole comments and strings, words.

    style.py              every file that git tracks; exit code 1 if anything is found
    style.py --self-test  each rule finds the sample that breaks it, and nothing in the one that does not

The rules are those of docs/HACKING.md; the words are those of docs/glossary.md.
"""

import collections
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

WIDTH = 100
PRODUCT = ("common/", "lanserver/", "lanclient/", "wanserver/", "proto/")
# In these a player, a user or an operator is a person.
PEOPLE = ("wanserver/gate/", "lanclient/backend/", "lanclient/include/twinport/backend.h", "proto/gate.h",
          "examples/")

COMMENT = re.compile(r"/\*.*?\*/", re.S)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"')

# (what is not written, what is written instead, where: a prefix of the path). Comments and pages.
BANNED_WORDS = [
    (r"\bwhoever\b", "the noun: the thread, the caller, the worker", PRODUCT),
    (r"\b(nobody|somebody|everybody)\b", "no thread, a caller, all peers", PRODUCT),
    (r"\b(he|him|his|himself)\b", "the noun, or `it`", PRODUCT),
    (r"\bflush owner\b", "flusher", ("",)),
    (r"(?<!in )(?<!in-)\bflights?\b", "send batch", PRODUCT),
    (r"\bhome\b", "owner worker", PRODUCT),
    (r"\bseats?\b", "worker slot", PRODUCT),
    (r"\bkeepers?\b", "timekeeper", PRODUCT),
    (r"\bguests?\b", "pending connection", PRODUCT),
    (r"\bfarewells?\b", "leave, end", PRODUCT),
    (r"\bgateways?\b", "gate", ("common/", "lanserver/", "lanclient/", "wanserver/gate/")),
    (r"\bdeaf\b", "incompatible", PRODUCT),
    (r"\bdoubtful\b", "uncertain", PRODUCT),
    (r"\bloose\b", "free", PRODUCT),
]
# (identifier or a part of one, what it is called now, where)
BANNED_NAMES = [
    (r"\btp__flight\w*", "tp__send_batch", ("",)),
    (r"\btp__local\w*", "tp__thread_cache", ("",)),
    (r"\w*at_home\w*", "owner", ("",)),
    (r"\btp__life_hold\b", "tp__life_retain", ("",)),
    (r"\w*log_place\w*", "tp_log_site", ("",)),
    (r"\w*_ROOM\b", "..._SIZE", ("",)),
    (r"\btp__guest\w*", "tp__hub_connection", ("",)),
    (r"\btp__(greet|farewell)\b", "tp__hub_register, tp__hub_unregister", ("",)),
    (r"\btp__(gate_)?visit\w*|\bTP__VISIT\w*", "tp__gate_assignment", ("",)),
    (r"\btp__player\w*", "tp__connection", ("",)),
    (r"\btp__welcome\w*", "tp__handshake_job", ("",)),
    (r"\btp__ring\w*", "tp__token_keys", ("",)),
    (r"\b\w*_?stage\b", "fixture", ("tests/",)),
]


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def comments_of(text):
    """(offset, text) of each comment that is not inside a string."""
    plain = STRING.sub(lambda m: '"' + "~" * (len(m.group(0)) - 2) + '"', text)
    return [(m.start(), text[m.start():m.end()]) for m in COMMENT.finditer(plain)]


def code_of(text):
    """The text with comments and strings blanked, of the same length."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    text = STRING.sub(lambda m: '"' + " " * (len(m.group(0)) - 2) + '"', text)
    return COMMENT.sub(blank, text)


def find_wide_lines(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > WIDTH:
            yield number, f"{len(line)} columns, of at most {WIDTH}"


def find_torn_comments(path, text):
    for offset, comment in comments_of(text):
        first = line_of(text, offset)
        lines = comment.split("\n")
        before = text[text.rfind("\n", 0, offset) + 1:offset]
        if len(lines) == 1 or before.strip():
            continue
        for step, line in enumerate(lines[1:], 1):
            if not line.lstrip().startswith("*"):
                yield first + step, "a comment's line that does not begin with `*`"
        if lines[-1].strip() == "*/" and lines[0].strip() != "/*":
            yield first + len(lines) - 1, "`*/` stands alone although the comment begins in its first line"
        if lines[0].strip() == "/*" and lines[-1].strip() != "*/":
            yield first + len(lines) - 1, "`*/` does not stand alone although `/*` does"


def find_torn_headings(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("/* ---- ") and (len(line) != WIDTH or not line.endswith("- */")):
            yield number, f"a heading of {len(line)} columns: it ends in column {WIDTH}"


def find_torn_declarations(path, text):
    lines = text.split("\n")
    for number, (line, following) in enumerate(zip(lines, lines[1:]), 1):
        if re.match(r"\s*(?:struct )?\w+(?: \*+)?\s*/\*.*\*/$", line) and \
                re.match(r"\s+\w+(?:\[\w+\])?;", following):
            yield number, "a comment between a declaration's type and its name"


def find_torn_strings(path, text):
    """Two literals on two lines whose text would fit in one."""
    lines = text.split("\n")
    for number, (line, following) in enumerate(zip(lines, lines[1:]), 1):
        first = re.search(r'"(?:\\.|[^"\\])*"$', line)
        second = re.match(r'\s*("(?:\\.|[^"\\])*")(.*)$', following)
        if first and second and not line.endswith('\\n"') and not line.lstrip().startswith("#") and \
                len(line) + len(second.group(1)) - 2 + len(second.group(2)) <= WIDTH:
            yield number, "a string in two pieces that would fit in one line"
        if first and second and re.search(r'(?<!\\)[A-Za-z,;:]"$', line) and \
                re.match(r'"[A-Za-z]', second.group(1)):
            yield number, "a string whose pieces meet without a space"


def banned(rules, path, text):
    for pattern, instead, where in rules:
        if path.startswith(where):
            for match in re.finditer(pattern, text, re.I if rules is BANNED_WORDS else 0):
                yield match, instead


def find_banned_words(path, text):
    if path == "docs/glossary.md":
        return
    pieces = [(0, text)] if path.endswith(".md") else comments_of(text)
    for offset, piece in pieces:
        for match, instead in banned(BANNED_WORDS, path, piece):
            if re.fullmatch(r"he|him|his|himself", match.group(0), re.I) and path.startswith(PEOPLE):
                continue
            yield line_of(text, offset + match.start()), f'"{match.group(0)}": write {instead}'


def find_banned_names(path, text):
    for match, instead in banned(BANNED_NAMES, path, code_of(text)):
        yield line_of(text, match.start()), f"{match.group(0)}: the name is {instead}"


C_RULES = [find_wide_lines, find_torn_comments, find_torn_headings, find_torn_declarations,
           find_torn_strings, find_banned_words, find_banned_names]
PAGE_RULES = [find_banned_words]


def check_text(path, text):
    rules = C_RULES if path.endswith((".c", ".h")) else PAGE_RULES if path.endswith(".md") else []
    return [f"{path}:{number}: {what}" for rule in rules for number, what in rule(path, text)]


def check_names(paths):
    """No two files of the product have one name: a reader who sees it in a backtrace knows it."""
    files = collections.defaultdict(list)
    for path in paths:
        if path.startswith(PRODUCT) and path.endswith(".c") and not path.startswith("common/os/"):
            files[os.path.basename(path)].append(path)
    return [f"{' and '.join(same)}: one name for two files" for same in files.values() if len(same) > 1]


def check_format(paths):
    """clang-format, on every C file, several at once."""
    def run(some):
        made = subprocess.run(["clang-format", "--dry-run", "--Werror", *some], text=True,
                              stderr=subprocess.PIPE)
        return re.findall(r"^(\S+:\d+):\d+: error: code should be", made.stderr, re.M) or (
            [made.stderr] if made.returncode else [])
    parts = [paths[i::8] for i in range(8)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [place for places in pool.map(run, [part for part in parts if part]) for place in places]
    return [f"{place}: not as clang-format writes it" for place in sorted(set(found))]


def check_tree():
    paths = subprocess.run(["git", "ls-files"], check=True, text=True, stdout=subprocess.PIPE).stdout.split()
    paths = [path for path in paths if os.path.exists(path)]
    found = check_names(paths)
    for path in paths:
        if path.endswith((".c", ".h", ".md")):
            found += check_text(path, pathlib.Path(path).read_text(encoding="utf-8"))
    found += check_format([path for path in paths if path.endswith((".c", ".h"))])
    for line in found:
        print(line)
    print(f"style: {len(paths)} files, {len(found)} findings")
    return 1 if found else 0


SAMPLES = [  # rule, what it must find, what it must let be
    (find_wide_lines, "int " + "x" * WIDTH + ";", "int x;"),
    (find_torn_comments, "/* one\n * two\n */\n", "/*\n * one\n */\n/* one\n * two */\n"),
    (find_torn_comments, "/* one\n two */\n", "int x; /* one\n          two */\n"),
    (find_torn_comments, "/*\n * one */\n", '"/*\\n"'),
    (find_torn_headings, "/* ---- of old ---- */", "/* ---- new " + "-" * (WIDTH - 15) + " */"),
    (find_torn_declarations, "    tp_address /* where */\n        bound;\n", "    int x; /* one */\n    int y;\n"),
    (find_torn_strings, 'say("one "\n    "two");', 'say("one\\n"\n    "two");'),
    (find_torn_strings, 'say("' + "x" * 80 + '"\n    "' + "y" * 80 + '");',
     'say("' + "x" * 80 + ' "\n    "' + "y" * 80 + '");'),
    (find_banned_words, "/* He sits in a seat. */", "int seat; /* a worker slot */"),
    (find_banned_names, "int owned_at_home;", "int owner; /* owned_at_home */"),
]


def self_test():
    failed = 0
    for rule, bad, good in SAMPLES:
        if not list(rule("common/sample.c", bad)):
            failed += 1
            print(f"{rule.__name__} does not find: {bad!r}")
        if list(rule("common/sample.c", good)):
            failed += 1
            print(f"{rule.__name__} finds: {good!r}")
    twice = ["common/core/one/same.c", "wanserver/two/same.c"]
    if not check_names(twice) or check_names(["tests/unit/same.c"] + twice[:1]):
        failed += 1
        print("check_names does not tell one name from two")
    print(f"style: {len(SAMPLES) + 1} samples, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    os.chdir(pathlib.Path(__file__).resolve().parents[2])
    sys.exit(self_test() if sys.argv[1:] == ["--self-test"] else check_tree())
