"""Services send messages over a bus for ten seconds, and one of them is killed in between.

    services.py [--seconds 10] [--rate 2000]

Starts lanserver and five services as processes of their own, two of them peers of one service. They register and send
messages (to a peer, to any of a service, to all of it, requests and replies); one is killed with SIGKILL and started
again. At the end the statistics of all processes must add up. Exit code 0 if they do, 1 if not.
"""

import argparse
import json
import signal
import sys
import tempfile
import time

from programs import PATIENCE, Failed, Service, show_programs, start_hub

SERVICES = [("login", "one"), ("chat", "one"), ("db", "one"), ("game", "one"), ("game", "two")]
VICTIM = ("game", "two")


def talk(services, address, rate, seconds):
    """Starts the messages, kills the victim at 40 % of the time, starts it again at 60 %. Returns the killed service,
    and the times of the kill."""
    began = time.monotonic()
    victim = services[VICTIM]
    for service in services.values():
        service.send_command("go")
    time.sleep(seconds * 0.4)
    witness = services[("login", "one")]
    killed = time.monotonic()
    victim.process.send_signal(signal.SIGKILL)
    witness.wait("gone", killed)
    noticed = witness.times["gone"]
    victim.process.wait()
    time.sleep(max(0.0, began + seconds * 0.6 - time.monotonic()))
    again = time.monotonic()
    services[VICTIM] = Service(address, *VICTIM, rate)
    services[VICTIM].wait("up")
    back = services[VICTIM].times["up"]
    services[VICTIM].send_command("go")
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    return victim, {"at": killed - began, "noticed_ms": (noticed - killed) * 1e3,
                    "back_ms": (back - again) * 1e3}


def stop_messages(services):
    """Stops the messages and waits until none is under way. Returns the final statistics of the services and of the
    hub."""
    for service in services.values():
        service.send_command("quiet")
    for service in services.values():
        service.wait("quiet")
    speaker = services[("login", "one")]
    deadline = time.monotonic() + PATIENCE
    while (hub := ask_hub(speaker))["outstanding"] != 0:
        if time.monotonic() > deadline:
            raise Failed(f"{hub['outstanding']} messages are still not acknowledged")
    # The hub's answer to each service comes behind all that the hub returns to it.
    for service in services.values():
        ask_hub(service)
    # The numbers of processed and returned messages are final now. Only the acknowledgements of the answers to the last
    # requests may still be under way.
    while True:
        now = time.monotonic()
        final = {who: service.wait("report", now) for who, service in services.items()}
        if all(n["client_sent"] == n["confirmed"] for n in final.values()) or now > deadline:
            return final, hub


def ask_hub(service):
    """The hub's statistics, requested by this service."""
    asked = time.monotonic()
    service.send_command("hub")
    statistics = service.wait("hub", asked)
    if "error" in statistics:
        raise Failed(f"the hub sent no statistics: {statistics['error']}")
    return statistics


def add_returned(into, reports):
    for report in reports:
        for reason, count in report["returned"].items():
            into[reason] = into.get(reason, 0) + count
    return into


def show_services(final, seconds):
    print(f"\n  {'on the bus':<12}{'sent':>9}{'processed':>11}{'asked':>8}{'answered':>10}"
          f"{'p50':>9}{'p99':>9}{'max':>10}")
    for (service, instance), numbers in final.items():
        print(f"  {service + '/' + instance:<12}{numbers['sent']:>9}{numbers['processed']:>11}"
              f"{numbers['asked']:>8}{numbers['answered']:>10}"
              f"{numbers['p50_us'] / 1e3:>6.2f} ms{numbers['p99_us'] / 1e3:>6.2f} ms"
              f"{numbers['max_us'] / 1e3:>7.2f} ms")
    sent = sum(numbers["sent"] for numbers in final.values())
    print(f"\n  {sent / seconds:,.0f} messages a second from the services that still run;"
          f" a round trip is a request and its answer")


def show_kill(kill, returned):
    came_back = ", ".join(f"{count} with '{reason.removeprefix('TP_ERR_').lower().replace('_', ' ')}'"
                          for reason, count in sorted(returned.items())) or "none"
    print(f"\n  {'/'.join(VICTIM)} was killed (SIGKILL) after {kill['at']:.1f} s;"
          f" the others were notified {kill['noticed_ms']:.1f} ms later")
    print(f"  started again, it was back on the bus after {kill['back_ms']:.0f} ms")
    print(f"  messages returned to their senders: {came_back}")


def check_statistics(final, victim, returned, hub, seconds):
    """Prints each claim, and whether the numbers confirm it. True: all do."""
    processed = sum(numbers["received"] for numbers in final.values())
    by_victim = hub["delivered"] - processed
    reported = victim["received"]
    notified = sum(returned.values())
    asked, answered, failed = (
        sum(n[what] for n in final.values()) for what in ("asked", "answered", "failed"))
    came_back = sum(n["came_back"] for n in [*final.values(), victim])
    orphaned = hub.get("returned.orphaned", 0)
    # Returned requests that were over already: the killed service had answered, and was killed before it acknowledged
    # the request; or its loss was reported before the request was returned.
    late = sum(n["late"] for n in [*final.values(), victim])
    gone = sum(n["gone"] for n in [*final.values(), victim])
    claims = [
        ("accepted by the hub = delivered + returned",
         f"{hub['accepted']:,} = {hub['delivered']:,} + {hub['returned']:,}",
         hub["accepted"] == hub["delivered"] + hub["returned"]),
        ("delivered = processed by the services that run + by the killed one before",
         f"{hub['delivered']:,} = {processed:,} + {by_victim:,}"
         f" (it had reported {reported:,} a moment before)",
         reported - hub["returned"] <= by_victim <= reported + hub["delivered"] / seconds),
        ("returned = received back by their senders + sent by the killed one",
         f"{hub['returned']:,} = {came_back:,} + {orphaned:,}",
         hub["returned"] == came_back + orphaned),
        ("reported to senders + requests over already = received back + requests to a lost peer",
         f"{notified:,} + {late:,} = {came_back:,} + {gone:,}", notified + late == came_back + gone),
        ("the hub acknowledged all messages of the services that run", "",
         all(n["client_sent"] == n["confirmed"] and n["lost"] == 0 for n in final.values())),
        ("requests = answered + returned, none timed out",
         f"{asked:,} = {answered:,} + {failed:,}",
         asked == answered + failed and all(n["timed_out"] == 0 for n in final.values())),
        ("every byte is as it was sent", "", all(n["wrong"] == 0 for n in final.values())),
    ]
    print("\n  the statistics")
    good = True
    for text, numbers, holds in claims:
        good = good and holds
        print(f"  {'ok  ' if holds else 'NOT '} {text}{': ' + numbers if numbers else ''}")
    if not good:
        print(f"\n  the hub's statistics: {json.dumps(hub)}")
    return good


def finish(services, hub):
    for service in services.values():
        service.send_command("stop")
    for service in services.values():
        if service.process.wait(PATIENCE) != 0:
            raise Failed(f"{service.title} ended with {service.process.returncode}")
    hub.process.send_signal(signal.SIGINT)
    if hub.process.wait(PATIENCE) != 0:
        raise Failed(f"lanserver ended with {hub.process.returncode}:\n" + "\n".join(hub.errors))


def run(arguments, folder):
    print("twinport: five services on one bus")
    programs = []
    try:
        hub, address = start_hub(folder)
        programs.append(hub)
        print(f"  lanserver listens on {address}")
        services = {}
        for who in SERVICES:
            services[who] = Service(address, *who, arguments.rate)
            programs.append(services[who])
        for service in services.values():
            service.wait("up")
        print(f"  {', '.join(s.title for s in services.values())} are on the bus; they send for"
              f" {arguments.seconds:g} seconds")
        victim, kill = talk(services, address, arguments.rate, arguments.seconds)
        programs.append(services[VICTIM])
        final, hub_statistics = stop_messages(services)
        killed = victim.last["report"]
        returned = add_returned({}, [*final.values(), killed])
        show_services(final, arguments.seconds)
        show_kill(kill, returned)
        good = check_statistics(final, killed, returned, hub_statistics, arguments.seconds)
        finish(services, hub)
        print("\n  every message is accounted for" if good else "\n  the statistics do not add up")
        return 0 if good else 1
    except Failed as failure:
        print(f"\nfailed: {failure}")
        show_programs(programs)
        return 1
    finally:
        for program in programs:
            program.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(arguments, folder))


if __name__ == "__main__":
    main()
