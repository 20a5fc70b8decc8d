"""The journal's disk is full, refuses, tears or lies: what was acknowledged is kept all the same."""

import errno
import glob
import itertools
import os
import re
import threading
import time

import pytest
from harness.disk_faults import DiskFaults
from harness.full_disk import fill, tmpfs
from harness.gateway import run_once
from harness.scene import journal_dir, rounds, scene, scene_on  # noqa: F401 (fixtures)
from harness.tokens import SECRET, new_user
from harness.wait import wait_until

SMALL = {"journal.segment_bytes": 65536}
BIG_TEXT = "b" * 12000  # fills segments soon


def journal_state(gateway):
    response = gateway.call("GET", "/readyz")
    state = response.json()["journal"]["state"]
    assert response.status == (200 if state == "open" else 503), response
    return state


def assert_refuses(scene, stub):
    """A new turn: 503 before the model hears of it."""
    requests = stub.stats()["requests"]
    turn = scene.ask(new_user(), None, f"refused {new_user()}")
    assert turn.refused == 503 and turn.last["code"] == "storage_unavailable", turn.last
    assert stub.stats()["requests"] == requests


class Running:
    """Turns that are under way while the disk fails."""

    def __init__(self, scene, stub, count):
        self.scene, self.turns = scene, []
        self.threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self.threads:
            thread.start()
        stub.await_active(count)

    def _run(self):
        user = new_user()
        self.turns.append(self.scene.ask(user, None, f"{user} runs", tokens=60, gap=50))

    def finish(self):
        for thread in self.threads:
            thread.join(60)
        assert len(self.turns) == len(self.threads)
        return self.turns


# ---------------------------------------------------------------- full


def test_a_full_disk(settings, own_postgres, own_database, stub):
    """New turns are refused in time, running ones have a reserve, and space that returns is used at once."""
    with tmpfs("4m") as folder, scene_on(settings, own_database, f"{folder}/journal") as scene:
        gateway = scene.start(SMALL)
        own_postgres.stop()
        running = Running(scene, stub, 4)
        fill(f"{folder}/ballast")
        user = new_user()
        for i in range(60):
            turn = scene.ask(user, None, f"{user} {i} {BIG_TEXT}")
            if turn.refused:
                break
            assert turn.last["type"] == "done", turn.last
        assert turn.refused == 503 and turn.last["code"] == "storage_unavailable", turn.last
        assert journal_state(gateway) == "nearly_full"
        assert gateway.metric("sluice_journal_state") == 1
        assert_refuses(scene, stub)
        assert any(thread.is_alive() for thread in running.threads), "they were to outlast the space"
        assert all(turn.last["type"] == "done" for turn in running.finish()), "the reserve is theirs"

        os.unlink(f"{folder}/ballast")
        began = time.monotonic()
        wait_until(lambda: not scene.ask(user, None, f"{user} again {time.monotonic()}").refused, 10, "it reopens")
        assert time.monotonic() - began < 2.5
        assert journal_state(gateway) == "open"
        scene.kill()  # nothing of it was in memory only
        own_postgres.start()
        scene.start(SMALL)
        scene.settle()
        scene.stop()


def test_a_full_disk_while_postgres_writes(settings, own_database):
    """What is committed is kept for replays only: it gives way, and turns go on."""
    with tmpfs("4m") as folder, scene_on(settings, own_database, f"{folder}/journal") as scene:
        scene.start(SMALL)
        user = new_user()
        scene.ask(user, None, "before")
        fill(f"{folder}/ballast")
        numbers = itertools.count()

        def answered():  # it may be refused while the writer is behind
            return not scene.ask(user, None, f"{user} {next(numbers)} {BIG_TEXT}").refused

        for _ in range(60):
            wait_until(answered, 5, "what is committed gives way")
        scene.settle()
        scene.stop()


def test_a_disk_that_is_full_from_the_start(settings, own_database, stub):
    """It starts, says what is wrong, and opens when there is space."""
    with tmpfs("1m") as folder, scene_on(settings, own_database, f"{folder}/journal") as scene:
        fill(f"{folder}/ballast")
        gateway = scene.start(SMALL)
        assert_refuses(scene, stub)
        assert journal_state(gateway) != "open"
        os.unlink(f"{folder}/ballast")
        wait_until(lambda: journal_state(gateway) == "open", 5, "it opens")
        assert scene.ask(new_user(), None, "now").last["type"] == "done"
        scene.settle()
        scene.stop()


def test_committed_segments_are_not_kept_for_ever(scene, own_postgres):
    """What is in Postgres leaves the disk by `retain_bytes`; what is not stays, however much it is."""
    gateway = scene.start({**SMALL, "journal.retain_bytes": 0})
    own_postgres.stop()
    user = new_user()
    for i in range(30):
        scene.ask(user, None, f"{user} {i} {BIG_TEXT}")
    held = gateway.metric("sluice_journal_disk_bytes")
    assert held >= 30 * len(BIG_TEXT) and gateway.metric("sluice_journal_segments") >= 6
    own_postgres.start()
    scene.settle()
    few = 5 * SMALL["journal.segment_bytes"]
    wait_until(lambda: gateway.metric("sluice_journal_disk_bytes") <= few, 10, "segments are deleted")
    on_disk = sum(os.path.getsize(path) for path in glob.glob(f"{scene.journal_dir}/*"))
    assert on_disk <= few + 65536


# ---------------------------------------------------------------- refusing


@pytest.fixture
def faults(tmp_path, journal_dir):  # noqa: F811
    os.makedirs(journal_dir)
    return DiskFaults(str(tmp_path), journal_dir)


@pytest.mark.parametrize("kind", ["sync", "write"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_one_failure_is_survived(scene, faults, own_postgres, user, kind, number):
    """What was not in Postgres is written again, to a fresh segment; a kill -9 then finds it there."""
    gateway = scene.start(preload=faults.preload)
    scene.ask(user, None, "before")
    own_postgres.stop()
    scene.ask(user, None, "before, and not in Postgres")
    faults.fail(kind, number, times=1)
    struck = scene.ask(user, None, "struck")
    assert faults.hits(kind) == 1
    assert struck.last["type"] == "done", struck.last
    assert scene.ask(user, None, "after").last["type"] == "done"
    assert journal_state(gateway) == "open"
    scene.kill()
    own_postgres.start()
    scene.start(preload=faults.preload)
    scene.settle()


def test_failures_now_and_then_under_load(scene, faults):
    """One call in a while fails, with and without a crash soon after."""
    scene.start(SMALL, preload=faults.preload)
    with scene.load() as load:
        for number in range(rounds(6)):
            kind = scene.rng.choice(["sync", "write", "allocate"])
            before = faults.hits(kind)
            faults.fail(kind, scene.rng.choice([errno.EIO, errno.ENOSPC]), times=1)
            wait_until(lambda kind=kind, before=before: faults.hits(kind) > before, 30, f"a {kind} fails")
            load.await_answered(scene.rng.randrange(1, 20))
            if number % 3 == 2:
                scene.kill()
                scene.start(SMALL, connected=False, preload=faults.preload)
                load.await_answered(5)
    scene.settle()


@pytest.mark.parametrize("kind", ["sync", "write"])
def test_a_disk_that_always_refuses(scene, faults, stub, kind):
    """No new turns; the running ones are acknowledged by their commit."""
    gateway = scene.start(preload=faults.preload)
    running = Running(scene, stub, 3)
    faults.fail(kind)
    scene.ask(new_user(), None, "the one that meets it")
    wait_until(lambda: journal_state(gateway) == "failed", 10, "the journal is given up")
    assert gateway.metric("sluice_journal_state") == 2
    assert_refuses(scene, stub)
    for turn in running.finish():
        assert turn.last["type"] == "done", turn.last
        assert scene.database.query("select 1 from chat_messages where id = %s::uuid", turn.answer_id)
    scene.settle()


def test_a_disk_that_always_refuses_and_no_postgres(scene, faults, own_postgres, stub):
    """Nothing can be kept, so nothing is promised: the error says `saved: false`."""
    gateway = scene.start({"writer.save_timeout_ms": 1000}, preload=faults.preload)
    running = Running(scene, stub, 2)
    own_postgres.stop()
    faults.fail("sync")
    for turn in running.finish():
        assert turn.last["type"] == "error" and turn.last["code"] == "storage_unavailable", turn.last
        assert turn.last["saved"] is False and turn.last["retryable"] is True
    assert journal_state(gateway) == "failed"
    assert_refuses(scene, stub)
    own_postgres.start()
    scene.settle()


# ---------------------------------------------------------------- damaged while nobody looked


def find_text(journal_dir, text):  # noqa: F811
    """(file, offset) of the only record whose message has this text, not counting directives to the model."""
    places = []
    for path in glob.glob(f"{journal_dir}/**", recursive=True):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                held = file.read()
            places += [(path, found.start()) for found in re.finditer(re.escape(text.encode()) + rb"(?!\]\])", held)]
    (place,) = places
    return place


def tell_stories(scene, count):
    """Turns whose questions and answers are all different, the bigger ones over several segments."""
    user = new_user()
    session = None
    turns = []
    for i in range(count):
        filler = BIG_TEXT[: scene.rng.randrange(1, 8000)]
        turn = scene.tell(user, session, f"question-{user}-{i}. {filler}", f"answer-{user}-{i}.")
        assert turn.acked == {"user", "assistant"}
        session = turn.session
        turns.append(turn)
    return turns


def test_a_torn_tail(scene, own_postgres):
    """The last record was never whole: it is cut off, and the rest is there."""
    scene.start(SMALL)
    own_postgres.stop()
    turns = tell_stories(scene, 20)
    scene.kill()
    path, at = find_text(scene.journal_dir, turns[-1].text)
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.seek(at + 3)
        file.write(bytes(size - at - 3))
    own_postgres.start()
    gateway = scene.start(SMALL)
    assert gateway.metric("sluice_journal_torn_tails_total") == 1
    scene.settle(missing={(turns[-1].turn_id, "assistant")})
    assert scene.ask(turns[0].user, turns[0].session, "and on it goes").last["type"] == "done"
    scene.settle(missing={(turns[-1].turn_id, "assistant")})


def test_damage_in_the_middle(scene, own_postgres):
    """Single bytes of some records have changed: these are missing and counted, the rest is there."""
    scene.start(SMALL)
    own_postgres.stop()
    turns = tell_stories(scene, 40)
    scene.kill()
    missing = set()
    for number in (3, 17, 30):
        role = scene.rng.choice(["user", "assistant"])
        turn = turns[number]
        text = turn.text if role == "assistant" else turn.question[:60].split(" ")[0]
        path, at = find_text(scene.journal_dir, text)
        at += scene.rng.randrange(len(text))
        with open(path, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << scene.rng.randrange(8)]))
        missing.add((turn.turn_id, role))
    own_postgres.start()
    gateway = scene.start(SMALL)
    assert gateway.metric("sluice_journal_quarantined_records_total") == len(missing)
    verdict = scene.settle(missing=missing, timeout=20)
    there = {(row["turn_id"], row["role"]) for row in verdict.rows}
    assert not missing & there, "what is damaged is not made up"


def test_a_folder_that_cannot_be_used_is_one_clear_line(settings, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    folder = {"journal.dir": str(tmp_path / "file")}
    done = run_once([], {**settings, "jwt.secret": SECRET, "listen": "127.0.0.1:0", **folder})
    assert done.returncode == 1, done
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line]
    assert len(lines) == 1 and "journal" in lines[0], lines
