"""The program lanserver: command line, configuration, output, start and end."""
import os
import re
import socket

from bus_client import SEND, BusClient
from bus_hub import Hub
from fixture import (PATIENCE, WINDOWS, Program, cases, descriptors_limited_to, expect, expect_equal,
                   run, skip, system_path, write_file)

SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def lanserver(text, *arguments):
    """Runs lanserver with this configuration to its end."""
    path = write_file(text)
    program = run("lanserver", "--config", system_path(path), *arguments)
    program.path = system_path(path)
    return program


def expect_error(program, pattern):
    expect(any(re.search(pattern, line) for line in program.errors),
           f"'{pattern}' among the errors\n{program.output()}")


def case_version_and_help_are_printed():
    with open(os.path.join(SOURCES, "common/include/twinport/version.h"), encoding="utf-8") as file:
        version = re.search(r'TP_VERSION_TEXT\s+"(.*)"', file.read()).group(1)
    program = run("lanserver", "--version")
    expect_equal((program.code, program.lines), (0, [f"lanserver {version}"]), "--version")
    program = run("lanserver", "--help")
    text = "\n".join(program.lines)
    expect_equal(program.code, 0, "--help")
    for option in ("--config", "--check-config", "--print-config", "--version", "--help"):
        expect(option in text, f"{option} in the help")


def case_wrong_options_are_errors():
    for arguments, wanted in ((["--bogus"], "bogus"), (["--config"], "config"), (["file"], "file"),
                              (["--config", "a", "--config", "b"], "config")):
        program = run("lanserver", *arguments)
        expect_equal(program.code, 2, f"exit code for {arguments}")
        expect_error(program, wanted)
        expect_equal(program.lines, [], "nothing on standard output")


def case_the_example_file_is_up_to_date():
    program = run("lanserver", "--print-config")
    expect_equal(program.code, 0, "exit code")
    with open(os.path.join(SOURCES, "lanserver/lanserver.conf"), encoding="utf-8") as file:
        expect_equal(file.read().splitlines(), program.lines,
                     "lanserver/lanserver.conf (update it with lanserver --print-config)")
    settings = [line for line in program.lines if re.match(r"#?\w+ = ", line)]
    expect(len(settings) > 20, f"only {len(settings)} settings")
    # The lines without their comment signs are a valid configuration, empty values included.
    expect("#deny = " in settings, "an empty list is shown")
    text = "\n".join(line.lstrip("#") for line in settings)
    checked = lanserver(text + "\n", "--check-config")
    expect_equal(checked.code, 0, f"exit code\n{checked.output()}")


def case_check_config_prints_its_result():
    program = lanserver("listen = 10.1.2.3:7400\nworkers = 4\n", "--check-config")
    expect_equal(program.code, 0, f"exit code\n{program.output()}")
    expect(program.path in program.lines[0], program.output())
    program = run("lanserver", "--check-config", "--config", system_path("/nonexistent/lanserver.conf"))
    expect_equal(program.code, 2, "exit code")
    expect_error(program, "lanserver.conf")


def case_wrong_lines_are_named():
    for line, wanted in (("workers = many", r"workers.*whole number from 0 to 64"),
                         ("workers = 65", r"workers.*whole number from 0 to 64"),
                         ("listen = nowhere", r"listen.*IP address and port"),
                         ("idle_timeout = 30", r"idle_timeout.*time with its unit"),
                         ("queue_policy = drop", r"queue_policy.*disconnect, refuse"),
                         ("allow = 10.0.0.1/8", r"allow.*networks"),
                         ("nagle = perhaps", r"nagle.*yes or no"),
                         ("max_frame = 16m", r"max_frame.*bytes"),
                         ("colour = red", r"colour"),
                         ("max_session = 4", r"max_sessions"),
                         ("what is this", r"key = value")):
        for arguments in (["--check-config"], []):
            program = lanserver(f"# the first line\n\n{line}\n", *arguments)
            expect_equal(program.code, 2, f"exit code for '{line}'\n{program.output()}")
            expect_error(program, "^" + re.escape(program.path) + ":3: .*" + wanted)
            expect_equal(program.lines, [], "nothing on standard output")


def case_contradictory_values_are_refused():
    """At a start and with --check-config the error has both values and the expectation."""
    io = "epoll" if WINDOWS else "iocp"
    for lines, wanted in (
            ("max_frame = 2m\nqueue_bytes = 1m",
             r"max_frame is 2m and queue_bytes is 1m: expected max_frame"),
            ("idle_timeout = 1ms\nping_interval = 0", r"idle_timeout is 1ms: expected at least"),
            ("idle_timeout = 30s",
             r"ping_interval is 30s and idle_timeout is 30s: expected ping_interval"),
            ("max_sessions = 70000", r"max_sessions is 70000 and queue_packets is 65536: expected"),
            (f"io = {io}", rf"io is {io}: expected auto"),
            ("memory_limit = 8m",
             r"memory_limit is 8m and queue_bytes is \S+: expected not less than queue_bytes"),
            ("queue_bytes = 2m\nmemory_limit = 3m",
             r"memory_limit is 3m and reserve is \S+: expected not less than reserve"),
            ("reserve = 0\nqueue_bytes = 1m\nmax_frame = 64k\nmemory_limit = 1023k",
             r"memory_limit is 1023k: expected at least 1m"),
            ("deny = any", r"allow is .* and deny is .*: expected deny to leave something"),
            ("listen = 127.0.0.1",
             r"listen cannot be .127\.0\.0\.1.: expected an IP address and port")):
        for arguments in (["--check-config"], []):
            program = lanserver(lines + "\n", *arguments)
            expect_equal(program.code, 2, f"exit code for '{lines}'\n{program.output()}")
            expect_error(program, "^" + re.escape(program.path) + ":(1:)? " + wanted)
            expect_equal(program.lines, [], "nothing on standard output")
    for lines, wanted in (
            ("queue_packets = 2000",
             r"unconfirmed_limit is 65536 and queue_packets is 2000: expected"),
            ("queue_bytes = 1m\nmax_frame = 64k",
             r"unconfirmed_limit is 65536 and queue_bytes is 1048576: expected")):
        program = lanserver(lines + "\n", "--check-config")
        expect_equal(program.code, 0, f"exit code\n{program.output()}")
        expect_error(program, wanted)


def case_an_unwritable_log_is_an_error():
    folder = os.path.join(system_path(write_file("")) + "-is-no-folder", "hub.log")
    program = lanserver(f"log_file = {folder}\n", "--check-config")
    expect_equal(program.code, 2, f"exit code\n{program.output()}")
    expect_error(program, "log_file is " + re.escape(folder) + ": expected a writable file")
    expect_equal(lanserver(f"log_file = {folder}\n").code, 1, "exit code of a start")
    # --check-config neither creates nor changes the file.
    path = write_file("kept\n")
    program = lanserver(f"log_file = {system_path(path)}\n", "--check-config")
    expect_equal(program.code, 0, f"exit code\n{program.output()}")
    with open(path, encoding="utf-8") as file:
        expect_equal(file.read(), "kept\n", "the log's file")
    os.unlink(path)
    program = lanserver(f"log_file = {system_path(path)}\n", "--check-config")
    expect_equal(program.code, 0, f"exit code\n{program.output()}")
    expect(not os.path.exists(path), "the log's file is not made")


def case_a_public_bind_is_refused():
    for address in ("0.0.0.0:0", "[::]:0", "8.8.8.8:0"):
        for arguments in (["--check-config"], []):
            program = lanserver(f"listen = {address}\n", *arguments)
            expect(program.code in (1, 2), f"exit code {program.code} for {address}\n{program.output()}")
            expect_error(program, "allow_public_bind")
    with Program("lanserver", "--config", system_path(write_file(
            "listen = 0.0.0.0:0\nallow_public_bind = yes\n"))) as program:
        program.wait_for(r"listening on 0\.0\.0\.0:\d+ ")
        program.interrupt()
        expect_equal(program.wait(), 0, f"exit code\n{program.output()}")


def case_a_port_in_use_is_an_error():
    with Hub() as hub:
        program = lanserver(f"listen = 127.0.0.1:{hub.port}\n")
        expect_equal(program.code, 1, f"exit code\n{program.output()}")
        expect_error(program, rf"127\.0\.0\.1:{hub.port}: the address and port are in use")
        BusClient(hub.port, "x")  # the first one still serves
        hub.finish()


def case_a_foreign_address_is_an_error():
    program = lanserver("listen = 10.255.255.254:7400\n")
    expect_equal(program.code, 1, f"exit code\n{program.output()}")
    expect_error(program, "10.255.255.254:7400")


def case_ctrl_c_drains():
    with Hub("drain_timeout = 20s") as hub:
        a, b = BusClient(hub.port, "a"), BusClient(hub.port, "b")
        for _ in range(100):
            a.message(SEND, b.id, b"x")
        for _ in range(100):
            b.next()
        hub.interrupt()
        expect(b.quiet(0.2), "the hub waits for messages in flight")
        b.ack()  # all of it is acknowledged: now the hub ends
        expect_equal(b.closed(), 8, "CLOSE")
        expect_equal(a.closed(), 8, "CLOSE")
        expect_equal(hub.wait(PATIENCE), 0, f"exit code\n{hub.output()}")
        hub.wait_for(r"^lanserver: stopped: accepted 100 = delivered 100 \+ returned 0 \+ "
                     r"outstanding 0$")


def case_sigterm_drains():
    if WINDOWS:
        skip("SIGTERM kills under Wine")
    with Hub() as hub:
        hub.terminate()
        expect_equal(hub.wait(PATIENCE), 0, f"exit code\n{hub.output()}")
        hub.wait_for("^lanserver: stopped: accepted 0 ")


def case_a_drain_ends_at_its_time_out():
    with Hub("drain_timeout = 300ms") as hub:
        a, b = BusClient(hub.port, "a"), BusClient(hub.port, "b")
        a.message(SEND, b.id, b"never confirmed")
        b.next()
        hub.interrupt()
        expect_equal(hub.wait(PATIENCE), 0, f"exit code\n{hub.output()}")
        hub.wait_for(r"accepted 1 = delivered 0 \+ returned 1 \+ outstanding 0$")


def case_denied_addresses_are_reset():
    with Hub("deny = 127.0.0.0/8") as hub:
        try:  # the reset may come before the connection is established
            with socket.create_connection(("127.0.0.1", hub.port), 20) as connection:
                expect_equal(connection.recv(1), b"", "the connection is refused")
        except ConnectionResetError:
            pass
        hub.finish()


def case_the_log_goes_to_its_file():
    path = write_file("", ".log")
    with Hub(f"log_file = {system_path(path)}", "log_level = info") as hub:
        BusClient(hub.port, "somebody", "one").close()
        hub.finish()
    with open(path, encoding="utf-8") as file:
        text = file.read()
    expect("somebody/one joined" in text and "somebody/one left" in text, text)
    expect_equal(hub.errors, [], "nothing on standard error")
    program = lanserver(f"listen = 127.0.0.1:0\nlog_file = {system_path('/nonexistent/x.log')}\n")
    expect_equal(program.code, 1, "exit code")
    expect_error(program, "x.log: the file cannot be opened")


def case_too_few_descriptors_give_a_warning():
    if WINDOWS:
        skip("Win32 has no such limit")
    with descriptors_limited_to(200), Hub() as hub:
        hub.wait_for(r"warning: the system allows 200 open files, too few for 1024 sessions",
                     errors=True)
        hub.finish()
    # A quarter and 64 more are for connections that are being ended, and 64 for the program itself.
    enough = 100 + (64 + 25) + 64
    with descriptors_limited_to(enough - 1), Hub("max_sessions = 100") as hub:
        hub.wait_for(r"too few for 100 sessions and 89 connections that are pending or being ended",
                     errors=True)
        hub.finish()
    with descriptors_limited_to(enough), Hub("max_sessions = 100") as hub:
        hub.finish()
        expect(not any("too few for" in line for line in hub.errors), hub.output())


cases(globals())
