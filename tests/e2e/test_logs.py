"""The log: one JSON object per line, one line per turn, and never a word of what was said.

That every line is one JSON object is checked at the end of each gateway, in every test file.
"""

import uuid

import pytest
from harness.gateway import STREAM
from harness.stub import say
from harness.tokens import SECRET, mint

SETTINGS = {
    "upstream.idle_timeout_ms": 500,
    "upstream.first_token_timeout_ms": 1000,
    "upstream.breaker_failures": 0,  # one failure after another, on purpose
    "log": "debug",
}


def test_the_line_of_a_good_turn(gateway, user):
    session = str(uuid.uuid4())
    headers = {"X-Request-Id": "my-request.7"}
    turn = gateway.ask(user, say("tokens=3 first=50"), session_id=session, headers=headers)
    line = gateway.turn_line(turn.turn_id)
    assert line["event"] == "turn" and line["level"] == "info" and line["time"].endswith("Z")
    assert line["session_id"] == session and line["request_id"] == "my-request.7"
    assert turn.response.headers["x-request-id"] == "my-request.7"
    assert line["status"] == "complete" and line["term"] == "-D" and line["error"] is None
    assert line["saved"] is True and line["upstream_status"] == 200
    assert line["message_bytes"] == len(say("tokens=3 first=50"))
    assert line["answer_bytes"] == len(turn.text) and line["events"] == len(turn.events)
    assert line["prompt_tokens"] > 0 and line["completion_tokens"] == 3
    for stage in ("profile_ms", "history_ms", "context_ms", "upstream_first_byte_ms", "ttft_ms", "saved_ms", "total_ms"):
        assert line[stage] >= 0, stage
    assert 50 <= line["ttft_ms"] <= line["total_ms"]


def test_where_the_context_came_from(gateway, user):
    first = gateway.ask(user, say("tokens=1"))
    second = gateway.ask(user, say("tokens=1"), session_id=first.session_id)
    assert gateway.turn_line(first.turn_id)["profile_source"] == "database"
    assert gateway.turn_line(second.turn_id)["history_source"] == "cache"
    assert gateway.turn_line(second.turn_id)["history_messages"] == 2


@pytest.mark.parametrize(
    "directive, term, error",
    [("fin_after=2", "US", "upstream_truncated"), ("stall_after=2", "uS", "upstream_idle_timeout")]
    + [("first=60000", "uA", "upstream_first_token_timeout"), ("status=500", "UA", "upstream_error")]
    + [("malformed=1 tokens=3", "US", "upstream_malformed")],
)
def test_who_ended_it_and_where(gateway, user, directive, term, error):
    line = gateway.turn_line(gateway.ask(user, say(directive)).turn_id)
    assert (line["term"], line["error"], line["status"]) == (term, error, "failed")


def test_one_line_per_turn(gateway, user):
    turns = [gateway.ask(user, say("tokens=1")).turn_id for _ in range(5)]
    for turn in turns:
        gateway.turn_line(turn)  # asserts that there is exactly one


def test_nothing_that_was_said_is_in_it(start, user):
    gateway = start({"log": "debug", "upstream.api_key": "sk-key-that-must-not-show"})
    token = mint(user)
    session = gateway.ask(user, say("echo", "PRIVATE-question")).session_id
    gateway.call("PUT", "/api/v1/profile", {"name": "PRIVATE-profile"}, token=token)
    gateway.call("PATCH", f"/api/v1/chat/sessions/{session}", {"title": "PRIVATE-title"}, token=token)
    gateway.call("POST", STREAM, b'{"message":"PRIVATE-broken', token=token)
    gateway.call("POST", STREAM, {"message": "x", "model": "PRIVATE-model"}, token=token)
    gateway.call("GET", "/PRIVATE-path?token=PRIVATE-query", token=token)
    gateway.call("GET", "/api/v1/profile", token="PRIVATE.bad.token")
    last = gateway.ask(user, say("status=500", "PRIVATE-refused"), session_id=session)
    gateway.turn_line(last.turn_id)
    gateway.terminate()
    assert gateway.await_exit() == 0
    log = "\n".join(gateway.lines)
    assert "PRIVATE" not in log
    assert token not in log and token.split(".")[2] not in log
    assert SECRET not in log and "sk-key" not in log
    assert user not in log, "users are told apart by a hash"
    assert "messages=" not in log  # the answer of `echo`


def test_a_user_is_told_apart_by_a_hash(gateway, user):
    one, two = gateway.ask(user, say("tokens=1")), gateway.ask(user, say("tokens=1"))
    other = gateway.ask(user + "-other", say("tokens=1"))
    hashes = [gateway.turn_line(turn.turn_id)["user_hash"] for turn in (one, two, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_operators_requests_are_not_logged(gateway):
    before = len(gateway.lines)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert gateway.call("GET", path).status == 200
    assert not [line for line in gateway.lines[before:] if any(p in line for p in ("healthz", "readyz", "metrics"))]
