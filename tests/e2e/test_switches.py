"""What an operator can switch while it runs: each switch before and after a SIGHUP.

The configuration is a file of the test's own. The loops take it a moment after the log says so.
"""

import json
import signal

import pytest
from harness.many import ask_all, at_once
from harness.stub import answer, say
from harness.tokens import new_user
from harness.wait import wait_until

STUBS = 2


class Switched:
    """A gateway and its file. JSON is YAML, too."""

    def __init__(self, start, path, content, changes=None):
        self.path, self.content = path, content
        self._write()
        self.gateway = start(changes, arguments=["--config", str(path)])

    def _write(self):
        self.path.write_text(json.dumps(self.content))

    def flip(self, **sections):
        """Changes keys, or the list of upstreams, reloads, and returns the log line."""
        for section, keys in sections.items():
            if isinstance(keys, dict):
                self.content.setdefault(section, {}).update(keys)
            else:
                self.content[section] = keys
        self._write()
        before = len(self.gateway.events("reloaded"))
        self.gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self.gateway.events("reloaded")) > before, what="the log says so")
        return self.gateway.events("reloaded")[-1]


@pytest.fixture
def switched(start, tmp_path):
    def make(content, changes=None):
        return Switched(start, tmp_path / "sluice.yaml", content, changes)

    return make


def upstreams(stubs, **of_the_second):
    return [{"name": "main", "url": stubs[0].url}, {"name": "other", "url": stubs[1].url, **of_the_second}]


def breaker(gateway, name):
    return gateway.metric("sluice_upstream_breaker_state", f'upstream="{name}"')


# ---------------------------------------------------------------- what the log says


def test_the_log_names_what_has_changed(switched):
    scene = switched({"chat": {"resume_window_s": 60}})
    line = scene.flip()
    assert (line["changed"], line["needs_restart"]) == ("", "")
    line = scene.flip(
        chat={"resume_window_s": 61, "system_prompt": "NOT-TO-BE-SHOWN", "turns_max": 5},
        upstream={"hedge_percent": 1, "api_key": "sk-not-to-be-shown"},
    )
    assert line["changed"].split(",") == [
        "upstream.api_key",
        "upstream.hedge_percent",
        "chat.system_prompt",
        "chat.turns_max",
        "chat.resume_window_s",
    ]
    assert line["needs_restart"] == "chat.turns_max"
    assert not any("not-to-be-shown" in text.lower() for text in scene.gateway.lines)


def test_entries_of_the_list_have_numbers(switched, stubs):
    scene = switched({"upstreams": upstreams(stubs)}, {"upstream.url": None})
    line = scene.flip(upstreams=upstreams(stubs, canary_percent=5, weight=3))
    assert line["changed"] == "upstreams[1].weight,upstreams[1].canary_percent"
    assert scene.flip(upstreams=upstreams(stubs)[:1])["changed"] == "upstreams"


# ---------------------------------------------------------------- the switches


def test_documents(switched, user):
    scene = switched({"chat": {"rag": True}})
    ask = scene.gateway.ask
    assert ask(user, say("tokens=1"), use_rag=True).warnings == ["rag_unavailable"]
    assert scene.flip(chat={"rag": False})["changed"] == "chat.rag"
    wait_until(
        lambda: all(ask(user, say("tokens=1"), use_rag=True).warnings == ["rag_disabled"] for _ in range(8)),
        what="it is off on every loop",
    )
    assert ask(user, say("tokens=1")).warnings == []
    scene.flip(chat={"rag": True})
    wait_until(lambda: ask(user, say("tokens=1"), use_rag=True).warnings == ["rag_unavailable"])


def test_hedging(switched, stubs, user):
    """What its loop has learned while hedging was off is of use at once when it is on, and the other way round."""
    content = {"upstreams": upstreams(stubs, priority=1), "upstream": {"hedge_percent": 0}}
    scene = switched(content, {"upstream.url": None, "threads": 1})
    gateway = scene.gateway
    late = say(f"tokens=1 delay=400 at={stubs[0].port}")

    def is_hedged():
        return gateway.turn_line(gateway.ask(user, late).turn_id)["hedged"]

    # beside slow ones the quick ones are not late, and leave what they earn
    for directive, count in (("tokens=1 delay=150", 30), ("tokens=1", 60)):
        ask_all(gateway, [say(directive)] * count, threads=10)
    assert is_hedged() is False
    assert scene.flip(upstream={"hedge_percent": 2})["changed"] == "upstream.hedge_percent"
    ask_all(gateway, [say("tokens=1")] * 60, threads=10)  # they earn it
    assert is_hedged() is True
    scene.flip(upstream={"hedge_percent": 0})
    ask_all(gateway, [say("tokens=1")] * 60, threads=10)
    assert is_hedged() is False


def test_the_canary(switched, stubs):
    """Its share can be changed, and it can be emptied, without forgetting whose breaker is open."""
    off = [*upstreams(stubs), {"name": "down", "url": "http://127.0.0.1:1/v1", "models": ["lost"]}]
    on = [*upstreams(stubs, canary_percent=100), off[2]]
    off[1] = {**off[1], "priority": 1}
    changes = {"upstream.url": None, "upstream.breaker_failures": 2, "upstream.breaker_open_ms": 600000}
    scene = switched({"upstreams": off, "upstream": {"retry_budget_percent": 0}}, changes)
    gateway = scene.gateway

    def who_answers():
        users = [new_user() for _ in range(20)]
        turns = at_once(lambda user: gateway.ask(user, say("tokens=1")), users)
        return {line["upstream"] for line in gateway.turn_lines(turns)}

    ask_all(gateway, [say("tokens=1")] * 4, model="lost")
    assert breaker(gateway, "down") == 1
    assert who_answers() == {"main"}
    with gateway.open(new_user(), say("tokens=6 gap=100")) as running:
        running.until("token")
        line = scene.flip(upstreams=on)
        assert line["changed"] == "upstreams[1].priority,upstreams[1].canary_percent"
        wait_until(lambda: who_answers() == {"other"}, what="the canary has everybody")
        assert running.finish().text == answer(6)
        assert gateway.turn_line(running.turn_id)["upstream"] == "main"
    assert breaker(gateway, "down") == 1, "it stays open"
    scene.flip(upstreams=off)
    wait_until(lambda: who_answers() == {"main"}, what="the canary has nobody")
    assert breaker(gateway, "down") == 1
    before = gateway.metric("sluice_upstream_requests_total", 'upstream="down"')
    assert gateway.ask(new_user(), say("tokens=1"), model="lost").last["code"] == "upstream_unavailable"
    assert gateway.metric("sluice_upstream_requests_total", 'upstream="down"') == before


def test_breakers_outlive_other_changes_but_not_another_endpoint(switched, stubs, user):
    down = {"name": "down", "url": "http://127.0.0.1:1/v1", "models": ["lost"]}
    scene = switched(
        {"upstreams": [*upstreams(stubs), down]},
        {"upstream.url": None, "upstream.breaker_failures": 2, "upstream.breaker_open_ms": 600000},
    )
    ask_all(scene.gateway, [say("tokens=1")] * 4, model="lost")
    assert breaker(scene.gateway, "down") == 1
    for change in ({"upstream": {"hedge_percent": 1}}, {"chat": {"resume_window_s": 5}}):
        scene.flip(**change)
        assert breaker(scene.gateway, "down") == 1, change
    scene.flip(upstreams=[*upstreams(stubs), {**down, "url": stubs[1].url}])
    wait_until(lambda: scene.gateway.ask(user, say("tokens=1"), model="lost").last["type"] == "done")
    assert breaker(scene.gateway, "down") == 0


def test_the_resume_window(switched, user):
    """A turn keeps the window that it was born with, also when others that came first are kept for longer."""
    scene = switched({"chat": {"resume_window_s": 600}}, {"threads": 1})
    gateway = scene.gateway

    def is_gone(turn):
        return gateway.follow(user, turn.turn_id).status == 410

    kept = [gateway.ask(user, say("tokens=1")) for _ in range(3)]
    with gateway.open(user, say("tokens=6 gap=100")) as running:
        running.until("token")
        assert scene.flip(chat={"resume_window_s": 1})["changed"] == "chat.resume_window_s"
        assert running.finish().text == answer(6)
    later = [gateway.ask(user, say("tokens=1")) for _ in range(3)]
    for turn in later:
        wait_until(lambda: is_gone(turn), 10, "it has gone before those that came first")
    for turn in [*kept, running]:
        assert gateway.follow(user, turn.turn_id).finish().events == turn.events
    scene.flip(chat={"resume_window_s": 0})
    wait_until(lambda: is_gone(gateway.ask(user, say("tokens=1"))), what="nothing is kept any more")
    assert not is_gone(kept[0])
