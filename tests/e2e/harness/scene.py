"""One story about durability: stores, a gateway that may die and come back, its clients, the oracle.

The journal's folder and the ledger outlive every gateway of the story. Each story prints its seed;
DURABILITY_SEED repeats one, DURABILITY_ROUNDS makes the repeated ones longer (`./dev soak`).
"""

import contextlib
import os
import random
import shutil
import tempfile

import pytest

from .gateway import Gateway
from .load import Load, take_turn
from .oracle import Ledger
from .stub import answer, say
from .tokens import SECRET
from .wait import wait_until

SETTINGS = {
    "journal.segment_bytes": 1 << 20,  # small, so that a short run already has several
    "shutdown.drain_timeout_s": 20,
    "threads": 2,
    "jwt.secret": SECRET,
}


def rounds(normal):
    return int(os.environ.get("DURABILITY_ROUNDS") or normal)


class Scene:
    def __init__(self, settings, database, journal_dir, seed=None):
        """Without a seed it takes one, and prints it."""
        if seed is None:
            seed = int(os.environ.get("DURABILITY_SEED") or random.SystemRandom().randrange(1 << 32))
            print(f"DURABILITY_SEED={seed}")
        self.seed = seed
        self.rng = random.Random(self.seed)
        self.database, self.journal_dir = database, journal_dir
        self.settings = {**settings, **SETTINGS, "database.url": database.url, "journal.dir": journal_dir}
        self.ledger = Ledger()
        self.gateway = None

    # ---- the gateway's lives

    def start(self, changes=None, *, connected=True, **options):
        gateway = Gateway({**self.settings, **(changes or {})}, **options)
        if connected:
            gateway.await_stores()
        self.gateway = gateway
        return gateway

    def kill(self):
        """kill -9. What it had written stays."""
        gateway, self.gateway = self.gateway, None
        gateway.kill()

    def stop(self):
        gateway, self.gateway = self.gateway, None
        gateway.stop()

    def address(self):
        gateway = self.gateway
        return gateway and gateway.address

    # ---- its clients

    def load(self, **options):
        return Load(self.address, self.ledger, self.seed, **options)

    def ask(self, user, session, mark, *, tokens=3, gap=0):
        """One turn with a known answer; `mark` makes the question unlike all others."""
        return take_turn(
            self.gateway.address, self.ledger, user, session, say(f"tokens={tokens} gap={gap}", mark), answer(tokens)
        )

    def tell(self, user, session, mark, words):
        """One turn whose answer is `words`."""
        return take_turn(self.gateway.address, self.ledger, user, session, say(f"text={words}", mark), words)

    # ---- the end of the story

    def await_uncommitted(self, at_least=1, timeout=20):
        """The fault bites: acknowledged records wait for Postgres."""
        wait_until(
            lambda: self.gateway.metric("sluice_journal_uncommitted_records") >= at_least, timeout, "records wait"
        )

    def drain(self, timeout=60):
        """Everything that was taken is in Postgres."""

        def drained():
            metrics = self.gateway.metrics()
            return not metrics.get(("sluice_writer_records_waiting", ""), 0) and not metrics.get(
                ("sluice_journal_uncommitted_records", ""), 0
            )

        wait_until(drained, timeout, "the writer has caught up")

    def settle(self, *, missing=(), timeout=60):
        """Drains, and lets the oracle speak."""
        self.drain(timeout)
        return self.judge(missing=missing)

    def judge(self, database=None, **options):
        verdict = self.ledger.compare(database or self.database, **options)
        print(f"oracle: {verdict}")
        verdict.assert_clean()
        assert verdict.owed, "nothing was acknowledged: this has shown nothing"
        return verdict


@contextlib.contextmanager
def scene_on(settings, database, journal_dir):
    scene = Scene(settings, database, journal_dir)
    try:
        yield scene
        if scene.gateway is not None:
            scene.stop()
    finally:
        if scene.gateway is not None:
            scene.gateway.kill()


@pytest.fixture
def journal_dir():
    folder = tempfile.mkdtemp(prefix="sluice-journal.", dir="/tmp")
    yield f"{folder}/journal"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def scene(settings, own_database, journal_dir):
    """A story with a Postgres of its own, which it may break."""
    with scene_on(settings, own_database, journal_dir) as story:
        yield story
