"""Many clients that talk at the same time, and a ledger of what each of them saw.

Every client has a user of its own and asks one question after the other; every question is unlike all
others. A gateway that is gone, refuses or cuts the stream is part of the load: it is counted and the
client goes on. What breaks the contract of the stream is not: `check` tells it.
"""

import random
import threading
import uuid

from .gateway import STREAM
from .http import Closed, Connection
from .sse import Stream
from .stub import answer, say
from .tokens import mint, new_user
from .wait import wait_until

# What is easily mangled on a way through JSON, C, SQL and back. (U+0000 is refused at the edge.)
_PIECES = [
    "plain words", "\"quoted\" and 'quoted'", "back\\slash \\u0041 \\x00", "two\nlines\r\n\tand a tab", "100% %s %n $1",
    "é ü 漢字 🙂 e\u0301", "\u2028\u2029\ufeff\u200d", "{\"json\": [1, null]}", "'; drop table chat_messages; --",
    "\x01\x1f\x7f", "data: {}\n\nevent: x",
]  # fmt: skip


def random_turn(rng, mark, *, gap=(0, 5)):
    """A question that begins with `mark`, and the answer that the model will give; None: any."""
    filler = " ".join(rng.choice(_PIECES) for _ in range(rng.randrange(4)))
    if rng.random() < 0.05:
        filler += "x" * rng.randrange(4000, 20000)
    pause = f"gap={rng.randint(*gap)}"
    kind = rng.random()
    if kind < 0.6:
        tokens = rng.randrange(1, 6)
        return say(f"tokens={tokens} {pause}", f"{mark} {filler}"), answer(tokens)
    if kind < 0.8:
        words = f"{mark} ünïcödé 漢字 🙂 \"\\' %s"
        return say(f"{pause} text={words}", f"{mark} {filler}"), words
    if kind < 0.9:
        return say(f"long={rng.randrange(1000, 8000)}", f"{mark} {filler}"), None
    return say(f"tokens=5 {pause} error_after=2", f"{mark} {filler}"), answer(5)


def take_turn(address, ledger, user, session, question, expected=None, *, timeout=60):
    """One turn, to its end or to the end of the gateway; the ledger hears each event as it comes."""
    turn = ledger.begin(user, session, question, expected)
    with Connection(address, timeout=timeout) as connection:
        headers = {"Authorization": f"Bearer {mint(user)}", "Accept": "*/*"}
        body = {"message": question, **({"session_id": session} if session else {})}
        connection.request("POST", STREAM, headers=headers, body=body)
        stream = Stream(connection)
        if stream.status != 200:
            turn.refused = stream.status
            turn.last = stream.response.json()["error"]
            return turn
        while (event := stream.next_event()) is not None:
            turn.see(event)
        stream.check()
    if turn.last is not None and turn.last["type"] == "done" and expected is not None:
        assert turn.text == expected, (turn.text, expected)
    return turn


class Load:
    """`address` is called before each turn and may return None while no gateway is there."""

    def __init__(self, address, ledger, seed, *, clients=8, gap=(0, 5)):
        self.address, self.ledger, self.gap = address, ledger, gap
        self.answered = self.unsaved = self.refused = self.cut = 0
        self.failures = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}/{i}"),), daemon=True)
            for i in range(clients)
        ]

    def _run(self, rng):
        user, session, number = new_user(), str(uuid.uuid4()), 0
        while not self._stopping.is_set():
            address = self.address()
            if address is None:
                self._stopping.wait(0.005)
                continue
            if rng.random() < 0.1:
                session = str(uuid.uuid4())
            number += 1
            question, expected = random_turn(rng, f"{user} turn {number}", gap=self.gap)
            try:
                turn = take_turn(address, self.ledger, user, session, question, expected)
                self._count(turn)
                if turn.refused:
                    self._stopping.wait(0.02)
            except (OSError, Closed):
                self._count(None)
                self._stopping.wait(0.005)
            except Exception as failure:  # told by check()
                self.failures.append(failure)
                return

    def _count(self, turn):
        with self._lock:
            if turn is None or (turn.last is None and not turn.refused):
                self.cut += 1
            elif turn.refused:
                self.refused += 1
            elif len(turn.acked) == 2:
                self.answered += 1
            else:
                self.unsaved += 1

    def await_answered(self, more, timeout=60):
        """Waits until `more` further turns have been answered and saved."""
        target = self.answered + more
        wait_until(lambda: self.failures or self.answered >= target, timeout, f"{more} more turns")
        self.check()

    def check(self):
        assert not self.failures, self.failures[0]

    def __repr__(self):
        return f"{self.answered} answered and saved, {self.unsaved} unsaved, {self.refused} refused, {self.cut} cut"

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join(90)
            assert kind or not thread.is_alive(), "a client hangs"
        if kind is None:
            self.check()
