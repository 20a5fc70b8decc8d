"""A model server that misbehaves: never a clean end that looks complete, never a lost answer.

In both dialects: a request names the upstream that it wants as its model.
"""

import pytest
from harness.gateway import STUB_BINARY, Gateway
from harness.many import ask_all
from harness.stub import Stub, answer, once, say

DIALECTS = ["openai", "anthropic"]
SETTINGS = {
    "upstream.url": None,
    "upstream.model": "openai",
    "upstream.first_token_timeout_ms": 1000,
    "upstream.idle_timeout_ms": 500,
    "upstream.answer_max_bytes": 1200000,
    "upstream.breaker_failures": 0,  # one failure after another, on purpose
    "upstream.retry_budget_percent": 100,
    "upstream.retry_backoff_ms": 20,
}


@pytest.fixture(scope="module")
def gateway(settings, stub):
    upstreams = [{"name": name, "provider": name, "url": stub.url, "models": [name]} for name in DIALECTS]
    server = Gateway({**settings, **SETTINGS, "upstreams": upstreams})
    server.await_stores()
    yield server
    server.stop()


@pytest.fixture(params=DIALECTS)
def model(request):
    return request.param


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


# ---------------------------------------------------------------- after k tokens

TOKENS = 25
FRAMINGS = ["", "crlf", "split=7", "bytes", "comments", "pings", "multiline nospace"]


def broken_after(fault, k, *, strikes):
    """A question whose answer breaks after k tokens, so many times."""
    framing = FRAMINGS[(k + len(fault)) % len(FRAMINGS)]
    length = "" if "tokens=" in fault else f"tokens={TOKENS}"
    return say(once(f"{fault.format(k=k)} {length} {framing}", strikes))


@pytest.mark.parametrize(
    "fault, code",
    [
        ("fin_after={k}", "upstream_truncated"),
        ("rst_after={k} gap=2", "upstream_truncated"),
        ("stall_after={k}", "upstream_idle_timeout"),
        ("error_after={k}", "upstream_error"),
        ("malformed={k}", "upstream_malformed"),
        ("tokens={k} no_done no_finish", "upstream_truncated"),
    ],
)
def test_broken_after_every_token(gateway, stub, database, model, fault, code):
    """The fault strikes once: whoever asked twice would have the whole answer.

    Nobody may, once a token was relayed. Before that a second request is what the user wants.
    """
    before = stub.requests()
    turns = ask_all(gateway, [broken_after(fault, k, strikes=1) for k in range(21)], model=model)
    lines = gateway.turn_lines([turn for _, turn in turns])
    rows = database.await_turns([user for user, _ in turns])

    for k, ((user, turn), line) in enumerate(zip(turns, lines, strict=True)):
        question, reply = rows[user]
        assert question["status"] == "complete" and reply["content"] == turn.text, (k, turn.events)
        assert (line["upstream"], line["failovers"], line["hedged"]) == (model, 0, False)
        # a reset may overtake tokens on their way, on a busy machine all of them
        nothing_came = k == 0 or (fault.startswith("rst") and line["retries"] == 1)
        if nothing_came and not fault.startswith("stall"):
            whole = answer(0 if "tokens=" in fault else TOKENS)
            assert (turn.last["type"], turn.text, line["retries"]) == ("done", whole, 1), turn.events
            assert reply["status"] == "complete"
        else:
            expected = code if k > 0 else "upstream_first_token_timeout"
            assert_failed(turn, expected, True)
            assert turn.text == answer(k) or (fault.startswith("rst") and answer(k).startswith(turn.text))
            assert (reply["status"], reply["finish_reason"], line["retries"]) == ("failed", None, 0)
    assert stub.requests() - before == len(turns) + sum(line["retries"] for line in lines)


@pytest.mark.parametrize(
    "fault, code",
    [
        ("fin_after={k}", "upstream_truncated"),
        ("rst_after={k}", "upstream_truncated"),
        ("error_after={k}", "upstream_error"),
        ("malformed={k}", "upstream_malformed"),
        ("tokens={k} no_done no_finish", "upstream_truncated"),
    ],
)
def test_broken_twice_without_a_token(gateway, stub, database, user, model, fault, code):
    """Asked again once, and then no more."""
    before = stub.requests()
    turn = gateway.ask(user, broken_after(fault, 0, strikes=2), model=model)
    assert_failed(turn, code, True, "")
    assert_kept(database, user, turn)
    assert stub.requests() - before == 2


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_dropped_without_a_byte(gateway, stub, database, user, model, how):
    before = stub.requests()
    turn = gateway.ask(user, say(f"drop={how}"), model=model)
    assert_failed(turn, "upstream_truncated", True, "")
    assert_kept(database, user, turn)
    # what a kept connection swallows is repeated once on a fresh one, which libcurl does by itself
    assert 2 <= stub.requests() - before <= 4


# ---------------------------------------------------------------- ends


def test_a_finish_reason_is_sign_enough(gateway, user, database, model):
    turn = gateway.ask(user, say("tokens=4 no_done"), model=model)
    assert turn.last["type"] == "done" and turn.text == answer(4)
    assert database.await_messages(user, 2)[1]["status"] == "complete"


def test_an_end_marker_alone_is_sign_enough(gateway, user, model):
    turn = gateway.ask(user, say("tokens=4 no_finish"), model=model)
    assert turn.last["type"] == "done" and turn.last["finish_reason"] == "stop"


@pytest.mark.parametrize("reason", ["length", "content_filter", "something_else"])
def test_the_finish_reason_is_passed_on(gateway, user, database, model, reason):
    turn = gateway.ask(user, say(f"tokens=2 finish={reason}"), model=model)
    assert turn.last["finish_reason"] == reason
    assert database.await_messages(user, 2)[1]["finish_reason"] == reason


def test_an_empty_answer(gateway, user, database, model):
    turn = gateway.ask(user, say("tokens=0"), model=model)
    assert turn.last["type"] == "done" and turn.text == ""
    assert database.await_messages(user, 2)[1]["content"] == ""


def test_an_answer_beyond_the_limit(gateway, user, database, model):
    turn = gateway.ask(user, say("bigline=1000000 long=400000"), model=model)
    assert_failed(turn, "answer_too_long", False)
    assert 1000000 < len(turn.text) <= SETTINGS["upstream.answer_max_bytes"]
    assert_kept(database, user, turn)


# ---------------------------------------------------------------- refused, or nonsense


@pytest.mark.parametrize(
    "directive, code, requests",
    [
        ("status=400", "upstream_rejected", 1),
        ("status=401", "upstream_rejected", 1),
        ("status=404", "upstream_rejected", 1),
        ("status=400 empty", "upstream_rejected", 1),
        ("status=404 html", "upstream_rejected", 1),
        ("status=429 retry_after=7", "upstream_rate_limited", 1),  # later than the first token may be
        ("status=429 empty", "upstream_rate_limited", 2),
        ("quota", "upstream_rate_limited", 1),
        ("status=500", "upstream_error", 2),
        ("status=503", "upstream_error", 2),
        ("status=503 empty", "upstream_error", 2),
        ("html", "upstream_error", 2),
        ("html status=200", "upstream_malformed", 2),
        ("head_bytes=70000", "upstream_malformed", 2),
        ("head_bytes=400000", "upstream_malformed", 2),
        (f"bigline={1 << 20}", "upstream_malformed", 2),  # the event around it is over event_max_bytes
    ],
)
def test_a_refusal(gateway, stub, user, database, model, directive, code, requests):
    before = stub.requests()
    turn = gateway.ask(user, say(directive), model=model)
    assert_failed(turn, code, code != "upstream_rejected", "")
    assert "html" not in turn.raw.decode().lower() and "scripted" not in turn.raw.decode()
    assert_kept(database, user, turn)
    assert stub.requests() - before == requests


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
    + ["usage_each", "no_usage", "id=abc", "head_bytes=60000"],
)
def test_framings_that_a_reader_must_take(gateway, user, database, model, framing):
    turn = gateway.ask(user, say(f"tokens=6 {framing}"), model=model)
    assert turn.last["type"] == "done" and turn.text == answer(6)
    assert turn.last["usage"]["completion_tokens"] == 6
    assert database.await_messages(user, 2)[1]["content"] == answer(6)


@pytest.mark.parametrize("framing", ["", "bytes", "split=5"])
def test_every_alphabet(gateway, user, database, model, framing):
    turn = gateway.ask(user, say(f"utf8 {framing}"), model=model)
    assert turn.last["type"] == "done"
    for sample in ("Grüße", "Привет", "你好", "עברית", "😀", "𝄞"):
        assert sample in turn.text
    assert database.await_messages(user, 2)[1]["content"] == turn.text


def test_a_surrogate_pair_in_two_deltas(gateway, user, database, model):
    turn = gateway.ask(user, say("surrogates"), model=model)
    assert turn.text == "grin 😀 and on"
    assert database.await_messages(user, 2)[1]["content"] == turn.text


def test_half_a_surrogate_pair(gateway, user, database, model):
    turn = gateway.ask(user, say("lone_surrogate"), model=model)
    assert turn.text == "lone \ufffd here and\ufffd low"
    assert database.await_messages(user, 2)[1]["content"] == turn.text


@pytest.mark.parametrize("size", [60000, (1 << 20) - 1000])
def test_one_delta_of_many_kilobytes(gateway, user, database, model, size):
    turn = gateway.ask(user, say(f"bigline={size} tokens=1"), model=model)
    assert turn.text == "x" * size + "tok0"
    assert all(len(event["content"]) <= 16384 for event in turn.of("token"))
    assert database.await_messages(user, 2)[1]["content"] == turn.text


def test_a_server_that_does_not_stream(gateway, user, database, model):
    turn = gateway.ask(user, say("json tokens=5"), model=model)
    assert turn.last["type"] == "done" and turn.text == answer(5)
    assert database.await_messages(user, 2)[1]["status"] == "complete"


# ---------------------------------------------------------------- kept connections


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


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_all_kept_connections_have_died(start, user, how):
    """As after a restart behind a balancer. There are more than libcurl tries by itself."""
    gateway = start({"threads": 1})
    warm = ask_all(gateway, [say(f"first=200 tokens=1 half_dead={how}")] * 20)
    assert all(turn.last["type"] == "done" for _, turn in warm)
    turn = gateway.ask(user, say("tokens=2"))
    assert turn.last["type"] == "done" and turn.text == answer(2)


def test_the_server_was_restarted(start, user):
    first = Stub(STUB_BINARY, "--gap-ms", "0")
    gateway = start({"threads": 1, "upstream.url": first.url})
    ask_all(gateway, [say("first=100 tokens=1")] * 5)
    first.stop()
    assert_failed(gateway.ask(user, say("tokens=2")), "upstream_unreachable", True, "")
    second = Stub(STUB_BINARY, "--gap-ms", "0", "--listen", f"127.0.0.1:{first.port}")
    turn = gateway.ask(user, say("tokens=2"))
    assert turn.last["type"] == "done" and turn.text == answer(2)
    second.stop()
