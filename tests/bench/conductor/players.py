"""The servers that players connect to, with their certificates and keys.

All of them get the same load from the same programs (players/); only the cipher differs.

TLS everywhere is 1.3 alone, AES-256-GCM, X25519, with a self-signed P-256 certificate, without tickets or
sessions: every handshake is a full one. OpenSSL is measured with its defaults, as most servers use it, and with
the option that is best for a table's figure: `read ahead` (a receive fetches all there is) for processor time,
`release` (an idle connection frees its buffers) for memory.
"""

import contextlib
import functools
import pathlib
import secrets
import socket
import subprocess
import tempfile

from .process import Child, Failed, find_program, start_server

WAN_AES, WAN_CHACHA = "twinport wan", "twinport wan, ChaCha20"
TLS, TLS_AHEAD, TLS_EACH = "TLS 1.3", "TLS 1.3, read ahead", "TLS 1.3, write per message"
TLS_RELEASE, TLS_ED25519 = "TLS 1.3, release", "TLS 1.3, Ed25519 certificate"
HAPROXY = "haproxy"
PLAIN = "connection alone"
FORGED = "twinport wan, forged HELLO"
KEY_ID = 1

HAPROXY_CONFIG = """\
global
    nbthread 1
    maxconn 2000
    tune.ssl.cachesize 0
defaults
    mode tcp
    timeout connect 10s
    timeout client 10m
    timeout server 10m
frontend players
    bind fd@{listener} ssl crt {certificate} ssl-min-ver TLSv1.3 ciphersuites TLS_AES_256_GCM_SHA384 \
curves X25519 no-tls-tickets
    default_backend echo
backend echo
    server echo 127.0.0.1:{port}
"""

KEYS = {"P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "Ed25519": ["ed25519"]}


@functools.lru_cache(maxsize=None)
def _folder():
    return tempfile.TemporaryDirectory()  # removed when the conductor ends


@functools.lru_cache(maxsize=None)
def certificate(kind="P-256"):
    """A self-signed certificate and its key, in one PEM file."""
    folder = pathlib.Path(_folder().name)
    key, cert = folder / f"{kind}.key", folder / f"{kind}.crt"
    made = subprocess.run(
        [find_program("openssl"), "req", "-x509", "-newkey", *KEYS[kind], "-nodes", "-days", "30",
         "-subj", "/CN=bench", "-keyout", str(key), "-out", str(cert)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        raise Failed(f"no certificate: {made.stderr.strip()[-300:]}")
    both = folder / f"{kind}.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    return str(both)


@functools.lru_cache(maxsize=None)
def gateway_key(bin_folder):
    """The file with a gateway's private key, and its public key as text."""
    path = pathlib.Path(_folder().name) / "gateway.key"
    made = subprocess.run(
        [f"{bin_folder}/wanserver", "--genkey", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        raise Failed(f"no gateway key: {made.stderr.strip()[-300:]}")
    return str(path), made.stdout.strip()


@contextlib.contextmanager
def _tp_echo(settings, *how):
    argv = [f"{settings.bin}/tp-echo", "wan", "--port", "0", "--workers", "1", *how]
    server, port = start_server(argv, settings.cores[0])
    with server:
        yield server, ["--connect", f"127.0.0.1:{port}"]


# ---- servers: each yields the process that is measured, and the load's arguments -------------------


@contextlib.contextmanager
def tls(settings, *further, key="P-256"):
    argv = [f"{settings.bin}/peer-tls", "--port", "0", "--certificate", certificate(key), *further]
    server, port = start_server(argv, settings.cores[0])
    with server:
        yield server, ["--connect", f"127.0.0.1:{port}", "--over", "tls"]


@contextlib.contextmanager
def haproxy(settings):
    """haproxy in front of an echo that never looks at a message, on the load's core."""
    echo, echo_port = start_server([f"{settings.bin}/peer-epoll-raw", "--port", "0"], settings.cores[1])
    with echo, socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        port = listener.getsockname()[1]
        config = pathlib.Path(_folder().name) / "haproxy.cfg"
        config.write_text(
            HAPROXY_CONFIG.format(
                listener=listener.fileno(), certificate=certificate(), port=echo_port
            ),
            encoding="ascii",
        )
        argv = [find_program("haproxy"), "-db", "-f", str(config)]
        # It takes over the listener, whose backlog keeps connections until it is up.
        with Child(argv, settings.cores[0], pass_fds=[listener.fileno()]) as server:
            yield server, ["--connect", f"127.0.0.1:{port}", "--over", "tls"]


@functools.lru_cache(maxsize=None)
def key_ring():
    """A file with a random key of number KEY_ID."""
    path = pathlib.Path(_folder().name) / "ring"
    path.write_text(f"{KEY_ID} {secrets.token_hex(32)}\n", encoding="ascii")
    return str(path)


@contextlib.contextmanager
def wan(settings, suite="aes"):
    key, public = gateway_key(settings.bin)
    with _tp_echo(settings, "--auth", "open", "--key", key) as (server, address):
        yield server, [*address, "--over", "wan", "--server-key", public, "--suite", suite]


@contextlib.contextmanager
def wan_forged(settings):
    """A server in mode token, and a load without tokens."""
    key, _ = gateway_key(settings.bin)
    token = ["--auth", "token", "--key", key, "--key-ring", key_ring()]
    with _tp_echo(settings, *token) as (server, address):
        yield server, [*address, "--over", "plain", "--hello", f"forged:{KEY_ID}"]


@contextlib.contextmanager
def plain(settings):
    """A server without a cipher that never looks at a message."""
    server, port = start_server([f"{settings.bin}/peer-epoll-raw", "--port", "0"], settings.cores[0])
    with server:
        yield server, ["--connect", f"127.0.0.1:{port}", "--over", "plain"]


SERVERS = {
    WAN_AES: wan,
    WAN_CHACHA: functools.partial(wan, suite="chacha"),
    TLS: lambda settings: tls(settings, "--read-ahead", "no"),
    TLS_AHEAD: tls,
    TLS_RELEASE: lambda settings: tls(settings, "--buffers", "release"),
    TLS_EACH: lambda settings: tls(settings, "--read-ahead", "no", "--answer", "message"),
    TLS_ED25519: lambda settings: tls(settings, "--read-ahead", "no", key="Ed25519"),
    HAPROXY: haproxy,
    PLAIN: plain,
    FORGED: wan_forged,
}
