"""tp-echo in normal use: every answer is right, for all sizes, windows and numbers of connections."""
import resource
import socket

from echo_server import Echo, Load, each_server, load
from simple_client import frame
from fixture import EMULATOR, Program, cases, expect, expect_equal, run, skip, until

SIZES = (0, 1, 64, 1000, 65536)
WINDOWS_OF_MESSAGES = (1, 16)


def case_every_size_and_window_is_echoed():
    for server in each_server():
        before = server.descriptors()
        for size in SIZES:
            for window in WINDOWS_OF_MESSAGES:
                report = load(server, connections=20, size=size, window=window, seconds=0.1)
                expect_equal(report["connects"], 20, "connects")
                expect(report["answers"] >= 20, f"answers of {size} bytes: {report}")
        server.serves_the_simplest_client()
        until(lambda: server.descriptors() == before, "every descriptor is given back")
        server.finish()


def case_thousands_of_connections_are_served():
    """Fewer where there are fewer descriptors, and under Wine."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 500 if EMULATOR else 2000
    count = wanted if most == resource.RLIM_INFINITY else min(wanted, most // 2 - 100)
    with Echo(workers=2) as server:
        before = server.descriptors()
        with Load(server, connections=count, seconds=600) as dummy:
            dummy.begun()
            until(lambda: before is None or server.descriptors() == before + count,
                  f"{count} connections at once")
            dummy.interrupt()  # the end of its time
            report = dummy.report()
        print(f"    {count} connections at once, {report['messages']} answers", flush=True)
        expect_equal(report["connects"], count, "connects")
        expect(report["answers"] >= count, "each was answered")
        until(lambda: server.descriptors() == before, "every descriptor is given back")
        server.finish()


def case_it_stops_on_ctrl_c():
    with Echo() as server:
        load(server)
        server.finish(Program.interrupt)
    with Echo() as server:
        server.finish(Program.interrupt)  # without any connection


def case_it_stops_on_sigterm():
    if EMULATOR:
        skip("Wine does not turn SIGTERM into a request")
    with Echo() as server:
        load(server)
        server.finish(Program.terminate)


def case_a_stop_sends_close_to_every_client():
    for server in each_server():
        # The stop starts when each client has been answered, because one that is not yet accepted has no session to
        # get a CLOSE. The load ends when no connection is left.
        with Load(server, connections=20, window=4, seconds=600) as dummy:
            dummy.begun()
            server.finish()
            report = dummy.report(code=1)
        expect_equal(report["closes"], {"none": 0, "shutdown": 20}, "the CLOSE reasons that the clients received")
        expect_equal(report["faults"], {"connection_lost": 20}, "the faults that the dummy reports")


def case_a_stop_does_not_wait_for_a_client_that_never_reads():
    with Echo() as server, socket.create_connection(("127.0.0.1", server.port)) as deaf:
        deaf.settimeout(0.2)
        message = frame(bytes(65536))
        try:
            for _ in range(16):
                deaf.sendall(message)
        except TimeoutError:
            pass  # its buffers are full: as intended
        server.finish()


def case_a_port_in_use_is_an_error():
    with Echo() as server:
        second = run("tp-echo", "lan", "--port", server.port)
        expect_equal((second.code, second.lines), (1, []), "exit code and output")
        expect(any("in use" in line for line in second.errors), second.output())
        load(server)
        server.finish()


def case_wrong_usage_is_an_error():
    for arguments in ([], ["wan"], ["lan", "--port"], ["lan", "--port", "65536"],
                      ["lan", "--port", "x"], ["lan", "--nonsense", "1"]):
        told = run("tp-echo", *arguments)
        expect_equal((told.code, told.lines), (2, []), f"exit code and output of {arguments}")
        expect(any(line.startswith("usage: ") for line in told.errors), told.output())
    told = run("tp-echo", "lan", "--port", 0, "--io", "nonsense")
    expect_equal((told.code, told.lines), (1, []), "exit code and output")


cases(globals())
