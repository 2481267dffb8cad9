"""Table (e): one packet to 10,000 sessions by broadcast, compared with a copy for each."""

import json

from . import report
from .memory import SPARE_DESCRIPTORS, hold
from .process import Failed, start_server

SESSIONS = 10000
SIZE = 64
WAYS = {"broadcast": "one packet, broadcast", "copies": "a packet and a send for each"}


def measure(settings):
    if settings.descriptors < SESSIONS + SPARE_DESCRIPTORS:
        raise Failed(f"the limit of {settings.descriptors} descriptors does not allow it")
    argv = [
        f"{settings.bin}/bench-broadcast", "--port", "0", "--sessions", str(SESSIONS),
        "--size", str(SIZE), "--times", str(settings.broadcasts),
    ]  # fmt: skip
    server, port = start_server(argv, settings.cores[0])
    with server:
        with hold(settings, ["--connect", f"127.0.0.1:{port}"], SESSIONS, SIZE) as clients:
            result = json.loads(server.line(120))
            clients.say(f"wait {result['sent']}")
            clients.expect("have")
            clients.say("count")
            least, most, _ = clients.expect("frames").split()
            if not int(least) == int(most) == result["sent"]:
                raise Failed(f"{result['sent']} were sent, clients have {least} to {most}")
    return result


def run(settings):
    settings.say(f"broadcast to {SESSIONS} sessions")
    try:
        result = measure(settings)
    except Exception as error:  # reported; the other tables are still made
        return {}, [f"broadcast: {type(error).__name__}: {error}"]
    medians = {
        way: {key: report.median(result[way], key) for key in result[way][0]} for way in WAYS
    }
    settings.show(
        report.table(
            f"(e) {SIZE} B to {SESSIONS:,} sessions, ns per session, median of"
            f" {settings.broadcasts}",
            ["way", "call returns", "all sent", "server CPU"],
            [
                [WAYS[way]]
                + [f"{medians[way][key] / SESSIONS:,.0f}" for key in ("call_ns", "sent_ns", "cpu_ns")]
                for way in WAYS
            ],
        )
    )
    return medians, []
