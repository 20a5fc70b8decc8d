"""Redis or Postgres away, slow, or coming back: the answer streams all the same."""

import threading
import uuid

import pytest
from harness.stub import answer, say
from harness.wait import wait_until

FAST = {"writer.save_timeout_ms": 400, "shutdown.drain_timeout_s": 20}


def prompt(stub):
    return [message["content"] for message in stub.last()["messages"]]


def assert_answered(turn, tokens, warnings=()):
    assert turn.end == "clean" and turn.text == answer(tokens)
    assert sorted(turn.warnings) == sorted(warnings)


def assert_saved(turn):
    """Postgres is away, but the journal is not: message and answer are safe."""
    assert turn.last["type"] == "done"
    assert "accepted" in turn.types


def test_the_very_first_turn_knows_its_user(start, user, database, stub):
    """The links to the stores are still being made: the reads wait for them, within their deadlines."""
    database.set_profile(user, {"name": "Ada"})
    for _ in range(5):
        gateway = start(connected=False)
        turn = gateway.ask(user, say("tokens=1"), session_id=str(uuid.uuid4()))
        assert_answered(turn, 1)
        assert "Ada" in prompt(stub)[0]


# ---------------------------------------------------------------- Redis


def test_start_without_redis(start, own_redis, user, stub, database):
    own_redis.stop()
    gateway = start({"redis.url": own_redis.url}, connected=False)
    assert gateway.call("GET", "/readyz").status == 200
    gateway.await_up("database")
    first = gateway.ask(user, say("tokens=2", "one"))
    assert_answered(first, 2)
    assert_answered(gateway.ask(user, say("tokens=1", "two"), session_id=first.session_id), 1)
    assert prompt(stub)[1:] == [say("tokens=2", "one"), answer(2), say("tokens=1", "two")]
    own_redis.start()
    gateway.await_up("redis")
    gateway.ask(user, say("tokens=1", "three"), session_id=first.session_id)
    wait_until(lambda: own_redis.client().keys(f"sl:{{{user}}}*"), what="the cache fills again")


def test_redis_restarts_under_traffic(start, own_redis, user, database):
    gateway = start({"redis.url": own_redis.url})
    with Traffic(gateway, user) as traffic:
        traffic.await_turns(5)
        own_redis.stop()
        traffic.await_turns(10)
        own_redis.start()
        gateway.await_up("redis")
        traffic.await_turns(10)
    traffic.assert_all_good(database)


def test_a_frozen_redis_costs_its_deadline_and_no_warning(start, own_redis, user, stub):
    gateway = start({"redis.url": own_redis.url, "threads": 1})
    gateway.call("PUT", "/api/v1/profile", {"name": "Ada"}, user=user)
    session = gateway.ask(user, say("tokens=1", "one")).session_id
    gateway.await_up("redis")
    own_redis.freeze()
    try:
        turn = gateway.ask(user, say("tokens=2", "two"), session_id=session)
        assert_answered(turn, 2)
        assert turn.last["type"] == "done"
        assert "Ada" in prompt(stub)[0] and len(prompt(stub)) == 4
        assert turn.last["timings"]["context_ms"] < 1500
        for _ in range(6):  # the breaker opens: later turns do not even wait
            turn = gateway.ask(user, say("tokens=1"), session_id=session)
            assert_answered(turn, 1)
        assert turn.last["timings"]["context_ms"] < 45
    finally:
        own_redis.thaw()
    gateway.await_up("redis")


def test_a_redis_that_lost_everything(start, own_redis, user, stub, database):
    gateway = start({"redis.url": own_redis.url})
    session = gateway.ask(user, say("tokens=2", "one")).session_id
    database.await_messages(user, 2)
    own_redis.client().flushall()
    own_redis.client().script_flush()
    assert_answered(gateway.ask(user, say("tokens=1", "two"), session_id=session), 1)
    assert len(prompt(stub)) == 4
    wait_until(lambda: own_redis.client().llen(f"sl:{{{user}}}:h:{session}") == 4, what="the history is back")


def test_a_redis_that_refuses_writes(start, own_redis, user, stub, database):
    gateway = start({"redis.url": own_redis.url})
    own_redis.client().config_set("maxmemory", "1")
    session = gateway.ask(user, say("tokens=2", "one")).session_id
    database.await_messages(user, 2)
    turn = gateway.ask(user, say("tokens=1", "two"), session_id=session)
    assert turn.last["type"] == "done" and len(prompt(stub)) == 4


# ---------------------------------------------------------------- Postgres


def test_start_without_postgres(start, own_postgres, own_database, user, stub):
    own_postgres.stop()
    gateway = start({**FAST, "database.url": own_database.url}, connected=False)
    assert gateway.call("GET", "/readyz").status == 200
    assert not gateway.is_up("database")
    session = str(uuid.uuid4())
    turn = gateway.ask(user, say("tokens=3"), session_id=session)
    assert_answered(turn, 3, ["profile_unavailable", "history_unavailable"])
    assert_saved(turn)
    own_postgres.start()
    rows = own_database.await_messages(user, 2, session, timeout=30)
    assert rows[1]["content"] == answer(3) and rows[1]["status"] == "complete"
    gateway.await_up("database")
    turn = gateway.ask(user + "-new", say("tokens=1"), session_id=str(uuid.uuid4()))
    assert_answered(turn, 1)
    assert turn.last["type"] == "done"


def test_a_new_session_has_no_history_to_miss(start, own_postgres, own_database, user):
    own_postgres.stop()
    gateway = start({**FAST, "database.url": own_database.url}, connected=False)
    assert gateway.ask(user, say("tokens=1")).warnings == ["profile_unavailable"]
    own_postgres.start()
    own_database.await_messages(user, 2, timeout=30)


def test_the_next_turn_sees_the_last_one_while_postgres_is_down(start, own_postgres, own_database, user, stub):
    gateway = start({**FAST, "database.url": own_database.url})
    own_postgres.stop()
    first = gateway.ask(user, say("tokens=2", "one"))
    gateway.ask(user, say("tokens=1", "two"), session_id=first.session_id)
    assert prompt(stub)[1:] == [say("tokens=2", "one"), answer(2), say("tokens=1", "two")]
    own_postgres.start()
    own_database.await_messages(user, 4, timeout=30)


def test_the_next_turn_sees_the_last_one_while_postgres_and_redis_are_down(
    start, own_postgres, own_database, own_redis, user, stub
):
    gateway = start({**FAST, "database.url": own_database.url, "redis.url": own_redis.url})
    session = gateway.ask(user, say("tokens=1", "zero")).session_id
    own_database.await_messages(user, 2)
    own_postgres.stop()
    own_redis.stop()
    gateway.ask(user, say("tokens=2", "one"), session_id=session)
    own_postgres.start()  # reads work again; the writer may still be waiting
    gateway.await_up("database")
    gateway.ask(user, say("tokens=1", "two"), session_id=session)
    assert prompt(stub)[-3:] == [say("tokens=2", "one"), answer(2), say("tokens=1", "two")]
    own_database.await_messages(user, 6, timeout=30)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_postgres_restarts_under_traffic(start, own_postgres, own_database, user, how):
    gateway = start({"database.url": own_database.url, "writer.save_timeout_ms": 60000})
    with Traffic(gateway, user) as traffic:
        traffic.await_turns(5)
        getattr(own_postgres, how)()
        own_postgres.start()
        traffic.await_turns(10, timeout=60)
    traffic.assert_all_good(own_database)


def test_a_frozen_postgres_costs_its_deadline_and_is_named(start, own_postgres, own_database, user):
    gateway = start({**FAST, "database.url": own_database.url})
    gateway.ask(user, say("tokens=1"))
    own_postgres.freeze()
    try:
        other = user + "-cold"
        turn = gateway.ask(other, say("tokens=2"), session_id=str(uuid.uuid4()))
        assert_answered(turn, 2, ["profile_unavailable", "history_unavailable"])
        assert_saved(turn)
        accepted = turn.events[0].at
        assert turn.of("token")[0].at - accepted < 2, "300 ms, and not for ever"
    finally:
        own_postgres.thaw()
    own_database.await_messages(other, 2, timeout=30)


def test_connections_that_postgres_ends(start, own_postgres, own_database, user):
    """An administrator's pg_terminate_backend: nothing is lost, nothing is written twice."""
    gateway = start({"database.url": own_database.url, "writer.save_timeout_ms": 60000})
    gateway.ask(user, say("tokens=1"))
    for _ in range(3):
        own_database.query(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and datname = current_database()"
        )
        assert gateway.ask(user, say("tokens=1")).last["type"] == "done"
    own_database.await_messages(user, 8)


def test_requests_that_need_postgres_say_so(start, own_postgres, own_database, user):
    gateway = start({"database.url": own_database.url, "database.save_timeout_ms": 300})
    own_postgres.stop()
    for method, path, body in (
        ("GET", "/api/v1/chat/sessions", None),
        ("PUT", "/api/v1/profile", {"a": 1}),
        ("PATCH", f"/api/v1/chat/sessions/{uuid.uuid4()}", {"title": "x"}),
    ):
        response = gateway.call(method, path, body, user=user)
        assert response.status == 503 and "retry-after" in response.headers, response
        assert response.headers["content-type"] == "application/problem+json"
    own_postgres.start()
    wait_until(lambda: gateway.call("GET", "/api/v1/chat/sessions", user=user).status == 200, 15)


# ---------------------------------------------------------------- both


def test_start_without_both(start, own_redis, own_postgres, own_database, user):
    own_redis.stop()
    own_postgres.stop()
    gateway = start({**FAST, "redis.url": own_redis.url, "database.url": own_database.url}, connected=False)
    turn = gateway.ask(user, say("tokens=4"), session_id=str(uuid.uuid4()))
    assert_answered(turn, 4, ["profile_unavailable", "history_unavailable"])
    assert_saved(turn)
    own_redis.start()
    own_postgres.start()
    own_database.await_messages(user, 2, timeout=30)
    gateway.await_up("redis")
    gateway.await_up("database")
    assert gateway.ask(user, say("tokens=1")).last["type"] == "done"


class Traffic:
    """Turns of four users, one after the other, until told to stop."""

    def __init__(self, gateway, user):
        self.gateway, self.users = gateway, [f"{user}-{i}" for i in range(4)]
        self.turns, self.failures = {user: [] for user in self.users}, []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(user,)) for user in self.users]

    def _run(self, user):
        try:
            while not self.stopping.is_set():
                turn = self.gateway.ask(user, say("tokens=3 gap=5"), options={"timeout": 60})
                self.turns[user].append(turn)
        except Exception as failure:  # told by assert_all_good
            self.failures.append(failure)

    def count(self):
        assert not self.failures, self.failures
        return sum(len(turns) for turns in self.turns.values())

    def await_turns(self, more, timeout=30):
        target = self.count() + more
        wait_until(lambda: self.count() >= target, timeout, f"{more} more turns")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)

    def assert_all_good(self, database):
        """Every turn was answered whole, and every message is stored exactly once."""
        assert not self.failures, self.failures
        for user, turns in self.turns.items():
            for turn in turns:
                assert turn.text == answer(3) and turn.last["type"] == "done", turn.events
            rows = database.await_messages(user, 2 * len(turns), timeout=30)
            assert all(row["status"] == "complete" for row in rows)
