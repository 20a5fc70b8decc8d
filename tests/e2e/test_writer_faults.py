"""Postgres and the way to it fail in every way; the clients go on, and the oracle finds nothing."""

import json

import pytest
from harness.gateway import run_once
from harness.scene import journal_dir, rounds, scene, scene_on  # noqa: F401 (fixtures)
from harness.tcp_proxy import TcpProxy
from harness.wait import wait_until

TERMINATE = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity"
    " where pid <> pg_backend_pid() and datname = current_database()"
)


@pytest.fixture
def proxied(settings, own_postgres, own_database, journal_dir):  # noqa: F811
    """A story whose gateway reaches Postgres by a proxy: (scene, proxy)."""
    with scene_on(settings, own_database, journal_dir) as story:
        proxy = TcpProxy(own_postgres.folder, story.seed)
        story.settings["database.url"] = proxy.url(own_database.url.split("///")[1].split("?")[0])
        try:
            yield story, proxy
            if story.gateway is not None:
                story.stop()
        finally:
            proxy.close()


# ---------------------------------------------------------------- the server


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_postgres_away_for_a_while(scene, own_postgres, how):
    scene.start()
    with scene.load() as load:
        load.await_answered(10)
        getattr(own_postgres, how)()
        load.await_answered(100)  # acknowledged, all of them, without a database
        assert scene.gateway.call("GET", "/readyz").status == 200
        own_postgres.start()
        load.await_answered(20)
    scene.settle()
    assert load.unsaved == load.refused == 0, load


def test_postgres_flapping(scene, own_postgres):
    scene.start()
    with scene.load() as load:
        for _ in range(rounds(4)):
            getattr(own_postgres, scene.rng.choice(["stop", "kill"]))()
            load.await_answered(scene.rng.randrange(1, 30))
            own_postgres.start()
            load.await_answered(scene.rng.randrange(1, 30))
    scene.settle()
    assert load.unsaved == load.refused == 0, load


def test_postgres_frozen(scene, own_postgres):
    """SIGSTOP: connections stand, and nothing answers."""
    scene.start()
    with scene.load() as load:
        load.await_answered(10)
        own_postgres.freeze()
        try:
            load.await_answered(60)
        finally:
            own_postgres.thaw()
        load.await_answered(20)
    scene.settle()
    assert load.unsaved == load.refused == 0, load


def test_backends_terminated_under_load(scene):
    scene.start()
    with scene.load() as load:
        for _ in range(rounds(10)):
            scene.database.query(TERMINATE)
            load.await_answered(scene.rng.randrange(1, 20))
    scene.settle()
    assert load.unsaved == load.refused == 0, load


def test_a_locked_table(scene):
    scene.start()
    with scene.load() as load:
        load.await_answered(5)
        with scene.database.lock("lock table chat_messages in exclusive mode"):
            load.await_answered(60)
            scene.await_uncommitted()
    scene.settle()
    assert load.unsaved == load.refused == 0, load


# ---------------------------------------------------------------- the way there


def test_the_reply_to_a_commit_cut_off(proxied):
    """It is done, and nobody knows: the batch is sent again and must change nothing."""
    scene, proxy = proxied  # noqa: F811
    scene.start()
    cuts = rounds(15)
    with scene.load() as load:
        load.await_answered(5)
        proxy.drop_commit_replies(cuts)
        wait_until(lambda: load.failures or proxy.replies_dropped == cuts, 30 + cuts, f"{cuts} replies dropped")
        load.await_answered(20)
    scene.settle()
    assert load.unsaved == load.refused == 0, load
    assert sum_of(scene.gateway, "sluice_writer_retries_total") >= cuts


def test_the_connection_reset_in_the_middle_of_a_pipeline(proxied):
    scene, proxy = proxied  # noqa: F811
    scene.start()
    cuts = rounds(15)
    with scene.load(clients=12) as load:
        load.await_answered(5)
        proxy.cut_after_messages(cuts, 60)
        wait_until(lambda: load.failures or proxy.cuts_made == cuts, 30 + cuts, f"{cuts} cuts")
        load.await_answered(20)
    scene.settle()
    assert load.unsaved == load.refused == 0, load


@pytest.mark.parametrize("mode", ["hold", "freeze"])
def test_a_network_that_swallows(proxied, mode):
    """Replies are held back, or nothing passes at all; then all connections break at once."""
    scene, proxy = proxied  # noqa: F811
    scene.start()
    with scene.load() as load:
        load.await_answered(5)
        proxy.set_mode(mode)
        load.await_answered(40)
        proxy.reset_all()
        proxy.set_mode("pass")
        load.await_answered(20)
    scene.settle()
    assert load.unsaved == load.refused == 0, load


# ---------------------------------------------------------------- what Postgres refuses


def dead_letters(scene):  # noqa: F811
    listed = run_once(["dead-letter", "list"], scene.settings)
    assert listed.returncode == 0, listed.stderr
    return [json.loads(line) for line in listed.stdout.splitlines()]


def test_poison_rows_are_set_aside_and_come_in_later(scene, user):
    """The edge lets them through, a constraint does not: they alone are missing until it is gone."""
    gateway = scene.start()
    query = scene.database.query
    query("alter table chat_messages add constraint no_poison check (content not like 'arsenic%%')")
    with scene.load(clients=6) as load:
        load.await_answered(10)
        poisoned = [scene.ask(user, None, f"arsenic {i}") for i in range(3)]
        spoiled = scene.tell(user, None, "a good question", "arsenic in the answer")
        load.await_answered(10)
    assert all(turn.last["type"] == "done" for turn in [*poisoned, spoiled]), "the disk had them, so they are saved"
    bad = {(turn.turn_id, "user"): turn.question_id for turn in poisoned}
    bad[spoiled.turn_id, "assistant"] = spoiled.answer_id
    scene.settle(missing=bad)
    assert gateway.metric("sluice_writer_dead_letters_total") == len(bad)

    letters = dead_letters(scene)
    assert len(letters) == len(bad)
    for message_id in bad.values():
        (letter,) = [letter for letter in letters if message_id in json.dumps(letter)]
        assert "23514" in json.dumps(letter), letter  # why: check_violation

    refused = run_once(["dead-letter", "retry"], scene.settings)  # the journal is the running server's
    assert refused.returncode == 1 and len((refused.stdout + refused.stderr).strip().splitlines()) == 1, refused
    scene.kill()  # they are as durable as the rest
    assert dead_letters(scene) == letters
    query("alter table chat_messages drop constraint no_poison")
    retry(scene)
    scene.judge()
    assert dead_letters(scene) == []
    scene.start()
    scene.settle()


def test_a_retry_that_is_refused_again_keeps_the_letter(scene, user):
    scene.start()
    query = scene.database.query
    query("alter table chat_messages add constraint no_poison check (content not like 'arsenic%%')")
    turn = scene.ask(user, None, "arsenic")
    scene.settle(missing={(turn.turn_id, "user")})
    letters = dead_letters(scene)
    scene.stop()
    run_once(["dead-letter", "retry"], scene.settings)
    assert len(dead_letters(scene)) == len(letters) == 1
    scene.judge(missing={(turn.turn_id, "user")})
    query("alter table chat_messages drop constraint no_poison")
    retry(scene)
    scene.judge()


def retry(scene):
    done = run_once(["dead-letter", "retry"], scene.settings)
    assert done.returncode == 0, done


def test_privileges_revoked_and_restored(scene):
    """Nothing is wrong with any row: nothing may be given up, however long it takes."""
    query = scene.database.query
    query("do $$ begin create role app login; exception when duplicate_object then null; end $$")
    query("grant select, insert, update, delete on all tables in schema public to app")
    scene.settings["database.url"] = scene.database.url.replace("user=sluice", "user=app")
    gateway = scene.start()
    with scene.load() as load:
        load.await_answered(10)
        query("revoke insert on chat_messages from app")
        retries = sum_of(gateway, "sluice_writer_retries_total")
        load.await_answered(40)
        wait_until(lambda: sum_of(gateway, "sluice_writer_retries_total") > retries, 20, "it tries again")
        query("grant insert on chat_messages to app")
        load.await_answered(10)
    scene.settle()
    assert load.unsaved == load.refused == 0, load
    assert gateway.metric("sluice_writer_dead_letters_total") == 0


def sum_of(gateway, name):
    """Over all labels of a series."""
    return sum(value for (series, _), value in gateway.metrics().items() if series == name)
