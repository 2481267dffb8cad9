"""Installs a build into a temporary prefix, moves the prefix, and builds and runs a consumer against it.

Twinport is found by pkg-config, by CMake, and as a part of the consumer's own tree; each time as C, as C++,
and with the LAN half alone, which must not need OpenSSL.

    install.py cmake=PROGRAM source=DIR build=DIR cc=COMPILER cxx=COMPILER flags=FLAGS toolchain=FILE
               crypto=libcrypto's FILE nm=PROGRAM
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

given = dict(word.split("=", 1) for word in sys.argv[1:])
cmake, build, cc, cxx, toolchain = (given[name] for name in ["cmake", "build", "cc", "cxx", "toolchain"])
flags = given["flags"].split()
suffix = os.environ["TWINPORT_EXE"]
emulator = [word for word in [os.environ["TWINPORT_EMULATOR"]] if word]
WARNINGS = "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror".split()


def how_it_ended(code):
    """The exit code, or the name of the signal, which subprocess gives as a negative number."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def run_apart(*command, **options):
    """Runs a command, keeps its two output streams apart, and prints how it ended and how long it took."""
    command = [str(word) for word in command]
    print("$", *command, flush=True)  # after a time-out this is the last line
    began = time.monotonic()
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                         encoding="utf-8", errors="replace", **options)
    print(f"  {how_it_ended(ran.returncode)} after {time.monotonic() - began:.1f} s", flush=True)
    return ran


def fail(ran, why):
    print(f"---- standard output\n{ran.stdout}\n---- standard error\n{ran.stderr}\n----", flush=True)
    sys.exit(why)


def run(*command, **options):
    ran = run_apart(*command, **options)
    if ran.returncode != 0:
        fail(ran, f"{command[0]}: {how_it_ended(ran.returncode)}")
    return ran.stdout


def write_everything(prefix, source):
    """Writes a header that includes every installed header, so that each must find its own includes."""
    include = prefix / "include"
    roots = [(include, "twinport"), (include / "twinport-proto", "proto")]
    names = [path.relative_to(root) for root, folder in roots for path in sorted((root / folder).glob("*.h"))]
    assert names, f"no header below {include}"
    (source / "everything.h").write_text("".join(f'#include "{name.as_posix()}"\n' for name in names))
    print(len(names), "headers")


def check_no_hooks(prefix):
    """What only tests use is neither declared in an installed header nor defined in a library."""
    texts = {path: path.read_text() for path in sorted((prefix / "include").rglob("*.h"))}
    for path in sorted(prefix.rglob("lib*.a")):
        texts[path] = "\n".join(line.split()[-1] for line in run(given["nm"], path).splitlines() if " T " in line)
    assert any(path.suffix == ".a" and "tp_" in text for path, text in texts.items()), "no symbols"
    hook = re.compile(r"\b\w+_(?:tests?|hook)_\w+|\bfor (?:a )?tests?\b|\btest vectors?\b"
                      r"|\w+_set_ephemeral|\w+_observe\b", re.IGNORECASE)
    found = [f"{path}: {name}" for path, text in texts.items() for name in hook.findall(text)]
    if found:
        sys.exit("for tests, and installed:\n" + "\n".join(found))
    print(len(texts), "headers and libraries without a test hook")


def expect_version(*command, version):
    """Compares standard output only: Wine or a sanitizer may print to standard error."""
    ran = run_apart(*emulator, *command)
    said = ran.stdout.strip()
    if ran.returncode != 0 or said != version:
        fail(ran, f"{command[0]}: {how_it_ended(ran.returncode)}, printed '{said}', expected '{version}'")
    if ran.stderr:
        print(ran.stderr, flush=True)


def pkg_config(prefix, *words):
    pc = str(next(prefix.glob("**/pkgconfig")))
    # A cross build must not find this system's packages, which have another libcrypto.
    places = {"PKG_CONFIG_LIBDIR": pc, "PKG_CONFIG_PATH": ""} if toolchain else {"PKG_CONFIG_PATH": pc}
    return run("pkg-config", *words, env=dict(os.environ, **places)).split()


def by_pkg_config(prefix, source, work):
    lan, wan = ["lanserver", "lanclient", "twinport-proto"], ["wanserver", "twinport-secure"]
    version = pkg_config(prefix, "--modversion", "twinport-core")[0]
    static = ["-static"] if suffix == ".exe" else []
    crypto = [f"-L{pathlib.Path(given['crypto']).parent}"] if toolchain else []
    for compiler, standard, file, names in [(cc, "-std=c11", "consumer.c", lan + wan),
                                            (cxx, "-std=c++17", "consumer.cpp", lan + wan),
                                            (cc, "-std=c11", "lan.c", lan)]:
        options = pkg_config(prefix, "--cflags", "--libs", *names)
        if ("-lcrypto" in options) != (names != lan):
            sys.exit(f"libcrypto: {names}: {options}")
        program = work / (file.replace(".", "_") + suffix)
        run(compiler, standard, *WARNINGS, *flags, source / file, "-o", program, *options, *crypto, *static)
        expect_version(program, version=version)
    return version


def by_cmake(source, build_folder, version, embedded, *options):
    options += (f"-DCMAKE_C_FLAGS={' '.join(flags)}", f"-DCMAKE_CXX_FLAGS={' '.join(flags)}")
    if toolchain:
        options += (f"-DCMAKE_TOOLCHAIN_FILE={toolchain}",)
    else:
        options += (f"-DCMAKE_C_COMPILER={cc}", f"-DCMAKE_CXX_COMPILER={cxx}")
    configure = [cmake, "-G", "Ninja", "-S", source, *options]
    run(*configure, "-B", build_folder / "all", "-DLAN_ONLY=OFF")
    run(cmake, "--build", build_folder / "all", "--target", "consumer_c", "consumer_cpp")
    for language in ["c", "cpp"]:
        expect_version(build_folder / "all" / f"consumer_{language}{suffix}", version=version)
    run(*configure, "-B", build_folder / "lan", "-DLAN_ONLY=ON")
    if not embedded:  # an embedded build has compiled it already
        run(cmake, "--build", build_folder / "lan", "--target", "consumer_lan")
        expect_version(build_folder / "lan" / f"consumer_lan{suffix}", version=version)


with tempfile.TemporaryDirectory(prefix="twinport-install-") as folder:
    work = pathlib.Path(folder)
    run(cmake, "--install", build, "--prefix", work / "first")
    prefix = (work / "first").rename(work / "moved")  # no file may contain the path of the installation
    source = pathlib.Path(shutil.copytree(pathlib.Path(__file__).parent / "consumer", work / "source"))
    write_everything(prefix, source)
    check_no_hooks(prefix)
    version = by_pkg_config(prefix, source, work)
    # In a cross build CMake searches CMAKE_FIND_ROOT_PATH only; elsewhere the setting has no effect.
    by_cmake(source, work / "installed", version, False,
             f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_FIND_ROOT_PATH={prefix if toolchain else ''}")
    by_cmake(source, work / "embedded", version, True, f"-DTWINPORT_SOURCE={given['source']}")
    programs = sorted(path.name for path in (prefix / "bin").iterdir())
    print("programs:", *programs)
    for program in ["lanserver", "wanserver"]:
        expect_version(prefix / "bin" / f"{program}{suffix}", "--version", version=f"{program} {version}")
