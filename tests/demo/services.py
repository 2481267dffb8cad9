"""Services talk through a bus for ten seconds, and one of them is killed in between.

    services.py [--seconds 10] [--rate 2000]

Starts lanserver and five services as processes of their own, two of them the same service, lets them
register and talk (to a peer, to any of a service, to all of it, request and reply), kills one with SIGKILL,
starts it again, and ends with an account that must add up. Exit code 0 if it does, 1 if not.
"""

import argparse
import json
import signal
import sys
import tempfile
import time

from programs import PATIENCE, Failed, Service, show_last_words, start_hub

SERVICES = [("login", "one"), ("chat", "one"), ("db", "one"), ("game", "one"), ("game", "two")]
VICTIM = ("game", "two")


def talk(services, address, rate, seconds):
    """Lets them talk, kills the victim at 40 % of the time, starts it again at 60 %. What the kill was like."""
    began = time.monotonic()
    victim = services[VICTIM]
    for service in services.values():
        service.tell("go")
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
    services[VICTIM].tell("go")
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    return victim, {"at": killed - began, "noticed_ms": (noticed - killed) * 1e3,
                    "back_ms": (back - again) * 1e3}


def settle(services):
    """Everybody stops talking; nothing is under way any more. The hub's account then."""
    for service in services.values():
        service.tell("quiet")
    for service in services.values():
        service.wait("quiet")
    speaker = services[("login", "one")]
    deadline = time.monotonic() + PATIENCE
    while (account := ask_hub(speaker))["outstanding"] != 0:
        if time.monotonic() > deadline:
            raise Failed(f"{account['outstanding']} messages are still not confirmed")
    # The hub's answer to each comes behind all that was to come back to it.
    for service in services.values():
        ask_hub(service)
    # What each has handled and got back by now is its last word, but for one thing: its answers to the
    # others' last questions may still be on their way to being confirmed.
    while True:
        now = time.monotonic()
        final = {who: service.wait("report", now) for who, service in services.items()}
        if all(n["client_sent"] == n["confirmed"] for n in final.values()) or now > deadline:
            return final, account


def ask_hub(service):
    """The hub's account, as it gives it to this service."""
    asked = time.monotonic()
    service.tell("hub")
    account = service.wait("hub", asked)
    if "error" in account:
        raise Failed(f"the hub did not give its account: {account['error']}")
    return account


def add_returned(into, reports):
    for report in reports:
        for reason, count in report["returned"].items():
            into[reason] = into.get(reason, 0) + count
    return into


def show_services(final, seconds):
    print(f"\n  {'on the bus':<12}{'sent':>9}{'handled':>9}{'asked':>8}{'answered':>10}"
          f"{'p50':>9}{'p99':>9}{'max':>10}")
    for (service, instance), numbers in final.items():
        print(f"  {service + '/' + instance:<12}{numbers['sent']:>9}{numbers['handled']:>9}"
              f"{numbers['asked']:>8}{numbers['answered']:>10}"
              f"{numbers['p50_us'] / 1e3:>6.2f} ms{numbers['p99_us'] / 1e3:>6.2f} ms"
              f"{numbers['max_us'] / 1e3:>7.2f} ms")
    sent = sum(numbers["sent"] for numbers in final.values())
    print(f"\n  {sent / seconds:,.0f} messages a second from those who are still there;"
          f" round trips are question and answer, across the bus twice")


def show_kill(kill, returned):
    came_back = ", ".join(f"{count} with '{reason.removeprefix('TP_ERR_').lower().replace('_', ' ')}'"
                          for reason, count in sorted(returned.items())) or "none"
    print(f"\n  {'/'.join(VICTIM)} was killed (SIGKILL) after {kill['at']:.1f} s;"
          f" the others were told {kill['noticed_ms']:.1f} ms later")
    print(f"  started again, it was back on the bus after {kill['back_ms']:.0f} ms")
    print(f"  messages that came back to their senders: {came_back}")


def check_account(final, last_words, returned, account, seconds):
    """Each line is a claim, and whether the numbers bear it out."""
    handled = sum(numbers["received"] for numbers in final.values())
    by_victim = account["delivered"] - handled
    told = last_words["received"]
    seen = sum(returned.values())
    asked, answered, failed = (
        sum(n[what] for n in final.values()) for what in ("asked", "answered", "failed"))
    came_back = sum(n["came_back"] for n in [*final.values(), last_words])
    orphaned = account.get("returned.orphaned", 0)
    # Of what came back, questions that were over: the killed one had answered, and died before it could
    # confirm that it had handled the question; or its going was known before the question came back.
    late = sum(n["late"] for n in [*final.values(), last_words])
    gone = sum(n["gone"] for n in [*final.values(), last_words])
    claims = [
        ("accepted by the hub = delivered + returned",
         f"{account['accepted']:,} = {account['delivered']:,} + {account['returned']:,}",
         account["accepted"] == account["delivered"] + account["returned"]),
        ("delivered = handled by those alive + by the killed one before its death",
         f"{account['delivered']:,} = {handled:,} + {by_victim:,}"
         f" (it had told of {told:,} a moment before)",
         told - account["returned"] <= by_victim <= told + account["delivered"] / seconds),
        ("returned = come back to their senders + the killed one's own",
         f"{account['returned']:,} = {came_back:,} + {orphaned:,}",
         account["returned"] == came_back + orphaned),
        ("told to their senders + of questions over already = come back + asked of who was gone",
         f"{seen:,} + {late:,} = {came_back:,} + {gone:,}", seen + late == came_back + gone),
        ("everything the living sent was confirmed by the hub", "",
         all(n["client_sent"] == n["confirmed"] and n["lost"] == 0 for n in final.values())),
        ("asked = answered + come back, none timed out",
         f"{asked:,} = {answered:,} + {failed:,}",
         asked == answered + failed and all(n["timed_out"] == 0 for n in final.values())),
        ("every byte is what was sent", "", all(n["wrong"] == 0 for n in final.values())),
    ]
    print("\n  the account")
    good = True
    for text, numbers, holds in claims:
        good = good and holds
        print(f"  {'ok  ' if holds else 'NOT '} {text}{': ' + numbers if numbers else ''}")
    if not good:
        print(f"\n  the hub's own account: {json.dumps(account)}")
    return good


def finish(services, hub):
    for service in services.values():
        service.tell("stop")
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
        print(f"  {', '.join(s.title for s in services.values())} are on the bus; they talk for"
              f" {arguments.seconds:g} seconds")
        victim, kill = talk(services, address, arguments.rate, arguments.seconds)
        programs.append(services[VICTIM])
        final, account = settle(services)
        last_words = victim.said["report"]
        returned = add_returned({}, [*final.values(), last_words])
        show_services(final, arguments.seconds)
        show_kill(kill, returned)
        good = check_account(final, last_words, returned, account, arguments.seconds)
        finish(services, hub)
        print("\n  nothing was lost in silence" if good else "\n  the account does not add up")
        return 0 if good else 1
    except Failed as failure:
        print(f"\nfailed: {failure}")
        show_last_words(programs)
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
