"""Reading the native event stream, by the letter of the contract."""

import json
import re

from .http import Closed

# The contract knows these blocks and no others, byte for byte.
_EVENT = re.compile(rb"(?:id: ([A-Za-z0-9.-]+)\n)?data: (\{[^\n\r]*\})\n\n")
_HEARTBEAT = b": hb\n"

TERMINAL = ("done", "error")


class Event(dict):
    """The JSON of one event; `.id` is its id line, `.at` when its last byte arrived, `.raw` its bytes."""

    def __init__(self, raw, id_, data, at):
        super().__init__(json.loads(data, object_pairs_hook=_no_duplicates))
        self.raw, self.id, self.at = raw, id_, at


def _no_duplicates(pairs):
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), f"a key twice: {names}"
    return dict(pairs)


class Stream:
    """One response that shows a turn, read as it comes in."""

    def __init__(self, connection, *, with_ids=False, after=0):
        """`after`: the events behind this one were asked for."""
        self.connection, self.with_ids, self.after = connection, with_ids, after
        self.response = connection.read_head()
        self.events, self.heartbeats = [], 0
        self.raw = b""
        self.end = None  # "clean": the last chunk came; "cut": the connection went before it
        self._pending = b""
        self._chunks = None
        if self.response.status == 200:
            assert self.response.headers.get("transfer-encoding") == "chunked", self.response
            self._chunks = connection.chunks()
        elif self.response.status == 204:
            self.end = "refused"
        else:
            self.end = "refused"
            self.response.body = connection._exactly(int(self.response.headers["content-length"]))

    # ---- reading

    def next_event(self):
        """The next event, or None at the end of the stream."""
        while True:
            event = self._take()
            if event is not None:
                self.events.append(event)
                return event
            if self.end is not None:
                return None
            try:
                chunk = next(self._chunks, None)
            except Closed:
                self.end = "cut"
                continue
            if chunk is None:
                assert self._pending == b"", f"half an event before a clean end: {self._pending!r}"
                self.end = "clean"
                continue
            self.raw += chunk
            self._pending += chunk

    def _take(self):
        heartbeat = _HEARTBEAT if self.with_ids else _HEARTBEAT + b"\n"
        while self._pending.startswith(heartbeat):
            self.heartbeats += 1
            self._pending = self._pending[len(heartbeat) :]
        if b"\n\n" not in self._pending:
            return None
        match = _EVENT.match(self._pending)
        assert match, f"not as the contract frames it: {self._pending[:300]!r}"
        self._pending = self._pending[match.end() :]
        id_ = match.group(1) and match.group(1).decode()
        assert (id_ is not None) == self.with_ids, match.group(0)
        return Event(match.group(0), id_, match.group(2).decode("utf-8"), self.connection.reads[-1][0])

    def until(self, type_):
        """Reads on to the first event of this type, which may have been read already."""
        for event in self.events:
            if event["type"] == type_:
                return event
        while (event := self.next_event()) is not None:
            if event["type"] == type_:
                return event
        raise AssertionError(f"no {type_} in {self.events}, end {self.end}")

    def until_text(self, text):
        """Reads on until this is the answer so far."""
        while self.text != text:
            assert self.next_event() is not None, f"no {text!r} in {self.events}, end {self.end}"

    def finish(self):
        """Reads to the end and checks what holds for every stream, good or bad."""
        while self.next_event() is not None:
            pass
        if self.end != "refused":
            self.check()
        return self

    def check(self):
        types = [event["type"] for event in self.events]
        first = self.after + 1
        assert [event["seq"] for event in self.events] == list(range(first, first + len(types))), self.events
        if types and first == 1:
            assert types[0] == "session_id", types
            named = self.events[0]["session_id"], self.events[0]["turn_id"]
            assert named == (self.session_id, self.turn_id), named
        assert all(type_ not in TERMINAL for type_ in types[:-1]), types
        if self.end == "clean":
            assert types and types[-1] in TERMINAL, f"a clean end without a last event: {types}"
        if self.with_ids:
            turn_id = self.response.headers["x-turn-id"]
            assert [event.id for event in self.events] == [f"{turn_id}.{e['seq']}" for e in self.events]

    # ---- what was in it

    @property
    def status(self):
        return self.response.status

    @property
    def types(self):
        return [event["type"] for event in self.events]

    def of(self, type_):
        return [event for event in self.events if event["type"] == type_]

    def joined(self, type_="token"):
        return "".join(event["content"] for event in self.of(type_))

    @property
    def text(self):
        return self.joined()

    @property
    def last(self):
        return self.events[-1]

    @property
    def session_id(self):
        return self.response.headers["x-session-id"]

    @property
    def turn_id(self):
        return self.response.headers["x-turn-id"]

    @property
    def warnings(self):
        return [event["code"] for event in self.of("warning")]

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
