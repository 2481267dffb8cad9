"""Runs one model through spin and its verifier.

    check_model.py MODEL.pml            every interleaving must satisfy the model's assertions
    check_model.py MODEL.pml BROKEN_X   ... and with this decision undone, spin must find the fault

The second form keeps the first honest: a model that cannot fail proves nothing.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def verify(model, variant, folder):
    """The number of errors and of states that the verifier reports."""
    define = [f"-D{variant}"] if variant else []
    run(["spin", *define, "-a", model], folder)
    run(["cc", "-O1", "-DSAFETY", "-DMEMLIM=2048", "-DVECTORSZ=2048", "-o", "pan", "pan.c"], folder)
    output = run(["./pan", "-m1000000"], folder)
    if "Search not completed" in output or "max search depth too small" in output:
        if not variant:
            sys.exit(f"the search was not complete:\n{output}")
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    if not errors or not states:
        sys.exit(f"no result in:\n{output}")
    return int(errors.group(1)), int(states.group(1)), output


def main():
    model = os.path.abspath(sys.argv[1])
    variant = sys.argv[2] if len(sys.argv) > 2 else None
    if not shutil.which("spin"):
        print("skipped: spin is not installed")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as folder:
        errors, states, output = verify(model, variant, folder)
    name = os.path.basename(model)
    print(f"{name}{' with ' + variant if variant else ''}: {states} states, {errors} errors")
    if variant and errors == 0:
        sys.exit("undoing this decision should break the model, and does not")
    if not variant and errors:
        sys.exit(output)


main()
