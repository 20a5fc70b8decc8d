"""What the clients saw acknowledged, held against what is in Postgres.

`accepted` owes the question, `done` and an `error` with `saved: true` owe question and answer. Four
figures must be zero: lost (owed and not there), doubled (twice there), changed (there, but not what was
said, or said by nobody), out of order (within a session, by created_at and id). What was never
acknowledged may be there or not, but only once and only as it was said.
"""

import collections
import itertools
import threading

QUESTION, ANSWER = "user", "assistant"

# An error's code decides the status under which the partial answer is kept.
_STATUS_OF_ERROR = {"shutting_down": "interrupted"}


class Turn:
    """What one client asked, and what it has seen of the answer so far."""

    def __init__(self, number, user, session, question, expected):
        self.number, self.user, self.session = number, user, session
        self.question, self.expected = question, expected  # expected None: whatever the model says
        self.turn_id = self.question_id = self.answer_id = self.status = None
        self.text = ""
        self.last = None  # the event that ended it
        self.refused = None  # the HTTP status, when it is not 200
        self.acked = set()  # of QUESTION and ANSWER

    def see(self, event):
        kind = event["type"]
        if kind == "session_id":
            self.turn_id, self.session = event["turn_id"], event["session_id"]
        elif kind == "token":
            self.text += event["content"]
        elif kind == "accepted":
            self.question_id = event["message_id"]
            self.acked.add(QUESTION)
        elif kind == "done":
            self.last, self.answer_id = event, event["message_id"]
            self.status = "stopped" if event["finish_reason"] == "stopped" else "complete"
            self.acked |= {QUESTION, ANSWER}
        elif kind == "error":
            self.last = event
            if event["saved"]:
                self.status = _STATUS_OF_ERROR.get(event["code"], "failed")
                self.acked |= {QUESTION, ANSWER}


class Ledger:
    """Every turn of every client. `begin` may be called from any thread, `see` from the turn's own."""

    def __init__(self):
        self.turns = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def begin(self, user, session, question, expected=None):
        with self._lock:
            turn = Turn(next(self._numbers), user, session, question, expected)
            self.turns.append(turn)
            return turn

    def owed(self):
        """{(turn id, role)} of what has been acknowledged up to now."""
        with self._lock:
            turns = list(self.turns)
        return {(turn.turn_id, role) for turn in turns for role in tuple(turn.acked)}

    def compare(self, database, *, owed=None, missing=()):
        """The verdict on what is in the database now. `missing`: what a test has destroyed itself."""
        owed = (self.owed() if owed is None else owed) - set(missing)
        users = sorted({turn.user for turn in self.turns})
        rows = database.query(
            "select user_id, session_id::text, id::text, turn_id::text, role, status, content"
            " from chat_messages where user_id = any(%s) order by created_at, id",
            users,
        )
        return Verdict(self.turns, rows, owed)


class Verdict:
    def __init__(self, turns, rows, owed):
        self.rows, self.owed = rows, owed
        self._by_text = {turn.question: turn for turn in turns}
        self._by_id = {turn.turn_id: turn for turn in turns if turn.turn_id}
        assert len(self._by_text) == len(turns), "the questions of a test have to differ"
        for row in rows:  # a client that was cut off early learns its turn's id from its question
            if row["role"] == QUESTION and row["content"] in self._by_text:
                self._by_id.setdefault(row["turn_id"], self._by_text[row["content"]])
        there = collections.Counter((row["turn_id"], row["role"]) for row in rows)
        said = collections.Counter(row["content"] for row in rows if row["role"] == QUESTION)
        self.lost = sorted(owed - set(there), key=str)
        self.doubled = [key for key, count in there.items() if count > 1]
        self.doubled += [text[:80] for text, count in said.items() if count > 1]
        self.changed = [fault for fault in map(self._fault_of, rows) if fault]
        self.misordered = list(self._misordered())

    def _fault_of(self, row):
        """Why this row is not what was said, or None."""
        if row["role"] == QUESTION:
            turn = self._by_text.get(row["content"])
            if turn is None:
                return f"a question that nobody asked: {_short(row)}"
            wrong = {
                "turn": turn.turn_id and turn.turn_id != row["turn_id"],
                "id": turn.question_id and turn.question_id != row["id"],
                "status": row["status"] != "complete",
            }
        else:
            turn = self._by_id.get(row["turn_id"])
            if turn is None:
                return f"an answer to nothing: {_short(row)}"
            whole = turn.text if ANSWER in turn.acked else row["content"]
            wrong = {
                "id": turn.answer_id and turn.answer_id != row["id"],
                "status": ANSWER in turn.acked and turn.status != row["status"],
                "content": row["content"] != whole,
                # not acknowledged, so perhaps cut: but what is there was said by the model
                "said": turn.expected is not None and not turn.expected.startswith(row["content"]),
                "seen": not row["content"].startswith(turn.text),
            }
        wrong["user"] = turn.user != row["user_id"]
        wrong["session"] = turn.session and turn.session != row["session_id"]
        names = [name for name, is_wrong in wrong.items() if is_wrong]
        return f"{names} of {_short(row)}" if names else None

    def _misordered(self):
        """Turns of a session follow each other, so their numbers and roles may only go up."""
        latest = {}
        for row in self.rows:
            turn = self._by_id.get(row["turn_id"])
            if turn is not None:
                place = (turn.number, row["role"] == ANSWER)
                if place < latest.get(row["session_id"], (0, False)):
                    yield _short(row)
                latest[row["session_id"]] = place

    def __str__(self):
        return (
            f"owed {len(self.owed)}, in Postgres {len(self.rows)}: lost {len(self.lost)},"
            f" doubled {len(self.doubled)}, changed {len(self.changed)}, out of order {len(self.misordered)}"
        )

    def assert_clean(self):
        faults = {"lost": self.lost, "doubled": self.doubled, "changed": self.changed, "order": self.misordered}
        first = {name: found[:5] for name, found in faults.items() if found}
        assert not first, f"{self}\n{first}"


def _short(row):
    return f"{row['role']} {row['id']} of turn {row['turn_id']}, {row['status']}, {row['content'][:60]!r}"
