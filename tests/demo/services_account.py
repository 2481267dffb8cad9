"""The services' account on trial: it accepts numbers that add up, and each that does not is noticed."""
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
    "last_words": {"received": 100, "late": 0, "gone": 0, "came_back": 1},
    "returned": {"peer-lost": 15, "no-service": 6},
    "account": {"accepted": 822, "delivered": 801, "returned": 21, "returned.orphaned": 2},
}

# (what is changed, by how much)
WRONGS = [
    (("account", "accepted"), 1),
    (("account", "delivered"), -1),
    (("account", "returned"), 1),
    (("account", "returned.orphaned"), 1),
    (("returned", "peer-lost"), -1),
    (("last_words", "received"), 200),
    (("final", ("db", "one"), "received"), 300),
    (("final", ("db", "one"), "client_sent"), 1),
    (("final", ("db", "one"), "lost"), 1),
    (("final", ("db", "one"), "answered"), -1),
    (("final", ("db", "one"), "timed_out"), 1),
    (("final", ("db", "one"), "late"), 1),
    (("final", ("db", "one"), "gone"), 1),
    (("final", ("db", "one"), "came_back"), 1),
    (("last_words", "came_back"), -1),
    (("final", ("login", "one"), "wrong"), 1),
]


def judged(numbers):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        good = services.check_account(numbers["final"], numbers["last_words"], numbers["returned"],
                                  numbers["account"], SECONDS)
    return good, said.getvalue()


if __name__ == "__main__":
    sys.exit(on_trial(RIGHT, WRONGS, judged))
