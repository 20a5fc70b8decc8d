"""For developers: where the time of a turn went, and what it did, step by step."""

import pytest
from harness.gateway import STREAM, Gateway
from harness.many import ask_all
from harness.stub import answer, once, say
from harness.wait import wait_until

STUBS = 2

WISH = {"X-Sluice-Debug": "timings"}
STAGES = ["parse", "context", "profile", "history", "choose", "connect"]
STAGES += ["upstream_first_byte", "first_token", "stream", "save"]


@pytest.fixture(scope="module")
def gateway(settings, stubs):
    upstreams = [
        {"name": "main", "url": stubs[0].url, "models": ["default"]},
        {"name": "spare", "url": stubs[1].url, "models": ["default"], "priority": 1},
        {"name": "alone", "url": stubs[0].url, "models": ["single"]},
    ]
    changes = {
        "upstream.url": None,
        "upstreams": upstreams,
        "upstream.breaker_failures": 0,
        "upstream.retry_backoff_ms": 20,
        "upstream.retry_budget_percent": 100,
        "upstream.idle_timeout_ms": 300,
        "log": "debug",
    }
    server = Gateway({**settings, **changes})
    server.await_stores()
    yield server
    server.stop()


def by_name(debug):
    return {stage["stage"]: stage for stage in debug["stages"]}


# ---------------------------------------------------------------- the breakdown


def test_without_a_wish_nothing_changes(gateway, user):
    for headers in ({}, {"X-Sluice-Debug": "timing"}, {"X-Sluice-Debug": ""}):
        assert "debug" not in gateway.ask(user, say("tokens=1"), headers=headers).last
        assert "debug" not in gateway.ask(user, say("fin_after=1"), headers=headers).last


def test_where_the_time_went(gateway, user):
    first = gateway.ask(user, say("tokens=1"))
    turn = gateway.ask(
        user, say("tokens=4 delay=40 first=60 gap=20"), session_id=first.session_id, headers=WISH
    )
    assert turn.last["type"] == "done" and turn.text == answer(4)
    debug = turn.last["debug"]
    stages = by_name(debug)
    assert [stage["stage"] for stage in debug["stages"]] == STAGES
    starts = [stage["start_ms"] for stage in debug["stages"]]
    assert starts == sorted(starts) and starts[0] == 0
    assert stages["history"]["source"] == "cache" and stages["profile"]["source"] in ("cache", "local")
    assert not any("source" in stages[name] for name in STAGES if name not in ("profile", "history"))
    assert not any("cut" in stage for stage in debug["stages"])
    assert stages["upstream_first_byte"]["ms"] >= 39 and stages["first_token"]["ms"] >= 59
    assert stages["stream"]["ms"] >= 59
    end = stages["save"]["start_ms"] + stages["save"]["ms"]
    assert end == pytest.approx(turn.last["timings"]["total_ms"], abs=0.002)
    for before, after in zip(STAGES[4:], STAGES[5:]):  # no moment of asking is in two of them, or in none
        expected = stages[before]["start_ms"] + stages[before]["ms"]
        assert stages[after]["start_ms"] == pytest.approx(expected, abs=0.002), (before, after)
    assert (debug["upstream"], debug["retries"], debug["failovers"], debug["hedged"]) == ("main", 0, 0, False)
    assert debug["loop"] in (0, 1) and debug["deltas"] == 4


def test_a_failover_is_in_it(gateway, user, stubs):
    turn = gateway.ask(user, say(f"tokens=1 status=500 at={stubs[0].port}"), headers=WISH)
    debug = turn.last["debug"]
    assert (debug["upstream"], debug["failovers"], debug["retries"]) == ("spare", 1, 0)


def test_a_retry_counts_as_choosing(gateway, user):
    turn = gateway.ask(user, say(once("tokens=1 delay=50 status=500")), model="single", headers=WISH)
    debug = turn.last["debug"]
    assert (debug["upstream"], debug["failovers"], debug["retries"]) == ("alone", 0, 1)
    assert by_name(debug)["choose"]["ms"] >= 49


def test_an_error_says_in_which_stage_it_struck(gateway, user):
    turn = gateway.ask(user, say("tokens=3 stall_after=1"), headers=WISH)
    assert (turn.last["type"], turn.last["code"]) == ("error", "upstream_idle_timeout")
    stages = by_name(turn.last["debug"])
    assert stages["stream"]["ms"] >= 299 and turn.last["debug"]["deltas"] == 1
    turn = gateway.ask(user, say("status=500"), model="single", headers=WISH)
    stages = by_name(turn.last["debug"])
    assert stages["first_token"]["cut"] is True and "stream" not in stages
    assert "cut" not in stages["upstream_first_byte"] and "cut" not in stages["save"]


def test_whoever_reads_the_turn_reads_it(gateway, user):
    """It belongs to the turn, not to the response; a repeat cannot add it."""
    asked = {"headers": {**WISH, "Idempotency-Key": "debug-1"}}
    turn = gateway.ask(user, say("tokens=1"), **asked)
    assert gateway.follow(user, turn.turn_id).finish().last["debug"] == turn.last["debug"]
    whole = gateway.call("POST", STREAM, {"message": say("tokens=1"), "stream": False}, user=user, headers=WISH)
    assert whole.json()["debug"]["deltas"] == 1
    plain = gateway.ask(user, say("tokens=1"), headers={"Idempotency-Key": "debug-2"})
    repeated = gateway.ask(user, say("tokens=1"), headers={**WISH, "Idempotency-Key": "debug-2"})
    assert repeated.events == plain.events and "debug" not in repeated.last


def test_for_every_turn(start, user):
    gateway = start({"chat.debug_timings": True, "http.cors_origins": "https://a.example"})
    debug = gateway.ask(user, say("tokens=1")).last["debug"]
    assert debug["upstream"] == "default"
    assert "history" not in by_name(debug), "a new session has none"
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    allowed = gateway.call("OPTIONS", STREAM, headers=headers).headers["access-control-allow-headers"]
    assert "x-sluice-debug" in allowed.split(", ")


# ---------------------------------------------------------------- its moves in the log


def moves(gateway, turn):
    gateway.turn_line(turn.turn_id)
    return [
        (line["move"], line["upstream"], line["error"]) for line in gateway.events("turn_ask", turn_id=turn.turn_id)
    ]


def test_every_move_of_a_turn_is_traced(gateway, user):
    turn = gateway.ask(user, say("tokens=2"))
    gateway.turn_line(turn.turn_id)
    lines = gateway.events("turn_state", turn_id=turn.turn_id)
    path = [line["from"] for line in lines] + [lines[-1]["to"]]
    assert path == ["born", "context", "ask", "stream", "save", "done"]
    times = [line["after_ms"] for line in lines]
    assert times == sorted(times) and all(line["level"] == "debug" for line in lines)
    assert moves(gateway, turn) == [("call", "main", None), ("first_delta", "main", None)]


def test_a_failover_is_traced(gateway, user, stubs):
    turn = gateway.ask(user, say(f"tokens=1 status=500 at={stubs[0].port}"))
    assert moves(gateway, turn) == [
        ("call", "main", None),
        ("failed", "main", "upstream_error"),
        ("failover", "spare", None),
        ("call", "spare", None),
        ("first_delta", "spare", None),
    ]


def test_a_retry_is_traced(gateway, user):
    turn = gateway.ask(user, say(once("tokens=1 status=503")), model="single")
    assert moves(gateway, turn) == [
        ("call", "alone", None),
        ("failed", "alone", "upstream_error"),
        ("retry_planned", "alone", None),
        ("call", "alone", None),
        ("first_delta", "alone", None),
    ]


def test_without_debug_nothing_is_traced(start, user):
    gateway = start()
    turn = gateway.ask(user, say("tokens=1"))
    gateway.turn_line(turn.turn_id)
    assert gateway.events("turn_state") == [] and gateway.events("turn_ask") == []


def test_a_hedge_is_traced(start, user, settings, stubs):
    upstreams = [
        {"name": "main", "url": stubs[0].url},
        {"name": "spare", "url": stubs[1].url, "priority": 1},
    ]
    changes = {"upstream.url": None, "upstreams": upstreams, "upstream.hedge_percent": 2, "threads": 1, "log": "debug"}
    gateway = start(changes)
    # they teach it what is usual, then earn the hedge; beside slow ones the quick ones are not late
    for directive, count in (("tokens=1 delay=150", 30), ("tokens=1", 100)):
        ask_all(gateway, [say(directive)] * count, threads=10)
    turn = gateway.ask(user, say(f"tokens=1 delay=2000 at={stubs[0].port}"), headers=WISH)
    assert turn.last["debug"]["hedged"] is True and turn.last["debug"]["upstream"] == "spare"
    wait_until(lambda: len(moves(gateway, turn)) >= 4, what="its lines")
    assert moves(gateway, turn) == [
        ("call", "main", None),
        ("hedge", "spare", None),
        ("call", "spare", None),
        ("first_delta", "spare", None),
    ]
