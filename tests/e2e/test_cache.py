"""Redis as a cache: what a warm turn costs, what is in the keys, what drops them."""

import json
import time
import uuid

import pytest
from harness.redis_proxy import RedisProxy
from harness.stub import answer, say
from harness.wait import wait_until


def profile_key(user):
    return f"sl:{{{user}}}:p"


def history_key(user, session):
    return f"sl:{{{user}}}:h:{session}"


def prompt(stub):
    return [message["content"] for message in stub.last()["messages"]]


@pytest.fixture
def cache(redis):
    return redis.client()


def warm(gateway, user):
    """A user with a profile and one turn, everything cached; returns the session."""
    gateway.call("PUT", "/api/v1/profile", {"name": "Ada"}, user=user)
    session = gateway.ask(user, say("tokens=2", "one")).session_id
    assert gateway.call("POST", "/api/v1/chat/preload", {"session_id": session}, user=user).status == 204
    return session


# ---------------------------------------------------------------- what a warm turn costs


def test_a_warm_turn_reads_nothing_from_postgres(gateway, user, cache, postgres):
    session = warm(gateway, user)
    mark = postgres.log_mark()
    turn = gateway.ask(user, say("delay=200 tokens=1", "two"), session_id=session)
    assert turn.text == "tok0" and turn.warnings == []
    reads = [s for s in postgres.statements_since(mark, "shared") if "select" in s]
    assert reads == []
    # Proof that the log shows reads at all: a cold turn makes two.
    cache.delete(profile_key(user), history_key(user, session))
    mark = postgres.log_mark()
    gateway.ask(user, say("tokens=1", "three"), session_id=session)
    reads = wait_until(lambda: [s for s in postgres.statements_since(mark, "shared") if "select" in s])
    assert any("user_profiles" in s for s in reads) and any("chat_messages" in s for s in reads)


def test_a_warm_turn_needs_no_postgres_before_its_first_token(start, user, own_database, own_postgres, stub):
    gateway = start({"database.url": own_database.url, "writer.save_timeout_ms": 60000})
    session = warm(gateway, user)
    own_postgres.freeze()
    try:
        with gateway.open(user, say("tokens=3", "two"), session_id=session) as stream:
            stream.until("token")
            own_postgres.thaw()
            turn = stream.finish()
    finally:
        own_postgres.thaw()
    assert turn.text == answer(3) and turn.warnings == [] and turn.last["type"] == "done"
    assert '"name": "Ada"' in prompt(stub)[0] or '"name":"Ada"' in prompt(stub)[0]
    assert len(prompt(stub)) == 4


def test_a_warm_turn_is_one_redis_round_trip(start, user, redis, cache):
    proxy = RedisProxy(redis.socket)
    gateway = start({"redis.url": proxy.url, "threads": 1})
    session = warm(gateway, user)

    def is_cached():
        gateway.call("POST", "/api/v1/chat/preload", {"session_id": session}, user=user)
        return cache.exists(profile_key(user), history_key(user, session)) == 2

    wait_until(is_cached, what="both are cached")
    began = time.monotonic()
    with gateway.open(user, say("delay=150 tokens=1", "two"), session_id=session) as stream:
        first_token = stream.until("token").at
        stream.finish()
    # Besides what the turn waits for there is the writer's note that Postgres has the question.
    asked = [
        [(command[0].upper(), command[1].decode()) for command in trip if command[0].upper() != b"EVALSHA"]
        for trip in proxy.round_trips(began, first_token)
    ]
    assert sorted(asked[0]) == [(b"GET", profile_key(user)), (b"LRANGE", history_key(user, session))], asked
    assert not any(asked[1:]), asked
    proxy.close()


# ---------------------------------------------------------------- keys and lives


def test_what_is_cached_and_for_how_long(gateway, user, cache, database):
    session = warm(gateway, user)
    database.await_messages(user, 2)
    assert sorted(cache.keys(f"sl:{{{user}}}*")) == sorted(
        [profile_key(user).encode(), history_key(user, session).encode()]
    )
    assert 200 <= cache.ttl(profile_key(user)) <= 345  # 300 s, with jitter
    profile = json.loads(cache.get(profile_key(user)))
    assert profile["u"] == user and json.loads(profile["p"]) == {"name": "Ada"}
    # Once Postgres has the rows the history lives for 60 s.
    wait_until(lambda: 0 < cache.ttl(history_key(user, session)) <= 70, what="the history may expire")
    roles = [json.loads(element)["r"] for element in cache.lrange(history_key(user, session), 0, -1)]
    assert roles == ["user", "assistant"]


def test_the_history_list_is_trimmed(gateway, user, cache):
    session = str(uuid.uuid4())
    for i in range(7):
        gateway.ask(user, say("tokens=1", f"{i}"), session_id=session)
    wait_until(lambda: cache.llen(history_key(user, session)) == 10, what="ten elements")
    newest = json.loads(cache.lindex(history_key(user, session), -2))
    assert newest["c"] == say("tokens=1", "6")


def test_the_history_does_not_expire_before_postgres_has_it(start, user, own_database, own_postgres, cache, stub):
    gateway = start(
        {"database.url": own_database.url, "writer.save_timeout_ms": 300, "shutdown.drain_timeout_s": 30}
    )
    session = gateway.ask(user, say("tokens=1", "one")).session_id
    own_postgres.stop()
    turn = gateway.ask(user, say("tokens=2", "two"), session_id=session)
    assert turn.text == answer(2)
    wait_until(lambda: cache.llen(history_key(user, session)) == 4, what="both turns are in Redis")
    assert cache.ttl(history_key(user, session)) > 3600
    own_postgres.start()
    own_database.await_messages(user, 4, timeout=30)
    wait_until(lambda: 0 < cache.ttl(history_key(user, session)) <= 70, 30, "the history may expire")


def test_absence_of_a_profile_is_believed_only_briefly(gateway, user, cache, database, stub):
    gateway.ask(user, say("tokens=1"))
    assert 0 < cache.ttl(profile_key(user)) <= 6
    database.set_profile(user, {"name": "written elsewhere"})
    cache.delete(profile_key(user))  # as if the seconds had passed
    gateway.ask(user, say("tokens=1"))
    assert "written elsewhere" in prompt(stub)[0]


# ---------------------------------------------------------------- what drops them


def test_writing_a_profile_drops_its_cache(gateway, user, cache, stub):
    warm(gateway, user)
    assert gateway.call("PUT", "/api/v1/profile", {"name": "Grace"}, user=user).status == 204
    assert not cache.exists(profile_key(user))
    gateway.ask(user, say("tokens=1"))
    assert "Grace" in prompt(stub)[0] and "Ada" not in prompt(stub)[0]
    assert gateway.call("GET", "/api/v1/profile", user=user).json() == {"name": "Grace"}


def test_deleting_a_session_drops_its_history(gateway, user, cache, stub):
    session = warm(gateway, user)
    assert gateway.call("DELETE", f"/api/v1/chat/sessions/{session}", user=user).status == 204
    assert not cache.exists(history_key(user, session))
    gateway.ask(user, say("tokens=1", "fresh"), session_id=session)
    assert len(prompt(stub)) == 2


# ---------------------------------------------------------------- values that are not to be believed


@pytest.mark.parametrize(
    "value",
    [b"", b"rubbish", b"{}", b"[]", b"\xff\xfe", b'{"v":1}', b"null", b"1" * 100000]
    + [b'{"v":999,"u":"USER","p":"{\\"name\\":\\"Eve\\"}"}', b'{"v":1,"u":"someone else","p":"{\\"name\\":\\"Eve\\"}"}']
    + [b'{"v":1,"u":"USER","p":17}', b'{"v":1,"u":"USER","p":"{\\"name\\":\\"Eve\\"}"'],
    ids=range(12),
)
def test_a_profile_value_that_does_not_hold_is_a_miss(gateway, user, cache, stub, value):
    warm(gateway, user)
    cache.set(profile_key(user), value.replace(b"USER", user.encode()))
    turn = gateway.ask(user, say("tokens=1"))
    assert turn.last["type"] == "done" and turn.warnings == []
    assert "Ada" in prompt(stub)[0] and "Eve" not in prompt(stub)[0]

    def is_right_again():
        gateway.call("POST", "/api/v1/chat/preload", user=user)
        return b"Ada" in (cache.get(profile_key(user)) or b"")

    wait_until(is_right_again, what="the value is replaced")


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache, key: cache.rpush(key, b"rubbish"),
        lambda cache, key: cache.lset(key, 0, b"{}"),
        lambda cache, key: cache.lset(key, 0, cache.lindex(key, 0).replace(b'"u":"', b'"u":"not-')),
        lambda cache, key: cache.lset(key, 0, cache.lindex(key, 0).replace(b'"v":1', b'"v":2')),
        lambda cache, key: (cache.delete(key), cache.set(key, "a string")),
        lambda cache, key: (cache.delete(key), cache.hset(key, "a", "hash")),
    ],
    ids=["element", "empty-object", "wrong-user", "wrong-version", "string", "hash"],
)
def test_a_history_that_does_not_hold_is_a_miss(gateway, user, cache, stub, database, damage):
    session = warm(gateway, user)
    database.await_messages(user, 2)
    damage(cache, history_key(user, session))
    turn = gateway.ask(user, say("tokens=1", "two"), session_id=session)
    assert turn.last["type"] == "done" and turn.warnings == []
    assert prompt(stub)[1:] == [say("tokens=2", "one"), answer(2), say("tokens=1", "two")]
    gateway.ask(user, say("tokens=1", "three"), session_id=session)
    assert len(prompt(stub)) == 6


def test_many_misses_at_once_are_one_read(start, user, cache, postgres, database):
    gateway = start({"threads": 1})
    database.set_profile(user, {"name": "Ada"})
    postgres_mark = postgres.log_mark()
    streams = [gateway.open(user, say("tokens=1 delay=100")) for _ in range(12)]
    for stream in streams:
        assert stream.finish().last["type"] == "done"
        stream.close()
    reads = [s for s in postgres.statements_since(postgres_mark, "shared") if "from user_profiles" in s]
    assert 1 <= len(reads) <= 4, reads  # not twelve: those that came while a read ran shared it


def test_two_gateways_see_each_other(start, user, stub):
    one, two = start(), start()
    session = one.ask(user, say("tokens=2", "one")).session_id
    two.ask(user, say("tokens=1", "two"), session_id=session)
    assert prompt(stub)[1:] == [say("tokens=2", "one"), answer(2), say("tokens=1", "two")]
