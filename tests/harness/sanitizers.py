"""Each sanitizer of this build must report the fault that it is made for."""
import os
import subprocess
import sys

program = [os.path.join(os.environ["TWINPORT_BIN"], "harness.fault" + os.environ["TWINPORT_EXE"])]
if os.environ["TWINPORT_EMULATOR"]:
    program.insert(0, os.environ["TWINPORT_EMULATOR"])

FAULTS = {
    "address": [("heap", "heap-buffer-overflow")],
    "undefined": [("overflow", "signed integer overflow")],
    "alignment": [("misaligned", "misaligned address")],
    "leak": [("leak", "detected memory leaks")],
    "thread": [("race", "data race")],
}

sanitizers = sys.argv[1].split(",")
traps = "trap" in sanitizers  # ends the program without a report
wrong = 0
for sanitizer in sanitizers:
    for fault, says in FAULTS.get(sanitizer, []):
        ran = subprocess.run(program + [fault], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        caught = ran.returncode != 0 and (traps or says in ran.stdout)
        print(f"{sanitizer}: {fault} {'reported' if caught else 'NOT reported: ' + ran.stdout}")
        wrong += not caught
sys.exit(1 if wrong else 0)
