"""Table (h): user memory per idle player, cipher state included, beside TLS 1.3 on epoll.

As table (d). `TLS 1.3` keeps its buffers, as OpenSSL does unless it is told otherwise; `release` gives them
back whenever they are empty.
"""

from . import memory, players

NAMES = [players.WAN_AES, players.WAN_CHACHA, players.TLS, players.TLS_RELEASE]


def measure(settings, name, count):
    with players.SERVERS[name](settings) as (server, where):
        return memory.measure_server(settings, server, where, count)


def run(settings):
    return memory.measure_all(
        settings,
        NAMES,
        measure,
        "(h) user memory of {count} idle players, bytes per player above the empty server",
        "idle players",
    )
