"""A question that is sent again with its key (client_message_id, Idempotency-Key) is answered by the turn it has."""

import concurrent.futures
import itertools
import threading
import uuid

import pytest
from harness.gateway import STREAM
from harness.http import Closed
from harness.loops import loop_of
from harness.stub import answer, say
from harness.tokens import mint
from harness.wait import wait_until

SETTINGS = {"threads": 4, "upstream.breaker_failures": 0}


@pytest.fixture
def key():
    return f"key {uuid.uuid4()}"


@pytest.fixture
def requests(stub, loops):
    """requests(): what the model has been asked since the test began."""

    def count():
        return stub.stats()["requests"] - loops.probes

    before = count()
    return lambda: count() - before


def by_header(key):
    return {"headers": {"Idempotency-Key": key}}


def by_body(key):
    return {"client_message_id": key}


def whole(gateway, user, message, **options):
    """The same question, asked for one JSON object."""
    headers = {"Authorization": f"Bearer {mint(user)}", **options.pop("headers", {})}
    body = {"message": message, "stream": False, **options}
    return gateway.call("POST", STREAM, body, headers=headers)


# ---------------------------------------------------------------- at the same time


@pytest.mark.parametrize("directive", ["tokens=20 gap=5", "first=300 tokens=20", "tokens=20"])
def test_a_hundred_at_once_are_one(gateway, loops, user, database, key, requests, directive):
    """On four loops, the key now in the header and now in the body; more than a user may have turns."""
    gate = threading.Barrier(100)
    connections = [gateway.connect() for _ in range(100)]

    def repeat(i):
        gate.wait()
        given = by_header(key) if i % 2 else by_body(key)
        return gateway.open(user, say(directive), connection=connections[i], **given).finish()

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        streams = list(pool.map(repeat, range(100)))
    for stream in streams:
        assert stream.events == streams[0].events and stream.text == answer(20)
        stream.close()
    assert requests() == 1
    database.await_messages(user, 2)
    assert len(database.sessions(user)) == 1


def test_from_every_loop_to_every_loop(gateway, loops, user, requests):
    """A key belongs to a loop, its turn to the one that asked first, and a repeat comes to any."""
    ways = set()
    for number, (first, second) in enumerate(itertools.product(range(loops.count), repeat=2)):
        message, given = say("tokens=3", f"{number}"), by_header(f"key-{number}")
        with loops.borrow(first) as connection:
            turn = gateway.ask(user, message, connection=connection, **given)
        with loops.borrow(second) as connection:
            again = gateway.ask(user, message, connection=connection, **given)
        assert again.events == turn.events
        ways.add((loop_of(turn.turn_id), second))
    assert len(ways) == loops.count**2
    assert requests() == loops.count**2


def test_clients_that_leave_while_the_key_is_claimed(gateway, user, database, requests):
    """Whatever has become of them, who asks again gets the answer, and there is one."""
    count = 60
    for i in range(count):
        connection = gateway.connect()
        body = {"message": say("tokens=3", f"{i}"), "on_disconnect": "continue"}
        headers = {"Authorization": f"Bearer {mint(f'{user}-{i}')}", "Idempotency-Key": "mine"}
        connection.request("POST", STREAM, headers=headers, body=body)
        connection.reset() if i % 2 else connection.close()
    for i in range(count):
        turn = gateway.ask(f"{user}-{i}", say("tokens=3", f"{i}"), on_disconnect="continue", **by_header("mine"))
        assert turn.text == answer(3)
        database.await_messages(f"{user}-{i}", 2)
    assert requests() == count


# ---------------------------------------------------------------- after the end


def test_a_repeat_after_the_end(gateway, loops, user, key, requests):
    """With and without a stream, in any mixture."""
    turn = gateway.ask(user, say("tokens=5"), **by_body(key))
    for loop in range(loops.count):
        with loops.borrow(loop) as connection:
            assert gateway.ask(user, say("tokens=5"), connection=connection, **by_header(key)).events == turn.events
        reply = whole(gateway, user, say("tokens=5"), **by_header(key))
        assert reply.status == 200 and reply.headers["x-turn-id"] == turn.turn_id
        assert reply.json()["content"] == answer(5)
        assert reply.json()["message_id"] == turn.last["message_id"]
    first = whole(gateway, user, say("tokens=4"), **by_header(key + "2"))
    assert gateway.ask(user, say("tokens=4"), **by_body(key + "2")).text == first.json()["content"] == answer(4)
    assert requests() == 2


@pytest.mark.parametrize("directive, status", [("tokens=9 error_after=2", 502), ("status=400", 502), ("drop", 502)])
def test_a_turn_that_failed_is_not_asked_again(gateway, loops, user, key, directive, status):
    """Its error is what the key stands for; another try needs another key."""
    turn = gateway.ask(user, say(directive), **by_body(key))
    assert turn.last["type"] == "error"
    for loop in range(loops.count):
        with loops.borrow(loop) as connection:
            assert gateway.ask(user, say(directive), connection=connection, **by_body(key)).events == turn.events
        reply = whole(gateway, user, say(directive), **by_body(key))
        assert reply.status == status and reply.json()["error"]["code"] == turn.last["code"]
    assert gateway.ask(user, say(directive), **by_body(key + "2")).turn_id != turn.turn_id


def test_the_key_is_free_after_the_window(start, user, key):
    gateway = start({"threads": 4, "chat.resume_window_s": 1})
    turn = gateway.ask(user, say("tokens=2"), **by_body(key))
    assert gateway.ask(user, say("tokens=2"), **by_body(key)).turn_id == turn.turn_id
    wait_until(lambda: gateway.ask(user, say("tokens=2"), **by_body(key)).turn_id != turn.turn_id, what="it is free")
    again = gateway.ask(user, say("tokens=3"), **by_body(key + "2"))
    wait_until(lambda: gateway.follow(user, again.turn_id).status == 410, what="the turn has gone")
    other = gateway.ask(user, say("tokens=4"), **by_body(key + "2"))
    assert other.text == answer(4), "with another question, too"


def test_without_a_window_the_key_lasts_as_long_as_the_turn(start, user, key):
    gateway = start({"threads": 4, "chat.resume_window_s": 0})
    for i in range(6):
        with gateway.open(user, say("stall_after=1", f"{i}"), **by_body(key)) as stream:
            stream.until("token")
            again = [gateway.open(user, say("stall_after=1", f"{i}"), **by_body(key)) for _ in range(4)]
            gateway.stop_turn(user, stream.turn_id)
            stream.finish()
            for other in again:
                assert other.finish().events == stream.events
                other.close()
        wait_until(lambda: gateway.follow(user, stream.turn_id).status == 410, what="the turn has gone")


# ---------------------------------------------------------------- what is the same, what is not


def test_another_question_with_the_key(gateway, loops, user, key, requests):
    session = str(uuid.uuid4())
    turn = gateway.open(user, say("stall_after=2"), session_id=session, temperature=1, **by_body(key))
    changes = [
        {"session_id": str(uuid.uuid4())},
        {"temperature": 0.5},
        {"temperature": None},
        {"max_tokens": 5},
        {"use_rag": True},
        {"session_id": None},
    ]
    for loop in range(loops.count):
        with loops.borrow(loop) as connection:
            refused = gateway.open(
                user, "another", session_id=session, temperature=1, connection=connection, **by_body(key)
            )
            assert refused.status == 422
            assert refused.response.json()["error"]["param"] == "client_message_id"
            for change in changes:
                body = {"session_id": session, "temperature": 1, **change}
                body = {name: value for name, value in body.items() if value is not None}
                refused = gateway.open(user, say("stall_after=2"), connection=connection, **body, **by_body(key))
                assert refused.status == 422, change
            # how it is shown, and what becomes of it when one leaves, is not part of the question
            same = {"session_id": session, "temperature": 1.0, "on_disconnect": "continue"}
            question, given = f"  {say('stall_after=2')}\n", by_header(key)
            again = gateway.open(user, question, connection=loops.take(loop), **same, **given)
            assert again.turn_id == turn.turn_id
            again.close()
    gateway.stop_turn(user, turn.turn_id)
    turn.finish()
    assert gateway.open(user, "another", session_id=session, **by_body(key)).status == 422
    assert requests() == 1


def test_a_key_in_both_places(gateway, user, key):
    turn = gateway.ask(user, say("tokens=1"), **by_header(key), **by_body(key))
    assert gateway.ask(user, say("tokens=1"), **by_header(key)).turn_id == turn.turn_id
    for other in (key + "x", key[:-1], key.upper()):
        refused = gateway.open(user, say("tokens=1"), **by_header(other), **by_body(key))
        assert refused.status == 400
        assert refused.response.json()["error"]["param"] == "Idempotency-Key"


def test_keys_that_are_none(gateway, user):
    for spoilt in ("", "x" * 65, "tab\tinside", "caf\xe9", "x\x7f"):
        if "\x7f" not in spoilt:  # which no header may hold
            refused = gateway.open(user, say("tokens=1"), **by_header(spoilt))
            assert (refused.status, refused.response.json()["error"]["param"]) == (400, "Idempotency-Key"), spoilt
        refused = gateway.open(user, say("tokens=1"), **by_body(spoilt))
        assert (refused.status, refused.response.json()["error"]["param"]) == (400, "client_message_id"), spoilt
    for good in ("x", "x" * 64, "a b", '"quoted"', "~!@#$%^&*()"):
        turn = gateway.ask(user, say("tokens=1"), **by_header(good))
        assert gateway.ask(user, say("tokens=1"), **by_body(good)).turn_id == turn.turn_id


def test_users_do_not_share_keys(gateway, user, key, requests):
    turns = [gateway.ask(f"{user}-{i}", say("tokens=1"), **by_body(key)) for i in range(8)]
    assert len({turn.turn_id for turn in turns}) == requests() == 8
    for i, turn in enumerate(turns):
        assert gateway.ask(f"{user}-{i}", say("tokens=1"), **by_body(key)).turn_id == turn.turn_id


def test_without_a_key_every_question_is_new(gateway, user, requests):
    assert len({gateway.ask(user, say("tokens=1")).turn_id for _ in range(4)}) == requests() == 4


# ---------------------------------------------------------------- limits


def test_repeats_are_no_turns_of_their_own(start, user, key):
    gateway = start({"threads": 4, "chat.turns_per_user_max": 1})
    turn = gateway.open(user, say("stall_after=2"), **by_body(key))
    again = [gateway.open(user, say("stall_after=2"), **by_body(key)) for _ in range(12)]
    assert {stream.turn_id for stream in again} == {turn.turn_id}
    assert gateway.open(user, "another").status == 429
    assert gateway.metric("sluice_turns_active") == 1
    assert gateway.metric("sluice_turns_repeated_total") == 12
    gateway.stop_turn(user, turn.turn_id)
    for stream in (turn, *again):
        assert stream.finish().last["finish_reason"] == "stopped"


def test_a_refusal_does_not_keep_the_key(start, user):
    """Nor do fifty refusals at once, of which some wait for what becomes of another."""
    gateway = start({"threads": 4, "chat.turns_per_user_max": 1})
    for i in range(4):
        running = gateway.open(user, say("stall_after=1", f"{i}"))
        message, given = say("tokens=2", f"keyed {i}"), by_body(f"key-{i}")
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            refused = list(pool.map(lambda _: gateway.open(user, message, **given).status, range(50)))
        assert set(refused) <= {429, 503} and 429 in refused
        gateway.stop_turn(user, running.turn_id)
        running.finish()
        assert gateway.ask(user, message, **given).text == answer(2)
        assert gateway.open(user, "another", **given).status == 422


def test_keys_while_the_server_stops(start, user):
    """What is under way is answered or refused; nothing hangs, nothing is left (the fixture looks)."""
    gateway = start({"threads": 4, "chat.resume_window_s": 1})
    statuses, going = [], threading.Event()

    def repeat(number):
        name = f"{user}-{number % 3}"  # four of each ask the same
        for i in itertools.count():
            try:
                stream = gateway.ask(name, say("tokens=2 gap=1", f"{i}"), **by_body(f"{i}"))
            except (OSError, Closed):
                return  # the server has gone
            assert stream.end != "clean" or stream.text == answer(2)
            statuses.append(stream.status)
            if len(statuses) > 200:
                going.set()

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        clients = [pool.submit(repeat, number) for number in range(12)]
        assert going.wait(20)
        gateway.stop()
        for client in clients:
            client.result()
    assert set(statuses) <= {200, 503}
