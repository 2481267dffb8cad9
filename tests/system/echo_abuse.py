"""tp-echo with hostile clients: a well-behaved client beside them is served as if they did not exist, and
they leave nothing behind."""
from echo_server import Echo, Load, each_server, load
from fixture import EMULATOR, FACTOR, cases, expect, expect_equal, skip, until

SECONDS = 0.6 * min(FACTOR, 2)  # duration of each load
LONGEST = 200                   # for a machine on which less was too short

STORM = ("storm", {"connections": 50, "window": 4, "size": 64})
SLOW = ("slow", {"connections": 4, "size": 1000, "seconds": 600})  # or until all of them are cut
GARBAGE = ("garbage", {"connections": 30})
HALF_OPEN = ("half-open", {"connections": 30})
RESET = ("reset", {"connections": 30, "window": 8, "size": 1000})
LARGE = ("echo", {"connections": 4, "window": 4, "size": 65536})


def start(server, seed, mode, options):
    return Load(server, mode, **{"seconds": SECONDS, "seed": seed, **options})


def report_of(server, dummy, seed, mode, options):
    """The load's report; that of a longer load if the machine was too slow for any client to reconnect."""
    report, seconds = dummy.report(), SECONDS
    while mode in ("storm", "garbage", "reset") and report["errors"] == 0 and \
            report["connects"] <= report["connections"] and seconds < LONGEST:
        seconds *= 4
        report = load(server, mode, **{"seed": seed, **options, "seconds": seconds})
    return report


def check_happened(report):
    """Checks that the load has done what it is made for. It checks the answers itself."""
    mode, connections = report["mode"], report["connections"]
    said = f"{mode}: {report}"
    expect_equal(report["errors"], 0, said)
    if mode == "slow":
        expect_equal(report["cut"] + report["served"], connections, f"cut or served: {said}")
        expect(report["cut"] > 0, f"readers that do not read are cut: {said}")
        # Its queue is lost, so the end is a reset: a truncated stream must not look complete.
        expect_equal(report["closes"], {"none": report["cut"]}, f"how they were cut: {said}")
    elif mode == "garbage":
        expect(report["connects"] > connections, f"it comes again: {said}")
        expect(report["cut"] >= report["connects"] - connections, f"and is cut: {said}")
        expect(report["closes"].get("protocol", 0) > 0, f"and told why: {said}")
    elif mode == "half-open":
        expect_equal((report["stayed"], report["cut"]), (connections, 0), f"they stay: {said}")
    elif mode == "storm":
        expect(report["connects"] > connections, f"they come again: {said}")
        expect(report["answers"] >= report["window"] * connections, f"and are answered: {said}")
    elif mode == "reset":
        expect(report["connects"] > connections, f"they come again: {said}")


def check_beside(server, *hostile):
    """A well-behaved client beside all loads of `hostile` at the same time. It must not be affected."""
    before = server.descriptors()
    with Load(server, connections=20, window=4, seconds=600) as beside:
        beside.begun()
        loads = [start(server, seed, *wanted) for seed, wanted in enumerate(hostile, 1)]
        for seed, (dummy, wanted) in enumerate(zip(loads, hostile), 1):
            check_happened(report_of(server, dummy, seed, *wanted))
        beside.interrupt()  # the end of its time
        report = beside.report()
    expect_equal((report["errors"], report["connects"]), (0, 20), f"beside them: {report}")
    expect(report["messages"] > 100, f"it was served: {report}")
    expect_equal(report["closes"], {"none": 0}, f"it was not closed: {report}")
    server.serves_the_simplest_client()
    until(lambda: server.descriptors() == before, "every descriptor is given back")


def check_beside_in_turn(hostile):
    with Echo() as server:
        check_beside(server, hostile)
        server.finish()


def case_a_storm_does_not_affect_others():
    check_beside_in_turn(STORM)


def case_slow_readers_do_not_affect_others():
    check_beside_in_turn(SLOW)


def case_garbage_does_not_affect_others():
    check_beside_in_turn(GARBAGE)


def case_half_open_connections_do_not_affect_others():
    check_beside_in_turn(HALF_OPEN)


def case_resets_do_not_affect_others():
    check_beside_in_turn(RESET)


def case_two_hostile_loads_do_not_affect_others():
    with Echo() as server:
        check_beside(server, STORM, RESET)
        check_beside(server, SLOW, GARBAGE)
        server.finish()


def case_all_hostile_loads_together_do_not_affect_others():
    for server in each_server():
        check_beside(server, STORM, SLOW, GARBAGE, HALF_OPEN, RESET, LARGE)
        server.finish()


def case_a_queue_is_bounded():
    """Many slow readers take the memory of their queues, far less than what they have sent."""
    if EMULATOR or FACTOR != 1:
        skip("a sanitizer or Wine adds memory of its own")
    readers, queue = 8, 16 << 20
    with Echo() as server:
        load(server, seconds=0.2)
        before = server.most_memory()
        report = load(server, "slow", connections=readers, size=1000, seconds=600)
        expect_equal(report["cut"], readers, "all of them are cut")
        grown = server.most_memory() - before
        print(f"    {readers} readers that did not read: {grown / readers / (1 << 20):.1f} MiB each",
              flush=True)
        expect(grown <= readers * queue * 1.5, f"{grown} bytes of memory")
        server.finish()


if __name__ == "__main__":
    cases(globals())
