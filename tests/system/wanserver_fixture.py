"""For the system tests of the program wanserver: a gate with new random keys for each process."""
import os
import re
import signal

from fixture import PATIENCE, Program, expect_equal, run, system_path, write_file
from wan_client import Player
from wan_noise import public_of  # skips the test where cryptography is missing
from wan_protocol import CLOSE, PING, PONG, Closed, Ended, frame, mint

NO_BUS = "127.0.0.1:1"  # no bus is there: players are held


def mint_by_tool(ring_file, key_id, public, account, ttl, *more):
    return run("tp-token", "--key-ring", system_path(ring_file), "--key-id", key_id, "--server-key",
               public.hex(), "--account", account, "--ttl", ttl, *more)


class GatePlayer(Player):
    def is_answered(self):
        """Whether it was admitted: a PING is answered. False: the stream ended without CLOSE."""
        word = os.urandom(8)
        try:
            self.write_frames(frame(word, PING))
            while True:
                kind, payload = self.read_frame()
                if kind == PING:
                    self.write_frames(frame(payload, PONG))
                elif kind == CLOSE:
                    raise Closed(int.from_bytes(payload[:2], "little"))
                elif kind == PONG:
                    expect_equal(payload, word, "PONG")
                    return True
        except Ended:
            return False


class Gate(Program):
    """A running wanserver with these lines of configuration; with tokens unless a line sets another mode."""

    def __init__(self, *lines, **popen):
        self.private, self.ring_key = os.urandom(32), os.urandom(32)
        self.public = public_of(self.private)
        self.key_file = write_file(self.private.hex() + "\n", ".key")
        self.ring_file = write_file(f"1 {self.ring_key.hex()}\n", ".ring")
        given = {line.split(" = ")[0] for line in lines}
        standard = {"listen": "127.0.0.1:0", "workers": "2", "key_file": system_path(self.key_file),
                    "token_keys": system_path(self.ring_file), "service": "arena", "bus": NO_BUS,
                    "drain_timeout": "60s"}
        text = "\n".join([f"{key} = {value}" for key, value in standard.items() if key not in given]
                         + list(lines)) + "\n"
        self.config = write_file(text)
        self.players = []
        super().__init__("wanserver", "--config", system_path(self.config), **popen)
        self.port = self.listening_port()
        self.address = ("127.0.0.1", self.port)

    def mint(self, **wanted):
        """A token for this gate, unless `wanted` makes it wrong or one for another gate."""
        return mint(**{**{"ring_key": self.ring_key, "key_id": 1, "server_public": self.public}, **wanted})

    def player(self, token=None):
        """A player that has sent READY. The next message shows whether it was admitted."""
        player = GatePlayer(self.address, self.public, token=token)
        self.players.append(player)
        return player

    def silent(self):
        """A connection that has sent nothing."""
        player = GatePlayer(self.address, self.public, log_in=False)
        self.players.append(player)
        return player

    def admits(self, token):
        """Whether a player with this token is admitted; if so, it leaves in order."""
        try:
            player = self.player(token)
        except (Ended, ConnectionError):
            return False
        answered = player.is_answered()
        if answered:
            player.leave()
        return answered

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)

    def connections(self):
        """The peers of its open connections on its listening port."""
        ours = f"{self.port:04X}"
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table][1:]
        return [row[2] for row in rows
                if row[1].endswith(":" + ours) and row[3] != "0A" and row[9] != "0"]

    def finish(self, ask=Program.interrupt):
        """Stops it: it must end in order. Returns its statistics by part and name."""
        ask(self)
        for player in self.players:
            player.close()
        expect_equal(self.wait(PATIENCE), 0, f"exit code\n{self.output()}")
        self.wait_for(r"^wanserver: stopped$")
        account = {"wan": {}, "gate": {}}
        for line in self.lines:
            said = re.match(r"wanserver: (wan|gate) ([\w.-]+)=(\d+)$", line)
            if said:
                account[said.group(1)][said.group(2)] = int(said.group(3))
        return account
