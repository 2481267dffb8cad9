"""For the system tests of the bus: a lanserver on a port of its own."""
from bus_client import BusClient
from fixture import PATIENCE, Program, expect_equal, write_file, system_path


class Hub(Program):
    """A running lanserver with these lines of configuration."""

    def __init__(self, *lines, **popen):
        # Long, so that a client on a slow machine is not cut before it has read the last messages.
        drain = () if any("drain_timeout" in line for line in lines) else ("drain_timeout = 60s",)
        idle = () if any("idle_timeout" in line for line in lines) else ("idle_timeout = 0",)
        listen = () if any("listen" in line for line in lines) else ("listen = 127.0.0.1:0",)
        text = "\n".join(listen + ("workers = 2",) + drain + idle + lines) + "\n"
        super().__init__("lanserver", "--config", system_path(write_file(text)), **popen)
        self.port = self.listening_port()

    def finish(self):
        """Stops it with Ctrl-C: it must end in order, and its statistics must add up. Returns them."""
        self.interrupt()
        for client in [client for client in BusClient.open if client.port == self.port]:
            client.close()
        expect_equal(self.wait(PATIENCE), 0, "exit code after Ctrl-C")
        said = self.wait_for(r"^lanserver: stopped: accepted (\d+) = delivered (\d+) \+ "
                             r"returned (\d+) \+ outstanding (\d+)$")
        accepted, delivered, returned, outstanding = map(int, said.groups())
        expect_equal(outstanding, 0, "outstanding at the end")
        expect_equal(accepted, delivered + returned, "accepted = delivered + returned")
        return accepted, delivered, returned
