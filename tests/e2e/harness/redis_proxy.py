"""A TCP proxy in front of Redis that writes down what passes, to count round trips.

Replies are held back for a moment: commands that do not wait for each other then all arrive before
the first reply leaves, and a new round trip is exactly a command that comes after a reply.
"""

import socket
import threading
import time


class RedisProxy:
    REPLY_DELAY_S = 0.01

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}/0"
        self.lock = threading.Lock()
        self.passed = []  # (time, connection, "C" or "S", bytes)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        number = 0
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.target)
            except OSError:
                server.close()
                client.close()
                continue
            number += 1
            for source, sink, side in ((client, server, "C"), (server, client, "S")):
                threading.Thread(target=self._pump, args=(source, sink, side, number), daemon=True).start()

    def _pump(self, source, sink, side, number):
        try:
            while data := source.recv(1 << 20):
                if side == "S":
                    time.sleep(self.REPLY_DELAY_S)
                with self.lock:
                    self.passed.append((time.monotonic(), number, side, data))
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def round_trips(self, since, until):
        """[[command, ...], ...]: one list per round trip that began in this span."""
        with self.lock:
            seen = [entry for entry in self.passed if since <= entry[0] <= until]
        trips, last_side = [], {}
        for _, connection, side, data in seen:
            if side == "C":
                if last_side.get(connection) != "C":
                    trips.append([])
                trips[-1] += commands_in(data)
            last_side[connection] = side
        return trips

    def close(self):
        self.listener.close()


def commands_in(data):
    """The commands of a RESP request stream, as lists of byte strings."""
    commands, at = [], 0
    while at < len(data) and data[at : at + 1] == b"*":
        end = data.index(b"\r\n", at)
        count, at = int(data[at + 1 : end]), end + 2
        words = []
        for _ in range(count):
            end = data.index(b"\r\n", at)
            size, at = int(data[at + 1 : end]), end + 2
            words.append(data[at : at + size])
            at += size + 2
        commands.append(words)
    return commands
