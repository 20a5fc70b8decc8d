"""Connections to a gateway whose loop is known: a turn's id ends in the index of the loop that it was born on."""

import contextlib
import threading

from .stub import say
from .tokens import new_user


def loop_of(turn_id):
    return int(turn_id[-2:], 16)


class Loops:
    """Keep-alive connections, `each` of them to every loop of the gateway to begin with."""

    def __init__(self, gateway, each=1):
        self.gateway, self.count = gateway, int(gateway.settings["threads"])
        self._idle = [[] for _ in range(self.count)]
        self._lock = threading.Lock()
        self.probes = 0  # turns that were asked to find a connection's loop
        while min(len(idle) for idle in self._idle) < each:
            self._open()

    def _open(self):
        connection = self.gateway.connect()
        turn = self.gateway.ask(new_user(), say("tokens=1"), connection=connection)
        with self._lock:
            self.probes += 1
            self._idle[loop_of(turn.turn_id)].append(connection)

    def take(self, loop):
        """A connection to this loop, for good."""
        while True:
            with self._lock:
                if self._idle[loop]:
                    return self._idle[loop].pop()
            self._open()

    @contextlib.contextmanager
    def borrow(self, loop):
        """A connection to this loop, on which every response is read to its end."""
        connection = self.take(loop)
        yield connection
        with self._lock:
            self._idle[loop].append(connection)

    def idle(self):
        """How many connections wait to be taken."""
        with self._lock:
            return sum(len(idle) for idle in self._idle)

    def close(self):
        for idle in self._idle:
            for connection in idle:
                connection.close()
