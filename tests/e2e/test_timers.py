"""The four timers of an answer: connect, first token, silence between tokens, total.

Each has a code of its own and strikes on time, whatever else the model server sends meanwhile, and
whatever the client is sent: heartbeats come in every silence, from the start, and reset no timer.
"""

import socket

import pytest
from harness.gateway import Gateway
from harness.many import ask_all
from harness.stub import answer, say

CONNECT, FIRST_TOKEN, IDLE, TOTAL = 1200, 1400, 1500, 2500
LATE_MS = 200
EARLY_MS = 60  # the moment that starts a timer is seen a little late here
TURNS = 3  # of each kind; on a busy machine the best of them counts

SETTINGS = {
    "upstream.url": None,
    "upstream.model": "openai",
    "upstream.connect_timeout_ms": CONNECT,
    "upstream.first_token_timeout_ms": FIRST_TOKEN,
    "upstream.idle_timeout_ms": IDLE,
    "upstream.total_timeout_ms": TOTAL,
    "upstream.breaker_failures": 0,
    "chat.heartbeat_s": 1,
}

DEAF = "deaf"  # the model whose server does not even accept


@pytest.fixture(scope="module")
def deaf_port():
    """A port whose backlog is full: the kernel drops every further SYN, so connecting hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        held = [socket.socket() for _ in range(4)]
        for client in held:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for client in held:
            client.close()


@pytest.fixture(scope="module")
def gateway(settings, stub, deaf_port):
    upstreams = [
        {"name": "openai", "url": stub.url, "models": ["openai"]},
        {"name": "anthropic", "provider": "anthropic", "url": stub.url, "models": ["anthropic"]},
        {"name": DEAF, "url": f"http://127.0.0.1:{deaf_port}/v1", "models": [DEAF]},
    ]
    server = Gateway({**settings, **SETTINGS, "upstreams": upstreams})
    server.await_stores()
    yield server
    server.stop()


def began(turn):
    """When the model was asked, as nearly as the client can tell."""
    return turn.events[0].at


def last_token(turn):
    return turn.of("token")[-1].at


# name: directive, its timer's moment of start, setting, code, tokens before it
CASES = {
    "silence before the head": ("delay=60000", began, FIRST_TOKEN, "first_token", 0),
    "silence after the head": ("first=60000", began, FIRST_TOKEN, "first_token", 0),
    "silence after the role": ("role_then=60000", began, FIRST_TOKEN, "first_token", 0),
    "comments instead of tokens": ("first=60000 comments=100", began, FIRST_TOKEN, "first_token", 0),
    "pings instead of tokens": ("role_then=60000 pings=100", began, FIRST_TOKEN, "first_token", 0),
    "silence after a token": ("stall_after=1 tokens=9", last_token, IDLE, "idle", 1),
    "silence after some tokens": ("stall_after=5 tokens=9 gap=100", last_token, IDLE, "idle", 5),
    "comments between tokens": ("stall_after=2 tokens=9 comments=100", last_token, IDLE, "idle", 2),
    "pings between tokens": ("stall_after=2 tokens=9 pings=100", last_token, IDLE, "idle", 2),
    "tokens without end": ("tokens=1000 gap=50", began, TOTAL, "total", None),
    "tokens after long silences": ("tokens=1000 gap=1150", began, TOTAL, "total", 3),
}


@pytest.fixture(scope="module")
def played(gateway):
    """{(case, model): [(user, turn), ...]}: all of them at once, since each takes its time."""
    kinds = [(case, model) for case in CASES for model in ("openai", "anthropic")] + [(DEAF, DEAF)]
    wanted = kinds * TURNS
    messages = [(say(CASES[case][0]) if case in CASES else "hello", {"model": model}) for case, model in wanted]
    turns = ask_all(gateway, messages, threads=len(wanted))
    found = {}
    for kind, turn in zip(wanted, turns, strict=True):
        found.setdefault(kind, []).append(turn)
    return found


def assert_struck(database, turns, code, setting_ms, start):
    """Every turn ended by this timer, not before its time, and not late."""
    rows = database.await_turns([user for user, _ in turns])
    late_ms = []
    for user, turn in turns:
        assert (turn.last["type"], turn.last.get("code")) == ("error", code), turn.events
        assert turn.last["retryable"] is True and turn.last["saved"] is True
        assert rows[user][1]["status"] == "failed" and rows[user][1]["content"] == turn.text
        late_ms.append((turn.last.at - start(turn)) * 1000 - setting_ms)
    assert min(late_ms) > -EARLY_MS and min(late_ms) < LATE_MS, late_ms


@pytest.mark.parametrize("model", ["openai", "anthropic"])
@pytest.mark.parametrize("case", CASES)
def test_each_timer_strikes_on_time(played, database, gateway, case, model):
    _, start, setting_ms, code, tokens = CASES[case]
    turns = played[case, model]
    assert_struck(database, turns, f"upstream_{code}_timeout", setting_ms, start)
    for line in gateway.turn_lines([turn for _, turn in turns]):
        assert (line["term"][0], line["retries"]) == ("u", 0), line  # a lost timeout is never repeated
    for _, turn in turns:
        assert tokens is None or turn.text == answer(tokens)
        # a second of silence began with the last event before the last one
        assert turn.heartbeats >= (0 if case == "tokens without end" else 1)


def test_the_connect_timer_strikes_on_time(played, database, gateway):
    turns = played[DEAF, DEAF]
    assert_struck(database, turns, "upstream_connect_timeout", CONNECT, began)
    for line in gateway.turn_lines([turn for _, turn in turns]):
        assert (line["term"], line["retries"], line["upstream_status"]) == ("uA", 0, 0), line
    assert all(turn.heartbeats == 1 for _, turn in turns)
