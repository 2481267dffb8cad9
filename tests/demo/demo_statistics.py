"""A test of the demo's checks: they accept numbers that add up, and find each one that does not."""
import contextlib
import io
import sys

import demo
from trial import on_trial

PLAYERS = 10

RIGHT = {
    "seen": {"errors": 0, "answers": 18,
             "arena": {"steps": 100, "probes": 20, "probes_lost": 2, "sights": 300, "entries": 900,
                       "entries_known": 800, "returns": 10}},
    "gate": {"wan.established": 10, "wan.forged": 0, "wan.expired": 0, "gate.arrived": 10, "gate.left": 10,
             "gate.lost_closed": 0, "gate.from_players": 120, "gate.forwarded": 115, "gate.returned": 3,
             "gate.dropped.no-service": 5, "gate.dropped.bus-full": 0, "gate.to_players": 400,
             "gate.sent": 398, "gate.refused.no-player": 2, "gate.joined": 20, "gate.confirmed_leaves": 10,
             "gate.lost_visits": 10, "gate.visits": 0},
    "killed": {"steps": 30, "stale_steps": 1, "probes": 5},
    "second": {"steps": 60, "stale_steps": 2, "probes": 10, "malformed": 0, "joined": 10, "returned": 10,
               "left": 10},
    "services": [{"timed_out": 0, "failed": 0, "wrong": 0, "asked": 50, "answered": 50}],
}

# (what is changed, by how much)
WRONGS = [
    (("seen", "errors"), 1),
    (("seen", "answers"), -1),
    (("seen", "arena", "steps"), 1),
    (("seen", "arena", "probes"), -1),
    (("seen", "arena", "probes_lost"), 1),
    (("seen", "arena", "entries_known"), -800),
    (("seen", "arena", "returns"), -1),
    (("gate", "wan.established"), -1),
    (("gate", "gate.arrived"), 1),
    (("gate", "gate.left"), -1),
    (("gate", "gate.lost_closed"), 1),
    (("gate", "gate.from_players"), 1),
    (("gate", "gate.forwarded"), -1),
    (("gate", "gate.dropped.no-service"), 1),
    (("gate", "gate.dropped.bus-full"), 1),
    (("gate", "gate.sent"), -1),
    (("gate", "gate.refused.no-player"), 1),
    (("gate", "gate.joined"), 1),
    (("gate", "gate.lost_visits"), -1),
    (("gate", "gate.visits"), 1),
    (("killed", "steps"), 100),
    (("second", "joined"), -1),
    (("second", "returned"), -1),
    (("second", "left"), -1),
    (("services", 0, "timed_out"), 1),
    (("services", 0, "wrong"), 1),
    (("services", 0, "answered"), -1),
]


def judged(numbers):
    claims = demo.claims_of(PLAYERS, numbers["seen"], numbers["gate"], numbers["killed"], numbers["second"],
                            numbers["services"])
    with contextlib.redirect_stdout(io.StringIO()) as output:
        good = demo.check_statistics(claims)
    return good, output.getvalue()


if __name__ == "__main__":
    sys.exit(on_trial(RIGHT, WRONGS, judged))
