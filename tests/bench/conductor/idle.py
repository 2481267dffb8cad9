"""Table (h): user memory per idle player, cipher state included, compared with TLS 1.3 on epoll.

Measured as table (d). `TLS 1.3` keeps its buffers, which is OpenSSL's default; `release` frees them when they
are empty.
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
