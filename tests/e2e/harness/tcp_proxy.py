"""A TCP proxy in front of PostgreSQL that breaks what a network breaks, at a chosen message.

One thread, which knows just enough of the protocol (PostgreSQL 15 manual, chapter 55) to see messages,
and which batches write: a Sync that follows a Bind of a `write_...` statement is a commit, and the
ReadyForQuery that answers it is the reply to that commit. The connection has to be without TLS.
"""

import collections
import random
import select
import socket
import struct
import threading

BUFFER_MAX = 1 << 20


class _Link:
    """One client, its server connection, and what is on the way between them."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.from_client, self.from_server = bytearray(), bytearray()  # received, no whole message yet
        self.to_client, self.to_server = bytearray(), bytearray()  # passed, not sent yet
        self.started = False  # the first message has no type byte
        self.writes = False  # a write was seen since the last Sync
        self.is_writer = False
        self.syncs = collections.deque()  # for each reply that is due: does it confirm a write?
        self.cut_in = None  # client messages until the cut
        self.spared = False  # until a commit has passed: if all were cut at once, all would be back-off

    def sockets(self):
        return (self.client, self.server)


class TcpProxy:
    def __init__(self, socket_folder, seed=0, port=5432):
        self.target = f"{socket_folder}/.s.PGSQL.{port}"
        self.rng = random.Random(seed)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.RLock()
        self.links = []
        self.mode = "pass"  # "hold": replies stay here; "freeze": nothing moves at all
        self.replies_to_drop = self.replies_dropped = 0
        self.commits_until_drop = 0
        self.cuts_to_make = self.cuts_made = self.messages_max = 0
        self.commits_passed = self.commits_at_cut = 0
        self._wake_r, self._wake_w = socket.socketpair()
        self.closed = False
        self.failure = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def url(self, database, user="sluice"):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}?sslmode=disable&gssencmode=disable"

    # ---- faults, called by the test

    def drop_commit_replies(self, count):
        """`count` times: some commits pass, then one is done and its reply never arrives."""
        with self.lock:
            self.replies_to_drop, self.replies_dropped = count, 0
            self.commits_until_drop = self.rng.randint(0, 3)

    def cut_after_messages(self, count, messages_max):
        """`count` times: the writer's connection is reset after 1 to `messages_max` of its messages."""
        with self.lock:
            self.cuts_to_make, self.cuts_made, self.messages_max = count, 0, messages_max

    def set_mode(self, mode):
        with self.lock:
            self.mode = mode
        self._wake_w.send(b".")

    def reset_all(self):
        with self.lock:
            for link in list(self.links):
                self._end(link, reset=True)

    def close(self):
        with self.lock:
            self.closed = True
        self._wake_w.send(b".")
        self._thread.join(10)
        for link in list(self.links):
            self._end(link, reset=False)
        self.listener.close()
        assert self.failure is None, self.failure

    # ---- the thread

    def _run(self):
        try:
            while not self.closed:
                with self.lock:
                    poller = self._interests()
                ready = poller.poll(1000)
                with self.lock:
                    self._serve({fd: events for fd, events in ready})
        except Exception as failure:  # told by close()
            self.failure = failure

    def _interests(self):
        poller = select.poll()
        poller.register(self._wake_r, select.POLLIN)
        poller.register(self.listener, select.POLLIN)
        if self.mode == "freeze":
            return poller
        for link in self.links:
            held = self.mode == "hold"
            self._register(poller, link.client, b"" if held else link.to_client, link.to_server)
            self._register(poller, link.server, link.to_server, link.to_client)
        return poller

    def _register(self, poller, sock, out, back):
        wanted = select.POLLIN if len(back) < BUFFER_MAX else 0
        poller.register(sock, wanted | (select.POLLOUT if out else 0))

    def _serve(self, ready):
        if self._wake_r.fileno() in ready:
            self._wake_r.recv(4096)
        if self.listener.fileno() in ready:
            self._accept()
        for link in list(self.links):
            for sock in link.sockets():
                events = ready.get(sock.fileno(), 0)  # -1 once the link has ended: not in ready
                if events and link in self.links and self.mode != "freeze":
                    self._move(link, sock, events)

    def _accept(self):
        client, _ = self.listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.target)
        except OSError:
            server.close()
            client.close()
            return
        client.setblocking(False)
        server.setblocking(False)
        link = _Link(client, server)
        link.spared = self.rng.random() < 0.7
        self.links.append(link)

    def _move(self, link, sock, events):
        is_client = sock is link.client
        try:
            if events & ~select.POLLOUT:
                data = sock.recv(1 << 16)
                if not data:
                    self._flush(link.client, link.to_client)  # its last words, such as 57P01
                    self._end(link, reset=False)
                    return
                if is_client:
                    link.from_client += data
                    self._pass_requests(link)
                else:
                    link.from_server += data
                    self._pass_replies(link)
            if events & select.POLLOUT and link in self.links:
                out = link.to_client if is_client else link.to_server
                del out[: sock.send(out)]
        except BlockingIOError:
            pass
        except OSError:
            self._end(link, reset=True)

    def _pass_requests(self, link):
        while (message := _take_message(link.from_client, typed=link.started)) is not None:
            if not link.started:
                link.started = True
            elif message[:1] == b"B" and b"\0write_" in message[:80]:
                link.writes = link.is_writer = True
            elif message[:1] in (b"S", b"Q"):
                link.syncs.append(link.writes)
                link.writes = False
            link.to_server += message
            if link.is_writer and self._cut_is_due(link):
                # what came before has to reach the server, or nothing would have been cut
                self._flush(link.server, link.to_server)
                self._end(link, reset=True)
                return

    def _cut_is_due(self, link):
        if self.cuts_made >= self.cuts_to_make:
            return False
        if link.cut_in is None:
            if link.spared and self.commits_passed == self.commits_at_cut:
                return False
            link.cut_in = self.rng.randint(1, self.messages_max)
        link.cut_in -= 1
        if link.cut_in > 0:
            return False
        self.cuts_made += 1
        self.commits_at_cut = self.commits_passed
        return True

    def _pass_replies(self, link):
        while (message := _take_message(link.from_server, typed=True)) is not None:
            # the first ReadyForQuery ends the start and answers no Sync
            if message[:1] == b"Z" and link.syncs and link.syncs.popleft():
                if self._drop_is_due():
                    if self.rng.random() < 0.5:  # else not even the rows' own replies arrive
                        self._flush(link.client, link.to_client)
                    self._end(link, reset=self.rng.random() < 0.5)
                    return
                self.commits_passed += 1
            link.to_client += message

    def _drop_is_due(self):
        if self.replies_dropped >= self.replies_to_drop:
            return False
        if self.commits_until_drop > 0:
            self.commits_until_drop -= 1
            return False
        self.commits_until_drop = self.rng.randint(0, 3)
        self.replies_dropped += 1
        return True

    def _flush(self, sock, out):
        try:
            sock.send(out)
        except OSError:
            pass

    def _end(self, link, *, reset):
        self.links.remove(link)
        if reset:
            link.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for sock in link.sockets():
            sock.close()


def _take_message(buffer, *, typed):
    """Takes one whole message off the front, or returns None."""
    head = 1 if typed else 0
    if len(buffer) < head + 4:
        return None
    size = head + int.from_bytes(buffer[head : head + 4], "big")
    if len(buffer) < size:
        return None
    message = bytes(buffer[:size])
    del buffer[:size]
    return message
