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
