"""Sessions, messages, profile, preload: the small routes around the stream."""

import gzip
import json
import uuid

import pytest
from harness.stub import answer, say
from harness.wait import wait_until

SESSIONS = "/api/v1/chat/sessions"
PROFILE = "/api/v1/profile"


def messages_path(session, query=""):
    return f"{SESSIONS}/{session}/messages{query}"


def pages(gateway, user, path, key, limit):
    """All rows, page by page."""
    rows, cursor, count = [], None, 0
    while True:
        query = f"?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
        page = gateway.call("GET", path + query, user=user).json()
        assert len(page[key]) <= limit
        rows += page[key]
        count += 1
        cursor = page["next_cursor"]
        if cursor is None:
            return rows, count


# ---------------------------------------------------------------- lists


def test_nothing_yet(gateway, user):
    assert gateway.call("GET", SESSIONS, user=user).json() == {"sessions": [], "next_cursor": None}
    response = gateway.call("GET", messages_path(uuid.uuid4()), user=user)
    assert response.status in (200, 404)
    assert response.status == 404 or response.json() == {"messages": [], "next_cursor": None}


def test_sessions_newest_activity_first(gateway, user, database):
    made = [gateway.ask(user, say("tokens=1")).session_id for _ in range(3)]
    gateway.ask(user, say("tokens=1"), session_id=made[0])
    database.await_messages(user, 8)
    listed = gateway.call("GET", SESSIONS, user=user).json()["sessions"]
    assert [row["id"] for row in listed] == [made[0], made[2], made[1]]
    assert set(listed[0]) == {"id", "title", "created_at", "updated_at"}
    assert listed[0]["title"] is None
    assert listed[0]["updated_at"] > listed[0]["created_at"]


def test_messages_newest_first(gateway, user, database):
    session = gateway.ask(user, say("tokens=1", "one")).session_id
    gateway.ask(user, say("tokens=2", "two"), session_id=session)
    database.await_messages(user, 4)
    listed = gateway.call("GET", messages_path(session), user=user).json()["messages"]
    assert [row["content"] for row in listed] == [answer(2), say("tokens=2", "two"), answer(1), say("tokens=1", "one")]
    reply, question = listed[:2]
    assert question["role"] == "user" and reply["role"] == "assistant"
    assert reply["status"] == "complete" and reply["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] == 2 and reply["ttft_ms"] > 0
    assert reply["turn_id"] == question["turn_id"]


def test_a_message_is_listed_before_postgres_has_it(start, user, own_postgres, own_database):
    """Writes wait for a lock that reads do not mind: the list shows what is still on its way."""
    gateway = start({"database.url": own_database.url, "writer.save_timeout_ms": 300})
    session = gateway.ask(user, say("tokens=1", "one")).session_id
    with own_database.lock("lock table chat_messages in share mode"):
        turn = gateway.ask(user, say("tokens=2", "two"), session_id=session)
        assert turn.text == answer(2)
        assert len(own_database.messages(user)) == 2
        listed = gateway.call("GET", messages_path(session), user=user).json()["messages"]
        assert [row["content"] for row in listed][:2] == [answer(2), say("tokens=2", "two")]
        assert len(listed) == 4
    own_database.await_messages(user, 4)


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_pages_of_messages_have_no_hole_and_no_repeat(gateway, database, limit):
    user = f"pages-{uuid.uuid4()}"
    session = str(uuid.uuid4())
    for i in range(3):
        gateway.ask(user, say("tokens=1", str(i)), session_id=session)
    stored = [row["id"] for row in database.await_messages(user, 6)]
    rows, count = pages(gateway, user, messages_path(session), "messages", limit)
    assert [row["id"] for row in rows] == stored[::-1]
    assert count == -(-6 // limit)


def test_pages_of_sessions_that_were_active_at_the_same_time(gateway, user, database):
    ids = [str(uuid.uuid4()) for _ in range(7)]
    for id_ in ids:
        database.query("insert into chat_sessions values (%s, %s, null, '2024-01-01', '2024-01-01')", user, id_)
    rows, count = pages(gateway, user, SESSIONS, "sessions", 2)
    assert [row["id"] for row in rows] == sorted(ids, reverse=True) and count == 4


def test_only_the_fields_that_are_wanted(gateway, user, database):
    session = gateway.ask(user, say("tokens=1")).session_id
    database.await_messages(user, 2)
    listed = gateway.call("GET", messages_path(session, "?fields=id,role"), user=user).json()["messages"]
    assert [set(row) for row in listed] == [{"id", "role"}] * 2
    listed = gateway.call("GET", SESSIONS + "?fields=title", user=user).json()["sessions"]
    assert listed == [{"title": None}]


@pytest.mark.parametrize(
    "query, key",
    [(f"?limit={value}", "limit") for value in ("0", "-1", "many", "201", "99999999999999999999", "1.5", "%31x")]
    + [(f"?cursor={value}", "cursor") for value in ("x", "0" * 47, "z" * 48, "..%2f", "0" * 49)],
)
def test_bad_paging_is_named(gateway, user, query, key):
    for path in (SESSIONS, messages_path(uuid.uuid4())):
        response = gateway.call("GET", path + query, user=user)
        assert response.status == 400 and response.json()["error"]["param"] == key


def test_a_cursor_of_another_user_opens_nothing(gateway, user, database):
    session = str(uuid.uuid4())
    for i in range(2):
        gateway.ask(user, say("tokens=1", str(i)), session_id=session)
    database.await_messages(user, 4)
    cursor = gateway.call("GET", messages_path(session, "?limit=1"), user=user).json()["next_cursor"]
    other = gateway.call("GET", messages_path(session, f"?cursor={cursor}"), user=user + "-other")
    assert other.status == 404 or other.json()["messages"] == []


def test_users_see_only_their_own(gateway, user, database):
    session = gateway.ask(user, say("tokens=1", "secret")).session_id
    database.await_messages(user, 2)
    other = user + "-other"
    unknown = gateway.call("GET", messages_path(uuid.uuid4()), user=other)
    theirs = gateway.call("GET", messages_path(session), user=other)
    assert theirs.status == unknown.status
    assert b"secret" not in theirs.body and (theirs.status != 200 or theirs.body == unknown.body)
    assert gateway.call("GET", SESSIONS, user=other).json()["sessions"] == []
    assert gateway.call("DELETE", f"{SESSIONS}/{session}", user=other).status in (204, 404)
    assert gateway.call("PATCH", f"{SESSIONS}/{session}", {"title": "mine"}, user=other).status == 404
    assert len(database.messages(user, session)) == 2
    assert database.sessions(user)[0]["title"] is None


def test_gzip_above_a_kilobyte_when_accepted(gateway, user, database):
    session = gateway.ask(user, say("long=5000")).session_id
    database.await_messages(user, 2)
    plain = gateway.call("GET", messages_path(session), user=user)
    packed = gateway.call("GET", messages_path(session), user=user, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert gzip.decompress(packed.body) == plain.body and len(packed.body) < len(plain.body)
    small = gateway.call("GET", messages_path(session, "?fields=id"), user=user, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers and small.json()["messages"]


# ---------------------------------------------------------------- rename, delete


def test_rename(gateway, user, database):
    session = gateway.ask(user, say("tokens=1")).session_id
    title = 'Roth "IRA" – 退休 😀'
    assert gateway.call("PATCH", f"{SESSIONS}/{session}", {"title": title}, user=user).status == 204
    assert database.sessions(user)[0]["title"] == title
    assert gateway.call("GET", SESSIONS, user=user).json()["sessions"][0]["title"] == title


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": 7}, {"title": None}, {"title": "x" * 257}, []])
def test_titles_that_are_none(gateway, user, body):
    session = gateway.ask(user, say("tokens=1")).session_id
    assert gateway.call("PATCH", f"{SESSIONS}/{session}", body, user=user).status == 400


def test_rename_of_what_is_not_there(gateway, user):
    assert gateway.call("PATCH", f"{SESSIONS}/{uuid.uuid4()}", {"title": "x"}, user=user).status == 404


def test_delete_takes_the_messages_too(gateway, user, database):
    session = gateway.ask(user, say("tokens=1")).session_id
    kept = gateway.ask(user, say("tokens=1")).session_id
    assert gateway.call("DELETE", f"{SESSIONS}/{session}", user=user).status == 204
    assert database.messages(user, session) == []
    assert [row["id"] for row in database.sessions(user)] == [kept]
    assert gateway.call("GET", messages_path(session), user=user).json().get("messages", []) == []
    assert gateway.call("DELETE", f"{SESSIONS}/{session}", user=user).status in (204, 404)


def test_delete_right_after_a_turn(gateway, user, database):
    """The delete comes after the turn's own writes, in order: nothing reappears."""
    for _ in range(10):
        session = gateway.ask(user, say("tokens=1")).session_id
        assert gateway.call("DELETE", f"{SESSIONS}/{session}", user=user).status == 204
        assert database.messages(user, session) == [] and database.sessions(user) == []


# ---------------------------------------------------------------- profile


def test_profile_as_it_was_given(gateway, user):
    assert gateway.call("GET", PROFILE, user=user).status == 404
    text = b'{ "b": 1.50,\n "a": [null, true, "\xc3\xa9 \\u20ac"] }'
    headers = {"Content-Type": "application/json"}
    assert gateway.call("PUT", PROFILE, text, user=user, headers=headers).status == 204
    response = gateway.call("GET", PROFILE, user=user)
    assert response.status == 200 and response.json() == json.loads(text)
    assert gateway.call("PUT", PROFILE, {}, user=user).status == 204
    assert gateway.call("GET", PROFILE, user=user).json() == {}


def test_profile_at_the_limit_and_beyond(gateway, user):
    frame = len(json.dumps({"x": ""}))
    assert gateway.call("PUT", PROFILE, {"x": "y" * (16384 - frame)}, user=user).status == 204
    response = gateway.call("PUT", PROFILE, {"x": "y" * (16385 - frame)}, user=user)
    assert response.status == 413 and response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"7", b'"x"', b"{", b'{"a":1,"a":2}', b'{"a":"\\u0000"}', b'{"a":"\xff"}', b'{"a":"\\ud800"}'],
)
def test_profiles_that_are_none(gateway, user, body):
    response = gateway.call("PUT", PROFILE, body, user=user)
    assert response.status == 400 and response.headers["content-type"] == "application/problem+json"
    assert gateway.call("GET", PROFILE, user=user).status == 404


# ---------------------------------------------------------------- preload


@pytest.mark.parametrize("body", [None, {}, {"session_id": None}])
def test_preload_without_a_session(gateway, user, redis, database, body):
    database.set_profile(user, {"name": "Ada"})
    assert gateway.call("POST", "/api/v1/chat/preload", body, user=user).status == 204
    wait_until(lambda: b"Ada" in (redis.client().get(f"sl:{{{user}}}:p") or b""), what="the profile is cached")


def test_preload_of_a_session(gateway, user, redis, database):
    session = gateway.ask(user, say("tokens=1")).session_id
    database.await_messages(user, 2)
    cache = redis.client()
    cache.delete(*cache.keys(f"sl:{{{user}}}*"))
    assert gateway.call("POST", "/api/v1/chat/preload", {"session_id": session}, user=user).status == 204
    wait_until(lambda: cache.llen(f"sl:{{{user}}}:h:{session}") == 2, what="the history is cached")


@pytest.mark.parametrize("body", [{"session_id": 7}, {"session_id": "x"}, []])
def test_preload_of_nonsense(gateway, user, body):
    assert gateway.call("POST", "/api/v1/chat/preload", body, user=user).status == 400
