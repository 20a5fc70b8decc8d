"""What the model is told: the system prompt, the profile, and the conversation so far."""

import uuid

import pytest
from harness.stub import answer, say

SETTINGS = {"chat.system_prompt": "You are Sluice's test. Profile: {{profile}} End."}


def said(stub):
    """Roles and contents of the last prompt, without the system prompt."""
    system, *rest = stub.last()["messages"]
    assert system["role"] == "system"
    return [(message["role"], message["content"]) for message in rest]


def test_the_second_turn_knows_the_first(gateway, user, stub):
    first = gateway.ask(user, say("tokens=2", "one"))
    gateway.ask(user, say("tokens=3", "two"), session_id=first.session_id)
    assert said(stub) == [("user", say("tokens=2", "one")), ("assistant", answer(2)), ("user", say("tokens=3", "two"))]


def test_only_the_newest_ten_in_order(gateway, user, stub):
    session = str(uuid.uuid4())
    questions = [say(f"tokens={i + 1}", f"question {i}") for i in range(8)]
    for question in questions:
        gateway.ask(user, question, session_id=session)
    expected = []
    for i in range(2, 7):
        expected += [("user", questions[i]), ("assistant", answer(i + 1))]
    assert said(stub) == expected + [("user", questions[7])]


def test_history_comes_from_postgres_as_well(gateway, user, stub, redis):
    first = gateway.ask(user, say("tokens=2", "one"))
    redis.client().delete(*redis.client().keys(f"sl:{{{user}}}*"))
    gateway.ask(user, say("tokens=1", "two"), session_id=first.session_id)
    assert said(stub)[:2] == [("user", say("tokens=2", "one")), ("assistant", answer(2))]


def test_the_token_budget_keeps_the_newest_whole_messages(start, user, stub):
    gateway = start({"chat.history_tokens": 300})  # about 1200 bytes
    session = str(uuid.uuid4())
    for i in range(4):
        gateway.ask(user, say("tokens=1", f"{i} " + "x" * 500), session_id=session)
    history = said(stub)[:-1]
    assert history == said(stub)[:-1] and 1 <= len(history) < 6
    assert history[-2:] == [("user", say("tokens=1", "2 " + "x" * 500)), ("assistant", "tok0")]
    assert sum(len(content) for _, content in history) <= 1200


def test_a_partial_answer_stays_in_the_conversation(gateway, user, stub):
    first = gateway.ask(user, say("fin_after=2 tokens=9", "one"))
    assert first.last["type"] == "error"
    gateway.ask(user, say("tokens=1", "two"), session_id=first.session_id)
    assert said(stub)[0] == ("user", say("fin_after=2 tokens=9", "one"))
    assert said(stub)[1] == ("assistant", answer(2))


def test_the_profile_is_in_the_system_prompt(gateway, user, stub):
    profile = {"name": "Ada", "risk": "low", "note": 'quote " and € sign'}
    assert gateway.call("PUT", "/api/v1/profile", profile, user=user).status == 204
    gateway.ask(user, say("tokens=1"))
    system = stub.last()["messages"][0]["content"]
    assert system.startswith("You are Sluice's test. Profile: {") and system.endswith("} End.")
    assert '"name": "Ada"' in system or '"name":"Ada"' in system


def test_without_a_profile_nothing_takes_its_place(gateway, user, stub):
    gateway.ask(user, say("tokens=1"))
    assert stub.last()["messages"][0]["content"] == "You are Sluice's test. Profile:  End."


def test_a_profile_with_a_placeholder_is_not_expanded(gateway, user, stub):
    gateway.call("PUT", "/api/v1/profile", {"name": "{{profile}}"}, user=user)
    gateway.ask(user, say("tokens=1"))
    assert stub.last()["messages"][0]["content"].count("{{profile}}") == 1


def test_an_unknown_session_is_an_empty_one(gateway, user, stub, database):
    session = str(uuid.uuid4())
    turn = gateway.ask(user, say("tokens=1"), session_id=session)
    assert turn.session_id == session and turn.warnings == []
    assert said(stub) == [("user", say("tokens=1"))]
    assert database.sessions(user)[0]["id"] == session


def test_another_users_session_is_an_empty_one_of_ones_own(gateway, user, stub, database):
    theirs = gateway.ask(user, say("tokens=2", "secret"))
    other = user + "-other"
    mine = gateway.ask(other, say("tokens=1", "mine"), session_id=theirs.session_id)
    assert mine.session_id == theirs.session_id and mine.last["type"] == "done"
    assert said(stub) == [("user", say("tokens=1", "mine"))]
    # Both conversations live on side by side.
    assert len(database.await_messages(user, 2, theirs.session_id)) == 2
    assert len(database.await_messages(other, 2, theirs.session_id)) == 2
    gateway.ask(user, say("tokens=1", "again"), session_id=theirs.session_id)
    assert said(stub)[0] == ("user", say("tokens=2", "secret")) and len(said(stub)) == 3


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_at_once_in_one_session(gateway, user, stub, database, redis, first_to_end):
    """Both run; afterwards the questions are in the order of arrival, from the cache and from Postgres alike.

    The answers follow in the order in which they ended: a message's place is its time.
    """
    before = gateway.ask(user, say("tokens=1", "before"))
    session = before.session_id
    # with what a cached element has around its time and its id
    questions = [say("stall_after=2 tokens=9", f'{i} "t":1,"c": "i":"0"') for i in range(2)]
    turns = []
    for question in questions:
        turns.append(gateway.open(user, question, session_id=session))
        turns[-1].until_text(answer(2))
    assert stub.stats()["active_streams"] == 2
    for turn in (turns[first_to_end], turns[1 - first_to_end]):
        assert gateway.stop_turn(user, turn.turn_id).status == 202
        turn.finish()
    expected = [("user", say("tokens=1", "before")), ("assistant", "tok0")]
    expected += [("user", question) for question in questions] + [("assistant", answer(2))] * 2
    answers = [turns[i].last["message_id"] for i in (first_to_end, 1 - first_to_end)]
    for source in ("cache", "database"):
        third = gateway.open(user, say("stall_after=1 tokens=9", source), session_id=session)
        third.until("token")
        assert said(stub) == [*expected, ("user", say("stall_after=1 tokens=9", source))]
        gateway.stop_turn(user, third.turn_id)
        third.finish()
        assert gateway.turn_line(third.turn_id)["history_source"] == source
        expected += [("user", say("stall_after=1 tokens=9", source)), ("assistant", "tok0")]
        page = gateway.call("GET", f"/api/v1/chat/sessions/{session}/messages", user=user).json()["messages"]
        assert [(message["role"], message["content"]) for message in reversed(page)] == expected
        assert [page[len(page) - 1 - at]["id"] for at in (4, 5)] == answers
        database.await_messages(user, len(expected), session)
        assert redis.client().delete(f"sl:{{{user}}}:h:{session}") == 1


def test_a_turn_that_outlives_many(gateway, user, stub, redis):
    """The newest ten are those of the latest time, in the cache as in Postgres: its question is not among them."""
    session, messages = str(uuid.uuid4()), []
    outliving = gateway.open(user, say("stall_after=1 tokens=9", "long"), session_id=session)
    outliving.until("token")

    def ask(question):
        gateway.ask(user, say("tokens=1", question), session_id=session)
        messages.extend([("user", say("tokens=1", question)), ("assistant", "tok0")])

    for i in range(6):
        ask(f"short {i}")
    gateway.stop_turn(user, outliving.turn_id)
    outliving.finish()
    messages.append(("assistant", "tok0"))
    for source in ("cache", "cache", "Postgres"):
        if source == "Postgres":
            assert redis.client().delete(f"sl:{{{user}}}:h:{session}") == 1
        newest = messages[-9:] if messages[-10][0] == "assistant" else messages[-10:]  # a prompt begins with a question
        ask(source)
        assert said(stub) == [*newest, messages[-2]], source


NAMES = ["a:b", "a}:h:", "*", "Ünï çødé", "x" * 255, "a b'\"; drop table", "%s%n"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: str(NAMES.index(name)))
def test_user_names_are_only_names(gateway, stub, database, name):
    user = f"{name}{uuid.uuid4().hex}"[-255:]
    first = gateway.ask(user, say("tokens=2", "one"))
    second = gateway.ask(user, say("tokens=1", "two"), session_id=first.session_id)
    assert first.last["type"] == second.last["type"] == "done"
    assert len(said(stub)) == 3
    database.await_messages(user, 4)


def test_profiles_of_users_with_like_names_stay_apart(gateway, stub, user):
    session = str(uuid.uuid4())
    gateway.call("PUT", "/api/v1/profile", {"who": "first"}, user=user)
    gateway.ask(f"{user}}}:h:{session}", say("tokens=1"), session_id=session)
    assert "first" not in stub.last()["messages"][0]["content"]
