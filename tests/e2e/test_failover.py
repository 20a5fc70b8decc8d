"""Several model servers: who is asked, who is asked next, and when nobody is asked again.

Three scripted servers. `at=PORT` in a question lets only one of them break, and the log line of a turn
says who answered it.
"""

import collections
import time

import pytest
from harness.gateway import Gateway
from harness.many import ask_all, at_once
from harness.stub import answer, once, say
from harness.tokens import new_user
from harness.wait import wait_until

STUBS = 3

QUICK = {"upstream.breaker_failures": 0, "upstream.retry_backoff_ms": 20, "upstream.retry_budget_percent": 100}


def entry(name, stub, **more):
    return {"name": name, "url": stub.url, **more}


def over(upstreams, **changes):
    """Settings with this list of upstreams."""
    return {"upstream.url": None, "upstreams": upstreams, **QUICK, **changes}


@pytest.fixture(scope="module")
def gateway(settings, stubs):
    """One list for all that leaves no trace behind: each test has models of its own."""
    first, second, third = stubs
    upstreams = [
        entry("main", first, models=["ranked", "default"]),
        entry("spare", second, models=["ranked"], priority=1),
        entry("last", third, models=["ranked"], priority=2),
        entry("heavy", first, models=["weighed"], weight=3),
        entry("light", second, models=["weighed"], weight=1),
        entry("canary", third, models=["tried"], canary_percent=20, weight=1),
        entry("stable", first, models=["tried"]),
        entry("alone", first, models=["single"]),
        entry("translated", second, models=["ours=theirs"]),
        {"name": "down", "url": "http://127.0.0.1:1/v1", "models": ["half-down"]},
        entry("up", second, models=["half-down"], priority=1),
        {"name": "claude", "provider": "anthropic", "url": first.url, "models": ["mixed"]},
        entry("gpt", second, models=["mixed"], priority=1),
    ]
    server = Gateway({**settings, **over(upstreams)})
    server.await_stores()
    yield server
    server.stop()


def requests(stubs):
    return [stub.requests() for stub in stubs]


def grown(stubs, before):
    return [now - then for now, then in zip(requests(stubs), before, strict=True)]


def assert_done(turn, tokens):
    assert (turn.last["type"], turn.text) == ("done", answer(tokens)), turn.events


# ---------------------------------------------------------------- who is asked


def test_the_lowest_priority_is_asked(gateway, stubs):
    before = requests(stubs)
    turns = [turn for _, turn in ask_all(gateway, [say("tokens=2")] * 20, model="ranked")]
    assert {line["upstream"] for line in gateway.turn_lines(turns)} == {"main"}
    assert grown(stubs, before) == [20, 0, 0]


def test_the_weight_is_a_share(gateway):
    turns = [turn for _, turn in ask_all(gateway, [say("tokens=1")] * 200, model="weighed")]
    share = collections.Counter(line["upstream"] for line in gateway.turn_lines(turns))
    # 150 +- 6.1 are expected; six standard deviations
    assert 113 <= share["heavy"] <= 187 and share["heavy"] + share["light"] == 200, share


def test_a_canary_has_its_users(gateway):
    users = [new_user() for _ in range(200)]

    def ask(user):
        return gateway.ask(user, say("tokens=1"), model="tried")

    homes = []
    for _ in range(3):
        turns = at_once(ask, users)
        homes.append([line["upstream"] for line in gateway.turn_lines(turns)])
    assert homes[0] == homes[1] == homes[2]  # a user stays
    # 40 +- 5.7 are expected; five standard deviations
    assert 12 <= homes[0].count("canary") <= 68 and set(homes[0]) == {"canary", "stable"}


def test_a_canary_that_fails_has_the_others_behind_it(gateway, stubs):
    messages = [say(f"tokens=2 status=500 at={stubs[2].port}")] * 60
    turns = [turn for _, turn in ask_all(gateway, messages, model="tried")]
    for turn, line in zip(turns, gateway.turn_lines(turns), strict=True):
        assert_done(turn, 2)
        assert line["upstream"] == "stable"
    assert {line["failovers"] for line in gateway.turn_lines(turns)} == {0, 1}


def test_the_model_is_asked_by_its_own_name(gateway, user, stubs):
    assert_done(gateway.ask(user, say("tokens=1"), model="ours"), 1)
    assert stubs[1].last()["model"] == "theirs"


# ---------------------------------------------------------------- who is asked next


@pytest.mark.parametrize(
    "fault",
    ["status=500", "status=503", "status=429", "status=401", "status=403", "status=404", "quota"]
    + ["drop=fin", "drop=rst", "html", "html status=200", "head_bytes=70000"]
    + ["fin_after=0", "rst_after=0", "error_after=0", "malformed=0"],
)
def test_another_one_answers(gateway, user, stubs, fault):
    """At once, whatever it was, and the user sees one whole answer."""
    before = requests(stubs)
    turn = gateway.ask(user, say(f"tokens=3 {fault} at={stubs[0].port}"), model="ranked")
    assert_done(turn, 3)
    line = gateway.turn_line(turn.turn_id)
    assert (line["upstream"], line["failovers"], line["retries"], line["hedged"]) == ("spare", 1, 0, False)
    # libcurl repeats by itself what a kept connection swallowed
    assert grown(stubs, before) in ([1, 1, 0], [2, 1, 0] if "drop" in fault else None)


@pytest.mark.parametrize("status", [429, 503])
def test_who_asks_for_a_pause_is_left_alone(start, stubs, status):
    upstreams = [entry("main", stubs[0]), entry("spare", stubs[1], priority=1)]
    gateway = start(over(upstreams))
    before = requests(stubs)
    directive = f"tokens=3 status={status} retry_after=100 at={stubs[0].port}"
    turns = [gateway.ask(new_user(), say(directive)) for _ in range(3)]
    for turn, line, failovers in zip(turns, gateway.turn_lines(turns), [1, 0, 0], strict=True):
        assert_done(turn, 3)
        assert (line["upstream"], line["failovers"]) == ("spare", failovers)
    assert grown(stubs, before) == [1, 3, 0]
    assert gateway.metric("sluice_upstream_failovers_total") == 1


def test_nobody_listens_at_the_first(gateway, user):
    turn = gateway.ask(user, say("tokens=3"), model="half-down")
    assert_done(turn, 3)
    line = gateway.turn_line(turn.turn_id)
    assert (line["upstream"], line["failovers"], line["retries"]) == ("up", 1, 0)


def test_another_dialect_answers(gateway, user, stubs):
    turn = gateway.ask(user, say(f"tokens=3 status=500 at={stubs[0].port}"), model="mixed")
    assert_done(turn, 3)
    assert gateway.turn_line(turn.turn_id)["upstream"] == "gpt"


def test_all_of_them_fail(gateway, user, stubs):
    """Each is asked, then each once more, and the user hears of the last failure."""
    before = requests(stubs)
    turn = gateway.ask(user, say("status=500"), model="ranked")
    assert turn.last["code"] == "upstream_error" and turn.last["retryable"] is True
    assert grown(stubs, before) == [2, 2, 2]
    line = gateway.turn_line(turn.turn_id)
    assert (line["failovers"], line["retries"], line["upstream_status"]) == (2, 3, 500)


@pytest.mark.parametrize("fault", ["status=400", "status=400 html", "status=422", "status=413"])
def test_a_bad_request_is_bad_everywhere(gateway, user, stubs, fault):
    before = requests(stubs)
    turn = gateway.ask(user, say(f"{fault} at={stubs[0].port}"), model="ranked")
    assert turn.last["code"] == "upstream_rejected" and turn.last["retryable"] is False
    assert grown(stubs, before) == [1, 0, 0]


@pytest.mark.parametrize("fault", ["fin_after=1", "rst_after=1 gap=5", "error_after=1", "malformed=1"])
def test_nobody_is_asked_after_the_first_token(gateway, user, stubs, fault):
    before = requests(stubs)
    turn = gateway.ask(user, say(f"tokens=9 {fault} at={stubs[0].port}"), model="ranked")
    assert turn.last["type"] == "error" and turn.text == answer(1)
    assert grown(stubs, before) == [1, 0, 0]


# ---------------------------------------------------------------- the same one again


@pytest.mark.parametrize("fault", ["status=500", "status=503 empty", "drop", "fin_after=0", "html", "status=429"])
def test_a_single_one_is_asked_again(gateway, user, stubs, fault):
    before = requests(stubs)
    turn = gateway.ask(user, say(once(f"tokens=3 {fault}")), model="single")
    assert_done(turn, 3)
    assert grown(stubs, before) == [2, 0, 0]
    line = gateway.turn_line(turn.turn_id)
    if fault != "drop":  # which libcurl repeats by itself on a kept connection
        assert (line["upstream"], line["retries"], line["failovers"]) == ("alone", 1, 0)


def test_a_pause_that_was_asked_for_is_kept(start, user, stubs):
    gateway = start({"upstream.url": stubs[0].url, **QUICK})
    turn = gateway.ask(user, say(once("tokens=3 status=429 retry_after=1")))
    assert_done(turn, 3)
    line = gateway.turn_line(turn.turn_id)
    assert line["retries"] == 1 and 1000 <= line["upstream_first_token_ms"] < 2000, line


@pytest.mark.parametrize("status, code", [(429, "upstream_rate_limited"), (503, "upstream_error")])
def test_a_pause_that_is_too_long_is_not_waited_for(start, user, stubs, status, code):
    gateway = start({"upstream.url": stubs[0].url, **QUICK})
    before = requests(stubs)
    turn = gateway.ask(user, say(f"status={status} retry_after=100"))
    assert turn.last["code"] == code
    assert turn.last.at - turn.events[0].at < 1 and grown(stubs, before) == [1, 0, 0]


def test_retries_have_a_budget(start, stubs):
    """An outage does not double the load: a tenth of the turns, and a reserve of ten."""
    changes = {"upstream.retry_budget_percent": 10, "threads": 1, "upstream.url": stubs[0].url}
    gateway = start({**QUICK, **changes})
    before = requests(stubs)
    turns = ask_all(gateway, [say("status=500")] * 60, threads=60)
    assert all(turn.last["code"] == "upstream_error" for _, turn in turns)
    asked, _, _ = grown(stubs, before)
    assert 60 + 10 <= asked <= 60 + 10 + 6
    assert gateway.metric("sluice_upstream_retries_total") == asked - 60


def test_without_a_budget_there_are_no_retries(start, user, stubs):
    gateway = start({"upstream.url": stubs[0].url, **QUICK, "upstream.retry_budget_percent": 0})
    before = requests(stubs)
    assert gateway.ask(user, say("status=500")).last["code"] == "upstream_error"
    assert grown(stubs, before) == [1, 0, 0]


# ---------------------------------------------------------------- the breaker

BREAKER = {"upstream.breaker_failures": 3, "upstream.breaker_open_ms": 400, "upstream.retry_budget_percent": 0}


def breaker_state(gateway, upstream="default"):
    """By both ways to see it, which must agree unless it changes in between."""
    names = {0: "closed", 1: "open", 2: "half_open"}

    def look():
        metric = names[gateway.metric("sluice_upstream_breaker_state", f'upstream="{upstream}"')]
        ready = gateway.call("GET", "/readyz")
        assert ready.status == 200  # a model that is away does not make the server unready
        (told,) = [part["breaker"] for part in ready.json()["upstreams"] if part["name"] == upstream]
        return metric == told and metric

    return wait_until(look, what="one state of the breaker")


def break_it(gateway):
    for _ in range(BREAKER["upstream.breaker_failures"]):
        assert gateway.ask(new_user(), say("status=500")).last["code"] == "upstream_error"


def test_the_breaker(start, stubs):
    gateway = start({"upstream.url": stubs[0].url, **QUICK, **BREAKER, "upstream.breaker_open_ms": 1000})
    assert breaker_state(gateway) == "closed"
    break_it(gateway)
    assert breaker_state(gateway) == "open"
    assert gateway.metric("sluice_upstream_breaker_opened_total", 'upstream="default"') == 1

    before = requests(stubs)
    turns = ask_all(gateway, [say("tokens=1")] * 8)
    for user, turn in turns:
        assert turn.last["code"] == "upstream_unavailable" and turn.last["retryable"] is True, turn.events
    for line in gateway.turn_lines([turn for _, turn in turns]):
        assert (line["upstream"], line["upstream_status"]) == ("", 0)
        assert line["total_ms"] < 500
    assert grown(stubs, before) == [0, 0, 0]

    wait_until(lambda: breaker_state(gateway) == "half_open", what="the breaker is half-open")
    # one may try; it stays open for the others until it has an answer
    probe = gateway.open(new_user(), say("tokens=2 first=300"))
    stubs[0].await_active()
    turns = ask_all(gateway, [say("tokens=1")] * 8)
    assert all(turn.last["code"] == "upstream_unavailable" for _, turn in turns)
    assert grown(stubs, before) == [1, 0, 0]
    assert_done(probe.finish(), 2)
    assert breaker_state(gateway) == "closed"
    assert all(turn.last["type"] == "done" for _, turn in ask_all(gateway, [say("tokens=1")] * 8))


def test_a_probe_that_fails_opens_it_again(start, user, stubs):
    gateway = start({"upstream.url": stubs[0].url, **QUICK, **BREAKER})
    break_it(gateway)
    wait_until(lambda: breaker_state(gateway) == "half_open", what="the breaker is half-open")
    assert gateway.ask(user, say("status=500")).last["code"] == "upstream_error"
    assert gateway.metric("sluice_upstream_breaker_opened_total", 'upstream="default"') == 2


def test_a_probe_whose_client_leaves_says_nothing(start, stubs):
    """It must not keep the breaker half-open for ever."""
    gateway = start({"upstream.url": stubs[0].url, **QUICK, **BREAKER, "chat.disconnect_grace_s": 0})
    break_it(gateway)
    wait_until(lambda: breaker_state(gateway) == "half_open", what="the breaker is half-open")
    probe = gateway.open(new_user(), say("first=60000"), on_disconnect="cancel")
    stubs[0].await_active()
    probe.connection.reset()
    stubs[0].await_idle()
    assert_done(gateway.ask(new_user(), say("tokens=1")), 1)
    assert breaker_state(gateway) == "closed"


def test_a_long_answer_closes_it_at_its_first_token(start, stubs):
    gateway = start({"upstream.url": stubs[0].url, **QUICK, **BREAKER, "chat.disconnect_grace_s": 0})
    break_it(gateway)
    wait_until(lambda: breaker_state(gateway) == "half_open", what="the breaker is half-open")
    probe = gateway.open(new_user(), say("tokens=1000 gap=1000"))
    probe.until("token")
    assert breaker_state(gateway) == "closed"
    probe.close()


def test_an_open_breaker_sends_the_turns_elsewhere(start, user, stubs):
    upstreams = [entry("main", stubs[0]), entry("spare", stubs[1], priority=1)]
    gateway = start(over(upstreams, **{**BREAKER, "upstream.breaker_open_ms": 60000}))
    for _ in range(3):
        assert_done(gateway.ask(new_user(), say(f"tokens=2 status=500 at={stubs[0].port}")), 2)
    before = requests(stubs)
    turn = gateway.ask(user, say("tokens=2"))
    assert_done(turn, 2)
    line = gateway.turn_line(turn.turn_id)
    assert (line["upstream"], line["failovers"]) == ("spare", 0) and grown(stubs, before) == [0, 1, 0]
    assert breaker_state(gateway, "main") == "open" and breaker_state(gateway, "spare") == "closed"


def test_who_only_refuses_is_alive(start, stubs):
    """Nor can one user, whose questions are refused, take the model from the others."""
    gateway = start({"upstream.url": stubs[0].url, **QUICK, **BREAKER})
    for fault in ("status=400", "status=403", "status=404", "status=429", "quota"):
        ask_all(gateway, [say(fault)] * 30)
        assert breaker_state(gateway) == "closed", fault
    ask_all(gateway, [say("status=401")] * 3)  # but a key that is not good is not good for anybody
    assert breaker_state(gateway) == "open"


# ---------------------------------------------------------------- hedging


@pytest.fixture(scope="module")
def hedging(settings, stubs):
    """One loop that knows a p95 of about 150 ms, and has earned at least one hedge."""
    upstreams = [entry("main", stubs[0]), entry("spare", stubs[1], priority=1)]
    server = Gateway({**settings, **over(upstreams, **{"upstream.hedge_percent": 2, "threads": 1})})
    server.await_stores()
    # the slower ones first: those that follow are not late and leave what they earn
    for directive, count in (("tokens=1 delay=150", 30), ("tokens=1", 100)):
        assert all(turn.last["type"] == "done" for _, turn in ask_all(server, [say(directive)] * count, threads=10))
    yield server
    server.stop()


def earn_a_hedge(gateway):
    ask_all(gateway, [say("tokens=1")] * 60, threads=10)


def test_a_late_one_is_overtaken(hedging, user, stubs):
    before, left = requests(stubs), stubs[0].stats()["aborted_by_client"]
    began = time.monotonic()
    turn = hedging.ask(user, say(f"tokens=3 delay=3000 at={stubs[0].port}"))
    assert_done(turn, 3)
    assert time.monotonic() - began < 1.5
    assert grown(stubs, before) == [1, 1, 0]
    line = hedging.turn_line(turn.turn_id)
    assert (line["upstream"], line["hedged"], line["failovers"], line["retries"]) == ("spare", True, 0, 0)
    wait_until(lambda: stubs[0].stats()["aborted_by_client"] == left + 1, what="the slow one is let go")
    assert hedging.metric("sluice_upstream_hedges_won_total") >= 1


def test_an_answer_without_text_is_not_mixed_up_with_the_hedge(hedging, user):
    """Whoever ends first gives the finish reason and the status, although no token has chosen it."""
    earn_a_hedge(hedging)
    turn = hedging.ask(user, say("tokens=0 delay=800 finish=length"))
    assert (turn.last["type"], turn.last["finish_reason"]) == ("done", "length"), turn.events
    line = hedging.turn_line(turn.turn_id)
    assert (line["hedged"], line["upstream_status"]) == (True, 200)


def test_hedges_are_few(hedging):
    """All of these are late; two in a hundred of all turns so far is the most there can be."""
    ask_all(hedging, [say("tokens=1 delay=300")] * 100, threads=50)
    turns = sum(value for (name, _), value in hedging.metrics().items() if name == "sluice_turns_total")
    assert 1 <= hedging.metric("sluice_upstream_hedges_total") <= turns * 0.02


def test_nobody_is_hedged_by_default(start, user, stubs):
    upstreams = [entry("main", stubs[0]), entry("spare", stubs[1], priority=1)]
    gateway = start(over(upstreams, **{"threads": 1}))
    ask_all(gateway, [say("tokens=1")] * 60, threads=10)
    turn = gateway.ask(user, say(f"tokens=3 delay=500 at={stubs[0].port}"))
    assert_done(turn, 3)
    assert gateway.turn_line(turn.turn_id)["hedged"] is False
    assert gateway.metric("sluice_upstream_hedges_total") == 0
