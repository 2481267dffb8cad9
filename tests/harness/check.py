"""Runs harness.sample case by case and compares exit codes and output."""
import os
import subprocess
import sys

program = [os.path.join(os.environ["TWINPORT_BIN"], "harness.sample" + os.environ["TWINPORT_EXE"])]
if os.environ["TWINPORT_EMULATOR"]:
    program.insert(0, os.environ["TWINPORT_EMULATOR"])

# case (None: all of them), exit code, texts that the output must have, texts that it must not have
EXPECTED = [
    ("passes", 0, ["passes: ok", "1 cases, 0 failed, 0 skipped"], ["does not hold"]),
    ("fails_check", 1, ["does not hold: 1 > 2", "continued", "fails_check: FAILED"], []),
    ("fails_require", 1, ["does not hold: 1 > 2", "aborted"], ["continued"]),
    ("fails_always", 1, ["100% reached", "continued", "fails_always: FAILED"], []),
    ("fails_signed", 1, ["minus == UINT64_MAX", "left:  -1", "18446744073709551615"], []),
    ("fails_pointer", 1, ["text == NULL", "right: 0x0"], []),
    ("fails_real", 1, ["1.5 < 1.5", "left:  1.5"], []),
    ("fails_string", 1, ['left:  "bus"', "right: NULL"], []),
    ("fails_memory", 1, ["at byte 2 of 3: 73 and 74"], []),
    ("skips", 77, ["skipped: there is no moon", "1 cases, 0 failed, 1 skipped"], []),
    ("nonsense", 2, ["no case named nonsense"], []),
    (None, 1, ["passes: ok", "fails_check: FAILED", "aborted"], []),
]

wrong = 0
for case, code, holds, lacks in EXPECTED:
    ran = subprocess.run(program + ([case] if case else []), stdout=subprocess.PIPE, text=True)
    missing = [text for text in holds if text not in ran.stdout]
    extra = [text for text in lacks if text in ran.stdout]
    if ran.returncode != code or missing or extra:
        wrong += 1
        print(f"{case}: exit code {ran.returncode}, expected {code}; missing {missing}; "
              f"unexpected {extra}; output:\n{ran.stdout}")
print(f"{len(EXPECTED)} runs, {wrong} wrong")
sys.exit(1 if wrong else 0)
