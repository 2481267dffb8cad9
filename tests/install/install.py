"""Installs a build into a temporary prefix, moves it, and builds and runs a consumer against it,
once found by pkg-config and once by CMake, and once with the sources in the consumer's own tree;
each as C and as C++.

    install.py cmake=PROGRAM source=DIR build=DIR cc=COMPILER cxx=COMPILER flags=FLAGS toolchain=FILE
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

given = dict(word.split("=", 1) for word in sys.argv[1:])
cmake, build, cc, cxx, toolchain = (given[name] for name in ["cmake", "build", "cc", "cxx", "toolchain"])
flags = given["flags"].split()
suffix = os.environ["TWINPORT_EXE"]
emulator = [word for word in [os.environ["TWINPORT_EMULATOR"]] if word]
WARNINGS = "-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Werror".split()


def run(*command, **options):
    ran = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, **options)
    print("$", *command, "\n" + ran.stdout if ran.returncode else "")
    if ran.returncode != 0:
        sys.exit(f"exit code {ran.returncode}")
    return ran.stdout


def write_everything(prefix, source):
    """One header that includes every installed one: each must find what it includes in its turn."""
    include = prefix / "include"
    roots = [(include, "twinport"), (include / "twinport-proto", "proto")]
    names = [path.relative_to(root) for root, folder in roots for path in sorted((root / folder).glob("*.h"))]
    assert names, f"no header below {include}"
    (source / "everything.h").write_text("".join(f'#include "{name.as_posix()}"\n' for name in names))
    print(len(names), "headers")


def expect_version(program, version):
    said = run(*emulator, program).strip()
    if said != version:
        sys.exit(f"{program} says '{said}', expected '{version}'")


def by_pkg_config(prefix, source, work):
    pc = next(prefix.glob("**/pkgconfig"))
    environment = dict(os.environ, PKG_CONFIG_LIBDIR=str(pc), PKG_CONFIG_PATH="")
    names = ["lanserver", "lanclient", "twinport-proto"]
    options = run("pkg-config", "--cflags", "--libs", *names, env=environment).split()
    version = run("pkg-config", "--modversion", "twinport-core", env=environment).strip()
    static = ["-static"] if suffix == ".exe" else []
    for compiler, standard, file in [(cc, "-std=c11", "consumer.c"), (cxx, "-std=c++17", "consumer.cpp")]:
        program = work / (file.replace(".", "_") + suffix)
        run(compiler, standard, *WARNINGS, *flags, source / file, "-o", program, *options, *static)
        expect_version(program, version)
    return version


def by_cmake(source, build_folder, version, *options):
    options += (f"-DCMAKE_C_FLAGS={' '.join(flags)}", f"-DCMAKE_CXX_FLAGS={' '.join(flags)}")
    if toolchain:
        options += (f"-DCMAKE_TOOLCHAIN_FILE={toolchain}",)
    else:
        options += (f"-DCMAKE_C_COMPILER={cc}", f"-DCMAKE_CXX_COMPILER={cxx}")
    run(cmake, "-G", "Ninja", "-S", source, "-B", build_folder, *options)
    run(cmake, "--build", build_folder, "--target", "consumer_c", "consumer_cpp")
    for language in ["c", "cpp"]:
        expect_version(build_folder / f"consumer_{language}{suffix}", version)


with tempfile.TemporaryDirectory(prefix="twinport-install-") as folder:
    work = pathlib.Path(folder)
    run(cmake, "--install", build, "--prefix", work / "first")
    prefix = (work / "first").rename(work / "moved")  # nothing may remember where it was installed
    source = pathlib.Path(shutil.copytree(pathlib.Path(__file__).parent / "consumer", work / "source"))
    write_everything(prefix, source)
    version = by_pkg_config(prefix, source, work)
    # In a cross build the search is confined to CMAKE_FIND_ROOT_PATH; elsewhere that changes nothing.
    by_cmake(source, work / "installed", version,
             f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_FIND_ROOT_PATH={prefix if toolchain else ''}")
    by_cmake(source, work / "embedded", version, f"-DTWINPORT_SOURCE={given['source']}")
    programs = sorted(path.name for path in (prefix / "bin").iterdir())
    print("programs:", *programs)
    run(*emulator, prefix / "bin" / f"lanserver{suffix}", "--version")
