"""A model server that misbehaves: never a clean end that looks complete, never a lost answer."""

import pytest
from harness.stub import answer, say

SETTINGS = {
    "upstream.first_token_timeout_ms": 1500,
    "upstream.idle_timeout_ms": 700,
    "upstream.answer_max_bytes": 100000,
    "upstream.breaker_failures": 0,  # one failure after another, on purpose
}


def assert_failed(turn, code, retryable, text=None):
    """The stream says what happened, and says it last."""
    assert turn.status == 200 and turn.end == "clean"
    error = turn.last
    assert set(error) == {"type", "seq", "code", "message", "retryable", "saved"}
    assert (error["type"], error["code"], error["retryable"], error["saved"]) == ("error", code, retryable, True)
    assert "done" not in turn.types
    if text is not None:
        assert turn.text == text


def assert_kept(database, user, turn, finish_reason=None):
    """Question and partial answer are in Postgres, once, and the answer does not pass for a whole one."""
    question, reply = database.await_messages(user, 2)
    assert question["status"] == "complete"
    assert reply["status"] == "failed"
    assert reply["content"] == turn.text
    assert reply["finish_reason"] == finish_reason


# ---------------------------------------------------------------- broken on the way


@pytest.mark.parametrize("after", [0, 1, 2, 7])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_the_connection_is_cut(gateway, user, database, how, after):
    turn = gateway.ask(user, say(f"{how}_after={after} tokens=9 gap=1"))
    assert_failed(turn, "upstream_truncated", True)
    # A reset may overtake the last bytes on their way.
    assert turn.text == answer(after) or (how == "rst" and answer(after).startswith(turn.text))
    assert_kept(database, user, turn)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_dropped_without_a_byte(gateway, user, database, how):
    turn = gateway.ask(user, say(f"drop={how}"))
    assert turn.last["type"] == "error" and turn.last["retryable"] is True
    assert turn.last["code"] in ("upstream_truncated", "upstream_unreachable")
    assert_kept(database, user, turn)


@pytest.mark.parametrize("after", [0, 3])
def test_an_error_event_in_mid_stream(gateway, user, database, after):
    turn = gateway.ask(user, say(f"error_after={after} tokens=9"))
    assert turn.last["code"] in ("upstream_error", "upstream_rejected", "upstream_rate_limited")
    assert turn.text == answer(after)
    assert_kept(database, user, turn)


@pytest.mark.parametrize("after", [1, 4])
def test_json_that_is_torn(gateway, user, database, after):
    turn = gateway.ask(user, say(f"malformed={after} tokens=9"))
    assert_failed(turn, "upstream_malformed", True, answer(after))
    assert_kept(database, user, turn)


def test_an_end_without_any_sign_of_completion(gateway, user, database):
    turn = gateway.ask(user, say("tokens=4 no_done no_finish"))
    assert_failed(turn, "upstream_truncated", True, answer(4))
    assert_kept(database, user, turn)


def test_a_finish_reason_is_sign_enough(gateway, user, database):
    turn = gateway.ask(user, say("tokens=4 no_done"))
    assert turn.last["type"] == "done" and turn.text == answer(4)
    assert database.await_messages(user, 2)[1]["status"] == "complete"


def test_done_alone_is_sign_enough(gateway, user):
    turn = gateway.ask(user, say("tokens=4 no_finish"))
    assert turn.last["type"] == "done" and turn.last["finish_reason"] == "stop"


def test_silence_in_mid_answer(gateway, user, database):
    turn = gateway.ask(user, say("stall_after=3 tokens=9"))
    assert_failed(turn, "upstream_idle_timeout", True, answer(3))
    assert_kept(database, user, turn)


def test_silence_from_the_start(gateway, user, database):
    turn = gateway.ask(user, say("delay=60000"))
    assert_failed(turn, "upstream_first_token_timeout", True, "")
    assert_kept(database, user, turn)


@pytest.mark.parametrize("noise", ["comments=100", "pings=100"])
def test_noise_is_no_answer(gateway, user, noise):
    """Comments, pings and role chunks must not keep a dead answer alive."""
    turn = gateway.ask(user, say(f"stall_after=1 tokens=9 {noise}"))
    assert_failed(turn, "upstream_idle_timeout", True, answer(1))


def test_a_role_chunk_is_no_token(gateway, user):
    turn = gateway.ask(user, say("role_then=60000 tokens=3"))
    assert_failed(turn, "upstream_first_token_timeout", True, "")


def test_an_answer_beyond_the_limit(gateway, user, database):
    turn = gateway.ask(user, say("long=200000"))
    assert_failed(turn, "answer_too_long", False)
    assert 0 < len(turn.text) <= 100000
    assert_kept(database, user, turn)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    "directive, code, retryable",
    [("status=400", "upstream_rejected", False), ("status=401", "upstream_rejected", False)]
    + [("status=404", "upstream_rejected", False), ("status=429 retry_after=7", "upstream_rate_limited", True)]
    + [("status=500", "upstream_error", True), ("status=503", "upstream_error", True)]
    + [("html", "upstream_error", True), ("status=404 html", "upstream_rejected", False)]
    + [("status=503 empty", "upstream_error", True)],
)
def test_a_refusal(gateway, user, database, directive, code, retryable):
    turn = gateway.ask(user, say(directive))
    assert_failed(turn, code, retryable, "")
    assert "html" not in turn.raw.decode().lower() and "scripted" not in turn.raw.decode()
    assert_kept(database, user, turn)


def test_nobody_there(start, user, database):
    gateway = start({"upstream.url": "http://127.0.0.1:1/v1"})
    turn = gateway.ask(user, "hello")
    assert_failed(turn, "upstream_unreachable", True, "")
    assert "127.0.0.1" not in turn.raw.decode()
    assert_kept(database, user, turn)


# ---------------------------------------------------------------- strange, but right


@pytest.mark.parametrize(
    "framing",
    ["crlf", "cr", "nospace", "multiline", "bytes", "bytes crlf", "split=1", "split=2 crlf", "comments", "pings"]
    + ["usage_each", "no_usage", "id=abc"],
)
def test_framings_that_a_reader_must_take(gateway, user, database, framing):
    turn = gateway.ask(user, say(f"tokens=6 {framing}"))
    assert turn.last["type"] == "done" and turn.text == answer(6)
    assert turn.last["usage"]["completion_tokens"] == 6
    assert database.await_messages(user, 2)[1]["content"] == answer(6)


@pytest.mark.parametrize("framing", ["", "bytes", "split=5"])
def test_every_alphabet(gateway, user, database, framing):
    turn = gateway.ask(user, say(f"utf8 {framing}"))
    assert turn.last["type"] == "done"
    for sample in ("Grüße", "Привет", "你好", "עברית", "😀", "𝄞"):
        assert sample in turn.text
    assert database.await_messages(user, 2)[1]["content"] == turn.text


def test_a_surrogate_pair_in_two_deltas(gateway, user, database):
    turn = gateway.ask(user, say("surrogates"))
    assert turn.text == "grin 😀 and on"
    assert database.await_messages(user, 2)[1]["content"] == turn.text


def test_half_a_surrogate_pair(gateway, user, database):
    turn = gateway.ask(user, say("lone_surrogate"))
    assert turn.text == "lone \ufffd here and\ufffd low"
    assert database.await_messages(user, 2)[1]["content"] == turn.text


def test_one_delta_of_many_kilobytes(gateway, user, database):
    turn = gateway.ask(user, say("bigline=60000 tokens=1"))
    assert turn.text == "x" * 60000 + "tok0"
    assert all(len(event["content"]) <= 16384 for event in turn.of("token"))
    assert database.await_messages(user, 2)[1]["content"] == turn.text


def test_a_server_that_does_not_stream(gateway, user, database):
    turn = gateway.ask(user, say("json tokens=5"))
    assert turn.last["type"] == "done" and turn.text == answer(5)
    assert database.await_messages(user, 2)[1]["status"] == "complete"


@pytest.mark.parametrize("reason", ["length", "content_filter", "something_else"])
def test_the_finish_reason_is_passed_on(gateway, user, database, reason):
    turn = gateway.ask(user, say(f"tokens=2 finish={reason}"))
    assert turn.last["finish_reason"] == reason
    assert database.await_messages(user, 2)[1]["finish_reason"] == reason


def test_an_empty_answer(gateway, user, database):
    turn = gateway.ask(user, say("tokens=0"))
    assert turn.last["type"] == "done" and turn.text == ""
    assert database.await_messages(user, 2)[1]["content"] == ""


def test_a_kept_connection_is_used_again(start, user, stub):
    gateway = start({"threads": 1})
    gateway.ask(user, say("tokens=1"))
    before = stub.stats()["accepted_connections"]
    for _ in range(5):
        assert gateway.ask(user, say("tokens=1")).last["type"] == "done"
    # this look at the figures is the one connection that came in between
    assert stub.stats()["accepted_connections"] - before == 1


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_kept_connection_that_has_died(start, user, how):
    """The pooled connection dies under the next request: that one is asked again on a fresh one."""
    gateway = start({"threads": 1})
    assert gateway.ask(user, say(f"tokens=1 half_dead={how}")).last["type"] == "done"
    turn = gateway.ask(user, say("tokens=2"))
    assert turn.last["type"] == "done" and turn.text == answer(2)
