"""Compiler and linker settings of the programs that make a fault harder to exploit.

    hardening.py fortified|plain

`fortified`: an optimised build without sanitizers, which uses the C library's checking functions. On Linux
readelf shows the settings; for Windows the header's flags and the symbol table are read here.
"""
import os
import shutil
import struct
import subprocess
import sys

from fixture import WINDOWS, cases, expect, expect_equal, program_path, skip

SHIPPED = ("lanserver", "wanserver", "tp-token")
FORTIFIED = sys.argv.pop(1) == "fortified"

HIGH_ENTROPY_VA, DYNAMIC_BASE, NX_COMPAT = 0x20, 0x40, 0x100  # PE's DllCharacteristics


def readelf(path, *options):
    if not shutil.which("readelf"):
        skip("no readelf")
    ran = subprocess.run(["readelf", "-W", *options, path], stdout=subprocess.PIPE, check=True,
                         encoding="utf-8", errors="replace", env=dict(os.environ, LC_ALL="C"))
    return ran.stdout


def elf_programs():
    """Every program of this build, tests included, except the fuzzers, which have another compiler."""
    if WINDOWS:
        skip("no ELF")
    folder = os.environ["TWINPORT_BIN"]
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("fuzz."):
            continue
        with open(os.path.join(folder, name), "rb") as file:
            if file.read(4) == b"\x7fELF":
                found.append(os.path.join(folder, name))
    expect({os.path.basename(path) for path in found} >= set(SHIPPED), f"all among {found}")
    return found


def imports(path):
    """The names that a program imports from shared libraries, without versions."""
    rows = [line.split() for line in readelf(path, "--dyn-syms").splitlines()]
    return {row[7].partition("@")[0] for row in rows if len(row) > 7 and row[6] == "UND"}


def case_symbols_are_bound_at_start():
    for path in elf_programs():
        lines = readelf(path, "--dynamic").splitlines()
        flags = [line for line in lines if "(FLAGS" in line or "(BIND_NOW)" in line]
        expect(any("NOW" in line for line in flags), f"{path}: BIND_NOW among {flags}")


def case_relocated_tables_are_read_only():
    for path in elf_programs():
        segments = readelf(path, "--program-headers")
        expect("GNU_RELRO" in segments, f"{path}: GNU_RELRO in\n{segments}")


def case_stacks_are_guarded():
    for name in SHIPPED:
        path = program_path(name)
        if WINDOWS:
            with open(path, "rb") as file:
                expect(b"__stack_chk_fail" in file.read(), f"{name}: __stack_chk_fail")
        else:
            expect("__stack_chk_fail" in imports(path), f"{name}: __stack_chk_fail")


def case_the_c_library_checks_sizes():
    if not FORTIFIED:
        skip("not an optimised build, or one with a sanitizer")
    if WINDOWS:
        skip("mingw-w64 checks few functions, and which of them are used depends on the compiler")
    for name in SHIPPED:
        checked = {symbol for symbol in imports(program_path(name)) if symbol.endswith("_chk")}
        expect("__snprintf_chk" in checked, f"{name}: __snprintf_chk among {checked}")


def case_windows_addresses_are_randomised():
    if not WINDOWS:
        skip("no Win32 program")
    wanted = HIGH_ENTROPY_VA | DYNAMIC_BASE | NX_COMPAT
    for name in SHIPPED:
        with open(program_path(name), "rb") as file:
            header = file.read(4096)
        start, = struct.unpack_from("<I", header, 0x3C)
        expect_equal(header[start:start + 4], b"PE\0\0", f"{name}: a PE header")
        flags, = struct.unpack_from("<H", header, start + 24 + 70)
        expect_equal(flags & wanted, wanted, f"{name}: DllCharacteristics {flags:#x}")


cases(globals())
