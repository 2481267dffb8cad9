#!/usr/bin/env python3
"""Checks the architecture: which folder may include which, and which may call which.

    layers.py SOURCE NM OBJECTS...

SOURCE is the project's folder. OBJECTS are the object files of common/core and common/os, whose
calls are read with NM, the compiler's nm; of common/os they are those of the build's system. Each violation is printed on a line; the exit code is then 1.

A folder of the product that is on no list below is an error: add a new folder to the list first.
What a list allows is a folder, with all its headers, or one header.
"""

import os
import pathlib
import re
import subprocess
import sys

CORE = {  # what a folder of common/core may include and call, beside itself, os and public headers
    "base": set(),
    "memory": {"base"},
    "packet": {"base", "memory"},
    "log": {"base", "memory"},
    "config": {"base", "memory", "log"},
    "engine": {"base", "memory", "packet", "log"},
    "session": {"base", "memory", "packet", "log", "engine"},
    "server": {"base", "memory", "packet", "log", "engine", "session"},
}
PUBLIC = "common/include/twinport"
TOOLS = {PUBLIC, "common/os", "common/core/base", "common/core/memory"}  # any part may use them
ENGINE = {f"common/core/{name}" for name in ("packet", "log", "engine")}
# What the WAN's layer sees of the core: no structure of the engine, and no packet's.
LAYER = {"common/core/log", "common/core/engine/layer.h"}
FOLDERS = {  # the rest of the product, each with what it may include beside itself
    PUBLIC: set(),
    "common/os": {PUBLIC},
    "common/os/posix": {PUBLIC, "common/os"},
    "common/os/linux": {PUBLIC, "common/os", "common/os/posix"},
    "common/os/win32": {PUBLIC, "common/os"},
    "common/bus": TOOLS,
    "proto": {PUBLIC},
    "lanserver/include/twinport": {PUBLIC},
    "lanclient/include/twinport": {PUBLIC},
    "wanserver/include/twinport": {PUBLIC, "proto"},
    "lanserver": {PUBLIC, "lanserver/include/twinport"},
    "lanserver/bus": TOOLS | ENGINE | {"common/bus", "proto", "lanserver/include/twinport"},
    "lanserver/program": TOOLS | {"common/core/config", "proto", "lanserver/bus"},
    "lanclient/client": TOOLS | ENGINE | {"common/bus", "proto", "lanclient/include/twinport"},
    "lanclient/backend":
        TOOLS | {"common/core/log", "proto", "lanclient/client", "lanclient/include/twinport"},
    # wan.h, the parts' common state, stands at the top; so do the public calls, which use the parts.
    "wanserver":
        TOOLS | LAYER | {"proto", "wanserver/guard", "wanserver/handshake",
                          "wanserver/include/twinport"},
    "wanserver/guard": TOOLS | {"proto", "wanserver/include/twinport"},
    "wanserver/handshake":
        TOOLS | LAYER | {"proto", "wanserver", "wanserver/guard", "wanserver/include/twinport"},
    "wanserver/records": TOOLS | LAYER | {"proto", "wanserver"},
    "wanserver/files": TOOLS | {"common/core/config", "proto"},
    "wanserver/gate":
        TOOLS | {"common/core/log", "proto", "lanclient/client", "lanclient/include/twinport"},
    "wanserver/program":
        TOOLS | {"common/core/config", "proto", "wanserver", "wanserver/files", "wanserver/gate",
                 "wanserver/handshake", "wanserver/include/twinport"},
}  # fmt: skip
for part, below in CORE.items():
    FOLDERS[f"common/core/{part}"] = (
        {PUBLIC, "common/os", "proto"} | {f"common/core/{name}" for name in below}
    )
FILES = {  # files that may include less than their folder may, beside themselves
    "common/core/engine/layer.h": {PUBLIC, "proto", "common/core/engine/session_calls.h"},
    "common/core/engine/session_calls.h": {PUBLIC, "common/core/engine/references.h"},
    "common/core/engine/references.h": {"common/core/base"},
}
# One header of os has an implementation for each system, under the same name.
VARIANTS = {"common/os/posix", "common/os/linux", "common/os/win32"}


def product_files(source):
    for part in ("common", "proto", "lanserver", "lanclient", "wanserver"):
        for path in sorted((source / part).rglob("*.[ch]")):
            yield path.relative_to(source)


def find_include(name, includer, files):
    """The product's file that an include names; None for one of the system."""
    places = [includer.parent / name, pathlib.Path(name), pathlib.Path("common") / name]
    places += [pathlib.Path(root) / "include" / name
               for root in ("common", "lanserver", "lanclient", "wanserver")]  # fmt: skip
    for place in places:
        place = pathlib.Path(os.path.normpath(place))
        if place in files:
            return place
    return None


def read_includes(source, files):
    """{file: files of the product that it includes}, and a list of includes that name no file."""
    includes, wrong = {}, []
    for path in files:
        text = (source / path).read_text(encoding="utf-8")
        includes[path] = set()
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE):
            found = find_include(name, path, files)
            if found:
                includes[path].add(found)
            else:
                wrong.append(f'{path}: include of "{name}", which is not a file of the product')
    return includes, wrong


def find_circles(edges):
    """Groups of nodes that reach each other (Tarjan 1972)."""
    order, low, stack, circles = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(group) > 1 or node in edges.get(node, ()):
                circles.append(sorted(group))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return circles


def folder_of(path):
    return path.parent.as_posix()


def check_folders(files):
    for path in files:
        if folder_of(path) not in FOLDERS:
            yield f"{path}: its folder is on no list in tests/layers/layers.py"


def check_names(files):
    """Base names are unique, except for public headers and variants of one header of common/os."""
    seen = {}
    for path in files:
        if not folder_of(path).endswith("/twinport"):
            seen.setdefault(path.name, []).append(path)
    for paths in seen.values():
        if len(paths) > 1 and not all(folder_of(path) in VARIANTS for path in paths):
            yield f"these have one name: {', '.join(map(str, paths))}"


def check_includes(includes):
    for name in sorted(FILES.keys() - {path.as_posix() for path in includes}):
        yield f"{name} has a rule in tests/layers/layers.py, and does not exist"
    for path, others in includes.items():
        mine, allowed = folder_of(path), FILES.get(path.as_posix())
        if allowed is None:
            allowed = FOLDERS.get(mine, set()) | {mine}
        else:
            mine = path
        for other in sorted(others):
            its = folder_of(other)
            if its not in allowed and other.as_posix() not in allowed:
                yield f"{path}: includes {other}; {mine} may not include {its}"


def read_calls(nm, objects, part):
    """{file of the part: {file that it calls: function names}}, from the objects' symbols."""
    defined, used = {}, {}
    for path in objects:
        plain = os.path.normpath(path).replace("\\", "/")
        name = re.search(part + r"(\w+/\w+)\.c\.o(bj)?$", plain)
        if not name:
            continue
        name = name.group(1) + ".c"
        listing = subprocess.run([nm, path], capture_output=True, text=True, check=True).stdout
        used[name] = set()
        for fields in map(str.split, listing.splitlines()):
            if len(fields) == 3 and fields[1] in "TDBRVWC":
                defined.setdefault(fields[2], name)
            elif fields[:1] == ["U"]:
                used[name].add(fields[1])
    calls = {}
    for name, symbols in used.items():
        calls[name] = {}
        for symbol in symbols:
            owner = defined.get(symbol, name)
            if owner != name:
                calls[name].setdefault(owner, set()).add(symbol)
    return calls


def check_calls(calls):
    for name, others in sorted(calls.items()):
        mine = name.split("/")[0]
        for other, symbols in sorted(others.items()):
            its = other.split("/")[0]
            if mine != its and its not in CORE[mine]:
                yield (f"common/core/{name}: calls {', '.join(sorted(symbols))} of {other}; "
                       f"core/{mine} may not call core/{its}")  # fmt: skip
    for group in find_circles(calls):
        yield f"common/core: files call each other in a circle: {', '.join(group)}"


def check_os_calls(calls):
    """In a system's folder of common/os no more than two files call each other."""
    for system in sorted({name.split("/")[0] for name in calls}):
        inside = {name: {other for other in others if other.startswith(system + "/")}
                  for name, others in calls.items() if name.startswith(system + "/")}  # fmt: skip
        for group in find_circles(inside):
            if len(group) > 2:
                yield f"common/os: files call each other in a circle: {', '.join(group)}"


def main():
    source, nm, objects = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    files = list(product_files(source))
    known = set(files)
    includes, wrong = read_includes(source, known)
    calls = read_calls(nm, objects, "/core/")
    os_calls = read_calls(nm, objects, r"/tp_os\.dir/")
    core = sum(1 for path in files if path.suffix == ".c" and "core" in path.parts)
    if len(calls) != core:
        wrong.append(f"{len(calls)} objects of common/core for {core} sources")
    built = {name.split("/")[0] for name in os_calls}
    os_files = sum(1 for path in files if path.suffix == ".c" and path.parent.name in built
                   and path.parts[:2] == ("common", "os"))  # fmt: skip
    if not built or len(os_calls) != os_files:
        wrong.append(f"{len(os_calls)} objects of common/os for {os_files} sources")
    wrong += [*check_folders(files), *check_names(files), *check_includes(includes)]
    for group in find_circles({a.as_posix(): {b.as_posix() for b in includes[a]} for a in files}):
        wrong.append(f"files include each other in a circle: {', '.join(group)}")
    wrong += [*check_calls(calls), *check_os_calls(os_calls)]
    if not any(calls.values()) or not any(os_calls.values()):
        wrong.append(f"{nm} shows no calls: it cannot read the symbols of the objects")
    print("\n".join(wrong))
    called = sum(len(others) for others in [*calls.values(), *os_calls.values()])
    print(f"{len(files)} files, {sum(map(len, includes.values()))} includes, "
          f"{called} calls between files of common/core and common/os: {len(wrong)} wrong")  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
