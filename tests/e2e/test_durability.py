"""Not one acknowledged message lost or doubled: the process is killed, stopped, started, replayed."""

import datetime
import time

import pytest
from harness.gateway import run_once
from harness.scene import journal_dir, rounds, scene  # noqa: F401 (fixtures)
from harness.stub import answer
from harness.tokens import new_user
from harness.wait import wait_until

FIELDS = "select id::text, session_id::text, turn_id::text, role, status, content, model, finish_reason, created_at"


def stored(database, user):
    return database.query(f"{FIELDS} from chat_messages where user_id = %s order by created_at, id", user)


def replay(scene, since):
    done = run_once(["replay", "--since", str(since)], scene.settings)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done


# ---------------------------------------------------------------- kill -9


def test_killed_again_and_again_under_load(scene):
    """At a random moment of the traffic; every life goes on with the journal of the one before."""
    with scene.load(clients=8) as load:
        for _ in range(rounds(12)):
            scene.start(connected=False)
            load.await_answered(scene.rng.randrange(1, 40))
            scene.kill()
        scene.start()
        load.await_answered(5)
    scene.settle()
    assert load.cut > 0, "no client was ever cut off: the kills came too late"


def test_killed_while_postgres_is_down(scene, own_postgres):
    """Every life adds to the backlog; Postgres comes back after the last one."""
    scene.start()
    own_postgres.stop()
    with scene.load(clients=6) as load:
        for _ in range(rounds(4)):
            load.await_answered(scene.rng.randrange(5, 40))
            scene.kill()
            scene.start(connected=False)
        load.await_answered(5)
    waiting = scene.gateway.metric("sluice_journal_uncommitted_records")
    assert waiting >= len(scene.ledger.owed()), "what is acknowledged and not in Postgres is counted"
    own_postgres.start()
    scene.settle()


def test_killed_while_the_backlog_drains(scene, own_postgres):
    scene.start()
    own_postgres.stop()
    with scene.load(clients=8) as load:
        load.await_answered(200)
    scene.kill()
    own_postgres.start()
    for _ in range(rounds(4)):
        gateway = scene.start({"writer.batch_rows": scene.rng.choice([1, 3, 100])}, connected=False)
        target = scene.rng.randrange(1, 200)
        wait_until(
            lambda gateway=gateway, target=target: gateway.metric("sluice_writer_rows_total") >= target
            or gateway.metric("sluice_journal_uncommitted_records") == 0,
            what="it writes",
        )
        scene.kill()
    scene.start()
    scene.settle()


# ---------------------------------------------------------------- an orderly end


def test_sigterm_while_postgres_is_down(scene, own_postgres):
    """The journal has everything, so there is nothing to complain about: exit code 0."""
    gateway = scene.start({"shutdown.drain_timeout_s": 1})
    own_postgres.stop()
    with scene.load(clients=4) as load:
        load.await_answered(20)
        gateway.terminate()
        assert gateway.await_exit() == 0
    scene.stop()
    own_postgres.start()
    scene.start()
    scene.settle()


def test_a_second_gateway_on_the_same_journal_refuses_to_start(scene, user):
    scene.start()
    second = run_once([], {**scene.settings, "listen": "127.0.0.1:0"})
    assert second.returncode == 1, second
    complaints = [line for line in (second.stderr + second.stdout).splitlines() if line]
    assert len(complaints) == 1 and "journal" in complaints[0], complaints
    assert scene.ask(user, None, "still here").last["type"] == "done"
    scene.settle()


# ---------------------------------------------------------------- read your writes


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_the_next_turn_sees_the_last_one_without_any_store(scene, own_redis, own_postgres, user, stub, killed):
    """Postgres down and Redis flushed: all that is left is the overlay, which a new process rebuilds."""
    redis = {"redis.url": own_redis.url}
    scene.start(redis)
    own_postgres.stop()
    first = scene.ask(user, None, "one", tokens=2)
    assert first.acked == {"user", "assistant"}
    if killed:
        scene.kill()
        scene.start(redis, connected=False)
        scene.gateway.await_up("redis")
    own_redis.client().flushall()
    second = scene.ask(user, first.session, "two", tokens=1)
    prompt = [message["content"] for message in stub.last()["messages"]]
    assert prompt[1:] == [first.question, answer(2), second.question]
    own_postgres.start()
    scene.settle()


# ---------------------------------------------------------------- replay


def test_replay_restores_rows_and_changes_nothing_else(scene):
    began = time.time()
    scene.start()
    with scene.load(clients=4) as load:
        load.await_answered(40)
    scene.settle()
    user = scene.ledger.turns[0].user
    before = stored(scene.database, user)
    scene.database.query("delete from chat_messages where user_id = %s", user)
    scene.database.query("delete from chat_sessions where user_id = %s", user)
    replay(scene, int(began))
    scene.judge()
    assert stored(scene.database, user) == before
    moment = datetime.datetime.fromtimestamp(began, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    replay(scene, moment)
    scene.judge()
    assert stored(scene.database, user) == before


def test_replay_begins_where_it_is_told(scene, user):
    scene.start()
    early = scene.ask(user, None, "early")
    boundary = int(time.time()) + 1
    wait_until(lambda: time.time() >= boundary, what="the next second")
    late = scene.ask(user, None, "late")
    scene.settle()
    scene.stop()
    scene.database.query("delete from chat_messages where user_id = %s", user)
    replay(scene, boundary)
    assert [row["turn_id"] for row in stored(scene.database, user)] == [late.turn_id] * 2
    replay(scene, boundary - 3600)
    assert [row["turn_id"] for row in stored(scene.database, user)] == [early.turn_id] * 2 + [late.turn_id] * 2
    scene.judge()


def test_replay_does_not_bring_back_what_the_user_has_deleted(scene, user):
    gateway = scene.start()
    gone = scene.ask(user, None, "to be deleted")
    kept = scene.ask(user, None, "to be kept")
    assert gateway.call("DELETE", f"/api/v1/chat/sessions/{gone.session}", user=user).status < 300
    scene.drain()
    replay(scene, int(time.time()) - 3600)
    assert {row["turn_id"] for row in stored(scene.database, user)} == {kept.turn_id}
    assert [str(row["id"]) for row in scene.database.sessions(user)] == [kept.session]


@pytest.mark.parametrize("arguments", [["replay"], ["replay", "--since"], ["replay", "--since", "yesterday"]])
def test_replay_without_a_time_it_can_read_is_bad_usage(settings, arguments):
    done = run_once(arguments, {**settings, "journal.dir": "/nonexistent"})
    assert done.returncode == 2 and done.stderr and not done.stdout, done


def test_the_oracle_finds_what_it_looks_for(scene):
    """An oracle that cannot fail proves nothing: a row taken away, one altered and one added are each found."""
    scene.start()
    user, other = new_user(), new_user()
    turns = [scene.ask(user, None, f"turn {i}") for i in range(3)]
    scene.ask(other, None, "another user's")
    scene.settle()
    query = scene.database.query
    query("delete from chat_messages where id = %s::uuid", turns[0].answer_id)
    query("update chat_messages set content = content || ' ' where id = %s::uuid", turns[1].answer_id)
    query(
        "insert into chat_messages (user_id, session_id, id, turn_id, role, status, content, created_at)"
        " select user_id, session_id, gen_random_uuid(), turn_id, role, status, content, created_at"
        " from chat_messages where id = %s::uuid",
        turns[2].question_id,
    )
    earlier = "created_at = created_at - interval '1 hour'"
    query(f"update chat_messages set {earlier} where id = %s::uuid", turns[1].answer_id)
    verdict = scene.ledger.compare(scene.database)
    assert verdict.lost == [(turns[0].turn_id, "assistant")]
    assert len(verdict.changed) == 2  # the altered answer, and the added row's id
    assert len(verdict.doubled) == 2  # by turn and role, and by text
    assert len(verdict.misordered) == 1
