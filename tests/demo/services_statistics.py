"""A test of the services' checks: they accept numbers that add up, and find each one that does not."""
import contextlib
import io
import sys

import services
from trial import on_trial

SECONDS = 10.0


def service(received):
    return {"received": received, "asked": 100, "answered": 90, "failed": 10, "late": 1, "gone": 2, "came_back": 9,
            "client_sent": 500, "confirmed": 500, "lost": 0, "timed_out": 0, "wrong": 0}


RIGHT = {
    "final": {("login", "one"): service(400), ("db", "one"): service(300)},
    "victim": {"received": 100, "late": 0, "gone": 0, "came_back": 1},
    "returned": {"peer-lost": 15, "no-service": 6},
    "hub": {"accepted": 822, "delivered": 801, "returned": 21, "returned.orphaned": 2},
}

# (what is changed, by how much)
WRONGS = [
    (("hub", "accepted"), 1),
    (("hub", "delivered"), -1),
    (("hub", "returned"), 1),
    (("hub", "returned.orphaned"), 1),
    (("returned", "peer-lost"), -1),
    (("victim", "received"), 200),
    (("final", ("db", "one"), "received"), 300),
    (("final", ("db", "one"), "client_sent"), 1),
    (("final", ("db", "one"), "lost"), 1),
    (("final", ("db", "one"), "answered"), -1),
    (("final", ("db", "one"), "timed_out"), 1),
    (("final", ("db", "one"), "late"), 1),
    (("final", ("db", "one"), "gone"), 1),
    (("final", ("db", "one"), "came_back"), 1),
    (("victim", "came_back"), -1),
    (("final", ("login", "one"), "wrong"), 1),
]


def judged(numbers):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        good = services.check_statistics(numbers["final"], numbers["victim"], numbers["returned"],
                                  numbers["hub"], SECONDS)
    return good, output.getvalue()


if __name__ == "__main__":
    sys.exit(on_trial(RIGHT, WRONGS, judged))
