"""The programs wanserver and tp-token: command lines, configuration, keys, output, start and end."""
import os
import re
import stat
import struct
import subprocess
import time

from fixture import (PATIENCE, WINDOWS, Program, cases, expect, expect_equal, program_path, run, skip,
                     system_path, write_file)
from wan_noise import public_of
from wan_protocol import box_of
from wanserver_fixture import Gate, mint_by_tool

SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def new_path(suffix=".key"):
    """A free file name; a file of that name is removed at the end of the test."""
    path = write_file("", suffix)
    os.unlink(path)
    return path


def good_files():
    """Lines of a complete configuration."""
    key = write_file(os.urandom(32).hex() + "\n", ".key")
    ring = write_file(f"1 {os.urandom(32).hex()}\n", ".ring")
    return f"key_file = {system_path(key)}\ntoken_keys = {system_path(ring)}\nservice = arena\n"


def check(text, *arguments):
    """Runs wanserver with this configuration and --check-config."""
    path = write_file(text)
    program = run("wanserver", "--config", system_path(path), "--check-config", *arguments)
    program.path = system_path(path)
    return program


def expect_error(program, pattern):
    expect(any(re.search(pattern, line) for line in program.errors),
           f"'{pattern}' among the errors\n{program.output()}")


def case_version_and_help_are_printed():
    with open(os.path.join(SOURCES, "common/include/twinport/version.h"), encoding="utf-8") as file:
        version = re.search(r'TP_VERSION_TEXT\s+"(.*)"', file.read()).group(1)
    for name, options in (("wanserver", ("--config", "--check-config", "--print-config", "--genkey",
                                         "--show-key", "--version", "--help")),
                          ("tp-token", ("--key-ring", "--key-id", "--server-key", "--account", "--ttl",
                                        "--flags", "--user-data", "--new-key", "--version", "--help"))):
        program = run(name, "--version")
        expect_equal((program.code, program.lines), (0, [f"{name} {version}"]), "--version")
        program = run(name, "--help")
        expect_equal(program.code, 0, "--help")
        for option in options:
            expect(option in "\n".join(program.lines), f"{option} in the help of {name}")


def case_wrong_options_are_errors():
    for arguments, wanted in (([], "--config is missing"), (["--bogus"], "bogus"), (["file"], "file"),
                              (["--config"], "config"), (["--genkey"], "genkey"),
                              (["--config", "a", "--config", "b"], "config")):
        program = run("wanserver", *arguments)
        expect_equal(program.code, 2, f"exit code for {arguments}")
        expect_error(program, wanted)
        expect_equal(program.lines, [], "nothing on standard output")


def case_the_example_file_is_up_to_date():
    program = run("wanserver", "--print-config")
    expect_equal(program.code, 0, "exit code")
    with open(os.path.join(SOURCES, "wanserver/wanserver.conf"), encoding="utf-8") as file:
        expect_equal(file.read().splitlines(), program.lines,
                     "wanserver/wanserver.conf (update it with wanserver --print-config)")
    settings = [line for line in program.lines if re.match(r"#?\w+ = ", line)]
    expect(len(settings) > 40, f"only {len(settings)} settings")
    # The lines without their comment signs are a valid configuration, except for the files.
    expect("#deny = " in settings, "an empty list is shown")
    text = "\n".join(line.lstrip("#") for line in settings
                     if not re.match(r"key_file|service|#token_keys", line))
    checked = check(good_files() + text + "\n")
    expect_equal(checked.code, 0, f"exit code\n{checked.output()}")


def case_wrong_lines_are_named():
    for line, wanted in (("workers = many", r"workers.*whole number from 0 to 64"),
                         ("auth = nobody", r"auth.*token, open"),
                         ("listen = nowhere", r"listen.*IP address and port"),
                         ("busy_time = 5", r"busy_time.*time with its unit"),
                         ("queue_policy = wait", r"queue_policy.*disconnect, drop, refuse"),
                         ("priority = highest", r"priority.*low, normal, high, idle"),
                         ("handshake_priority = high", r"handshake_priority.*idle, low, normal"),
                         ("processors = 4-", r"processors.*0-3,8"),
                         ("lost_close = never", r"lost_close.*shutdown"),
                         ("max_player = 4", r"max_players"),
                         ("what is this", r"key = value")):
        program = check(good_files() + f"# the fourth line\n{line}\n")
        expect_equal(program.code, 2, f"exit code for '{line}'\n{program.output()}")
        expect_error(program, "^" + re.escape(program.path) + ":5: .*" + wanted)
        expect_equal(program.lines, [], "nothing on standard output")


def case_missing_settings_are_named():
    program = check("")
    expect_equal(program.code, 2, "exit code")
    expect_error(program, "key_file is missing")
    expect_error(program, "service is missing")
    key = system_path(write_file(os.urandom(32).hex() + "\n", ".key"))
    program = check(f"key_file = {key}\nservice = arena\n")
    expect_equal(program.code, 2, "exit code")
    expect_error(program, "token_keys is missing")
    expect_equal(check(f"key_file = {key}\nservice = arena\nauth = open\n").code, 0, "with auth = open")


def case_wrong_lines_of_other_files_are_named():
    good = good_files()
    secret = os.urandom(32).hex()
    for name, text, wanted in (
            ("key_file", f"{secret}0\n", "not a private key"),
            ("token_keys", f"# a ring\n1 {secret}\n1 {secret[::-1]}\n", ":3: id 1 is given again"),
            ("token_keys", f"1 {secret}0\n", ":1: expected an id from 0 to 255 and a key"),
            ("token_keys", "", ":1: no key is given"),
            ("bans", "10.0.0.1\n10.0.0.1/8\n", ":2: '10.0.0.1/8': expected a network")):
        path = system_path(write_file(text, "." + name))
        lines = [line for line in good.splitlines() if not line.startswith(name)]
        program = check("\n".join(lines + [f"{name} = {path}"]) + "\n")
        expect_equal(program.code, 2, f"exit code\n{program.output()}")
        expect_error(program, "^" + re.escape(path) + ".*" + wanted)
        expect(secret not in program.output(), "no key is quoted")
        missing = system_path(new_path())
        program = check("\n".join(lines + [f"{name} = {missing}"]) + "\n")
        expect_equal(program.code, 2, f"exit code\n{program.output()}")
        expect_error(program, "^" + re.escape(missing) + ": cannot be opened")


def case_repeated_lines_give_a_warning():
    secret = os.urandom(32).hex()
    ring = system_path(write_file(f"1 {secret}\n2 {secret}\n1 {secret}\n", ".ring"))
    bans = system_path(write_file("10.0.0.1\n10.0.0.1\n", ".bans"))
    lines = [line for line in good_files().splitlines() if not line.startswith("token_keys")]
    program = check("\n".join(lines + [f"token_keys = {ring}", f"bans = {bans}"]) + "\n")
    expect_equal(program.code, 0, f"exit code\n{program.output()}")
    expect_error(program, "warning +" + re.escape(ring) + ":3: id 1 is given again, with the same key")
    expect_error(program, "warning +" + re.escape(bans) + ":2: network given again")
    expect(secret not in program.output(), "no key is quoted")


def case_contradictory_values_are_refused():
    """At a start and with --check-config the error has both values and the expectation."""
    io = "epoll" if WINDOWS else "iocp"
    good = good_files()
    for text, wanted in (
            (good + "max_frame = 2m\nbyte_rate = 0\n",
             r"max_frame is 2m and queue_bytes is 1m: expected"),
            (good + "max_frame = 1m\nbyte_rate = 0\n",
             r"max_frame is 1m and bus_max_frame is 1m: expected max_frame plus 28 bytes"),
            (good + "max_frame = 600k\n",
             r"byte_burst is 512k and max_frame is 600k: expected byte_burst to be"),
            (good + "idle_timeout = 1ms\nping_interval = 0\n",
             r"idle_timeout is 1ms: expected at least"),
            (good + "max_players = 1048576\nmax_waiting = 1\n",
             r"max_players is 1048576 and max_waiting is 1: expected at most 1048576 together"),
            (good + "busy_time = 1500ms\n", r"busy_time is 1500ms: expected whole seconds"),
            (good + f"io = {io}\n", rf"io is {io}: expected auto"),
            (good + "bus = 127.0.0.1:0\n", r"bus is 127\.0\.0\.1:0: expected the port of"),
            (good.replace("arena", "gate"), r"service is gate: expected a service other than"),
            (good.replace("arena", "The Arena"), r"service is The Arena: expected 1 to 63 bytes")):
        path = system_path(write_file(text))
        for arguments in (["--check-config"], []):
            program = run("wanserver", "--config", path, *arguments)
            expect_equal(program.code, 2, f"exit code\n{text}\n{program.output()}")
            expect_error(program, "^" + re.escape(path) + ": " + wanted)
            expect_equal(program.lines, [], "nothing on standard output")
    for setting in ("listen", "bus"):
        program = check(good + f"{setting} = 127.0.0.1\n")
        expect_equal(program.code, 2, f"exit code\n{program.output()}")
        expect_error(program, setting + r" cannot be .127\.0\.0\.1.: expected an IP address and port")
    program = check(good + "max_pending = 100\n")
    expect_equal(program.code, 0, f"exit code\n{program.output()}")
    expect_error(program, r"handshake_queue is 512 and max_pending is 100: expected max_pending to be")


def case_an_unwritable_log_is_an_error():
    good = good_files()
    folder = os.path.join(system_path(new_path()), "gate.log")
    program = check(good + f"log_file = {folder}\n")
    expect_equal(program.code, 2, f"exit code\n{program.output()}")
    expect_error(program, "log_file is " + re.escape(folder) + ": expected a writable file")
    key = re.search(r"key_file = (.*)", good).group(1)
    program = check(good + f"log_file = {key}\n")
    expect_equal(program.code, 2, f"exit code\n{program.output()}")
    expect_error(program, r"log_file is .* and key_file is .*: expected the log to have a file of its own")


# ---- keys -------------------------------------------------------------------------------------

def case_a_key_file_is_created_once():
    path = new_path()
    # Whatever the umask, only its owner can read the file.
    umask = 0 if WINDOWS else os.umask(0)
    try:
        made = run("wanserver", "--genkey", system_path(path))
    finally:
        os.umask(umask)
    expect_equal(made.code, 0, f"exit code\n{made.output()}")
    with open(path, encoding="ascii", newline="") as file:
        text = file.read()
    expect(re.fullmatch(r"[0-9a-f]{64}\n", text), "one line of 64 hexadecimal digits")
    expect_equal(made.lines, [public_of(bytes.fromhex(text)).hex()], "the public key is printed")
    if not WINDOWS:
        expect_equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "mode")

    again = run("wanserver", "--genkey", system_path(path))
    expect_equal((again.code, again.lines), (1, []), "it is not overwritten")
    expect_error(again, "file exists and is not overwritten")
    with open(path, encoding="ascii") as file:
        expect_equal(file.read(), text, "the key stays")

    shown = run("wanserver", "--show-key", system_path(path))
    expect_equal((shown.code, shown.lines), (0, made.lines), "--show-key")
    os.unlink(path)
    other = run("wanserver", "--genkey", system_path(path))
    expect(other.lines != made.lines, "each key is a new one")
    os.unlink(path)
    nowhere = run("wanserver", "--genkey", system_path(os.path.join(path, "key")))
    expect_equal((nowhere.code, nowhere.lines), (1, []), "a folder that does not exist")


def case_an_invalid_key_file_is_not_shown():
    secret = os.urandom(32).hex()
    for text in ("", secret[1:], secret + "0", f"{secret}\n{secret}\n"):
        shown = run("wanserver", "--show-key", system_path(write_file(text, ".key")))
        expect_equal((shown.code, shown.lines), (2, []), "exit code and output")
        expect_error(shown, "not a private key")
        expect(secret[1:] not in shown.output(), "the key is not quoted")


def case_keys_readable_by_others_give_a_warning():
    if WINDOWS:
        skip("Win32 has other rights")
    with Gate() as gate:
        account = gate.finish()
        expect(not any("readable by others than its owner" in line for line in gate.errors), gate.output())
        expect_equal(account["wan"]["established"], 0, "no player came")
    shared = write_file(f"1 {os.urandom(32).hex()}\n", ".ring")
    os.chmod(shared, 0o644)
    with Gate(f"token_keys = {shared}") as gate:
        gate.wait_for(re.escape(shared) + ": readable by others than its owner", errors=True)
        gate.finish()


# ---- tokens -----------------------------------------------------------------------------------

def case_tokens_have_the_documented_format():
    public = public_of(os.urandom(32))
    made = [run("tp-token", "--new-key", key_id) for key_id in ("0", "255")]
    for program, key_id in zip(made, ("0", "255")):
        expect_equal(program.code, 0, "--new-key")
        expect(re.fullmatch(key_id + " [0-9a-f]{64}", program.lines[0]), program.output())
    ring_file = write_file("# both\n" + "\n".join(program.lines[0] for program in made) + "\n", ".ring")
    ring = {int(line.split()[0]): bytes.fromhex(line.split()[1])
            for program in made for line in program.lines}
    expect(ring[0] != ring[255], "each key is a new one")
    seen = set()
    for key_id, account, flags, user_data in ((0, 0, 0, b""), (255, 2**64 - 1, 2**32 - 1, os.urandom(48)),
                                              (255, 42, 7, b"x")):
        more = ["--flags", flags, "--user-data", user_data.hex().upper()] if flags else []
        before = int(time.time())
        program = mint_by_tool(ring_file, key_id, public, account, 60, *more)
        expect_equal((program.code, len(program.lines)), (0, 2), f"exit code and lines\n{program.output()}")
        token, secret = map(bytes.fromhex, program.lines)
        expect_equal((len(token), len(secret)), (140, 32), "sizes")
        head_id, expiry = struct.unpack("<B3xQ", token[:12])
        expect_equal((head_id, token[1:4]), (key_id, bytes(3)), "head")
        expect(before + 60 <= expiry <= time.time() + 61, f"expiry {expiry}")
        box, data = box_of(ring[key_id], token[:28], public)
        plain = box.decrypt(bytes(12), token[28:], data)
        expect_equal(plain, struct.pack("<QII", account, flags, 0) + secret + user_data.ljust(48, b"\0"),
                     "the sealed part")
        seen.update((token[12:28], secret))
    expect_equal(len(seen), 6, "ids and secrets are random")


def case_invalid_tokens_are_not_made():
    public = public_of(os.urandom(32))
    secret = os.urandom(32).hex()
    ring = write_file(f"1 {secret}\n", ".ring")
    right = {"--key-ring": system_path(ring), "--key-id": "1", "--server-key": public.hex(),
             "--account": "5", "--ttl": "60"}
    for change, wanted in (({"--key-id": "2"}, "has no such key"), ({"--key-id": "256"}, "0 to 255"),
                           ({"--key-id": None}, "--key-id"), ({"--key-ring": None}, "--key-ring"),
                           ({"--server-key": public.hex()[1:]}, "--server-key"),
                           ({"--server-key": "g" + public.hex()[1:]}, "--server-key"),
                           ({"--account": None}, "--account"), ({"--account": "-1"}, "--account"),
                           ({"--account": str(2**64)}, "--account"), ({"--ttl": None}, "--ttl"),
                           ({"--ttl": "0"}, "--ttl"), ({"--flags": str(2**32)}, "--flags"),
                           ({"--user-data": "abc"}, "--user-data"), ({"--user-data": "zz"}, "--user-data"),
                           ({"--user-data": "00" * 49}, "--user-data"), ({"--new-key": "256"}, "--new-key")):
        words = [word for pair in {**right, **change}.items() if pair[1] is not None for word in pair]
        program = run("tp-token", *words)
        expect_equal((program.code, program.lines), (2, []), f"exit code and output for {change}")
        expect_error(program, wanted)
        expect(secret not in program.output(), "no key is quoted")


def case_a_long_token_life_gives_a_warning():
    public = public_of(os.urandom(32))
    secret = os.urandom(32).hex()
    ring = write_file(f"1 {secret}\n1 {secret}\n", ".ring")
    for ttl, warned in (("3600", False), ("3601", True)):
        program = mint_by_tool(ring, 1, public, 1, ttl)
        expect_equal((program.code, len(program.lines)), (0, 2), program.output())
        said = any("max_token_life" in line for line in program.errors)
        expect_equal(said, warned, f"a warning for --ttl {ttl}")
        expect_error(program, ":2: id 1 is given again")


def case_a_failed_output_is_an_error():
    if not os.path.exists("/dev/full") or WINDOWS:
        skip("no /dev/full here")
    key = system_path(write_file(os.urandom(32).hex() + "\n", ".key"))
    ring = write_file(f"1 {os.urandom(32).hex()}\n", ".ring")
    token = ("--key-ring", ring, "--key-id", "1", "--server-key", os.urandom(32).hex(), "--account", "1",
             "--ttl", "60")
    for name, words in (("tp-token", ("--new-key", "1")), ("tp-token", token),
                        ("wanserver", ("--genkey", new_path())), ("wanserver", ("--show-key", key)),
                        ("wanserver", ("--print-config",)), ("wanserver", ("--help",)),
                        ("wanserver", ("--version",)), ("lanserver", ("--print-config",)),
                        ("lanserver", ("--check-config",)), ("lanserver", ("--help",)),
                        ("lanserver", ("--version",))):
        with open("/dev/full", "wb") as full:
            ended = subprocess.run([program_path(name), *words], stdout=full, stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)
        expect_equal(ended.returncode, 1, f"exit code of {name} {words[0]}")
        expect(b"standard output" in ended.stderr, f"{ended.stderr}")


# ---- start and end ----------------------------------------------------------------------------

def case_a_port_in_use_is_an_error():
    with Gate() as gate:
        program = run("wanserver", "--config", system_path(write_file(
            good_files() + f"listen = 127.0.0.1:{gate.port}\n")))
        expect_equal(program.code, 1, f"exit code\n{program.output()}")
        expect_error(program, rf"127\.0\.0\.1:{gate.port}: the address and port are in use")
        expect(gate.admits(gate.mint()), "the first one still serves")
        gate.finish()


def case_a_stop_sends_close_to_players():
    for ask in (Program.interrupt,) if WINDOWS else (Program.interrupt, Program.terminate):
        with Gate() as gate:
            player = gate.player(gate.mint())
            expect(player.is_answered(), "it plays")
            ask(gate)
            expect_equal(player.end(), 8, "CLOSE")
            account = gate.finish(lambda _: None)  # a second request would end it immediately
            expect_equal((account["gate"]["arrived"], account["gate"]["left"]), (1, 1), "players")


cases(globals())
