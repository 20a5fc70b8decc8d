"""Stopping a turn: its model is let go, what there is of the answer is kept, everybody who reads is told."""

import concurrent.futures
import uuid

import pytest
from harness.gateway import STREAM, TURNS
from harness.loops import loop_of
from harness.stub import answer, say
from harness.tokens import mint, new_user
from harness.wait import wait_until

SETTINGS = {"threads": 3}


@pytest.fixture(autouse=True)
def idle(stub):
    """The stub's figures are this test's alone."""
    stub.await_idle()


def stop(gateway, user, turn_id, connection=None):
    response = gateway.stop_turn(user, turn_id, connection=connection)
    assert response.status == 202, response
    return response


def problem(response):
    body = response.json()
    del body["request_id"]
    return body


PHASES = {
    "before the model answers": ("delay=60000 tokens=9", 0),
    "before the first token": ("first=60000 tokens=9", 0),
    "after the role": ("role_then=60000 tokens=9", 0),
    "in the silence after some tokens": ("stall_after=4 tokens=9", 4),
    "while tokens come": ("tokens=100000 gap=1", 20),
}


@pytest.mark.parametrize("phase", PHASES)
def test_from_any_loop_in_any_phase(gateway, loops, stub, database, phase):
    directive, tokens = PHASES[phase]
    ways = set()
    for loop in range(loops.count):
        user, aborted = new_user(), stub.stats()["aborted_by_client"]
        stream = gateway.open(user, say(directive), connection=loops.take(0))
        ways.add(loop_of(stream.turn_id) == loop)
        while len(stream.of("token")) < tokens:
            stream.next_event()
        stub.await_active()
        with loops.borrow(loop) as connection:
            stop(gateway, user, stream.turn_id, connection)
            stop(gateway, user, stream.turn_id, connection)
        done = stream.finish().last
        stream.close()
        assert done["type"] == "done" and done["finish_reason"] == "stopped"
        assert answer(100000).startswith(stream.text) and len(stream.of("token")) >= tokens
        wait_until(lambda: stub.stats()["aborted_by_client"] == aborted + 1, what="the model's stream is closed")
        question, reply = database.await_messages(user, 2)
        assert question["status"] == "complete"
        assert (reply["status"], reply["content"], reply["finish_reason"]) == ("stopped", stream.text, "stopped")
        assert reply["id"] == done["message_id"]
        line = gateway.turn_line(stream.turn_id)
        assert (line["status"], line["error"], line["term"][0], line["saved"]) == ("stopped", "stopped", "C", True)
    assert ways == {True, False}


def test_everybody_who_reads_is_told(gateway, loops, user):
    stream = gateway.open(user, say("stall_after=3 tokens=9"))
    stream.until_text(answer(3))
    followers = [gateway.follow(user, stream.turn_id, connection=loops.take(i % loops.count)) for i in range(9)]
    stop(gateway, user, stream.turn_id)
    stream.finish()
    for follower in followers:
        assert follower.finish().events == stream.events and follower.end == "clean"
        follower.close()


def test_after_the_end_nothing_changes(gateway, loops, user, database):
    turn = gateway.ask(user, say("tokens=3"))
    for loop in range(loops.count):
        with loops.borrow(loop) as connection:
            stop(gateway, user, turn.turn_id, connection)
    assert gateway.follow(user, turn.turn_id).finish().events == turn.events
    assert database.await_messages(user, 2)[1]["status"] == "complete"
    assert gateway.turn_line(turn.turn_id)["status"] == "complete"


def test_all_at_once_from_all_loops(gateway, loops, user, database):
    """Sixty stops meet the turn, the first in its first moments."""
    for i in range(5):
        name = f"{user}-{i}"
        stream = gateway.open(name, say("tokens=200 gap=1"))
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            for response in pool.map(lambda _: gateway.stop_turn(name, stream.turn_id), range(12)):
                assert response.status == 202
        assert stream.finish().last["finish_reason"] == "stopped"
        assert database.await_messages(name, 2)[1]["content"] == stream.text
        stream.close()


@pytest.mark.parametrize("directive, partial", [("first=60000", ""), ("stall_after=4 tokens=9", answer(4))])
def test_who_does_not_stream_gets_the_part(gateway, loops, user, stub, database, directive, partial):
    headers = {"Authorization": f"Bearer {mint(user)}"}
    for loop in range(loops.count):
        body = {"message": say(directive, f"{loop}"), "stream": False, "client_message_id": f"key-{loop}"}
        with loops.borrow(loop) as connection:
            connection.request("POST", STREAM, headers=headers, body=body)
            # its head comes with the end: a repeat, which streams, tells the turn's id
            shown = gateway.open(user, body["message"], client_message_id=f"key-{loop}")
            shown.until_text(partial)
            stub.await_active()
            stop(gateway, user, shown.turn_id)
            reply = connection.read_response()
        assert reply.status == 200 and reply.headers["x-turn-id"] == shown.turn_id
        assert reply.json()["content"] == partial and reply.json()["finish_reason"] == "stopped"
        assert shown.finish().last["message_id"] == reply.json()["message_id"]
        shown.close()
        stub.await_idle()
    assert {row["status"] for row in database.await_messages(user, 2 * loops.count) if row["role"] == "assistant"} == {
        "stopped"
    }


def test_only_ones_own_turns_can_be_stopped(gateway, loops, user):
    """Another user's turn, running or over, none, and what is no id: the same 404, and the turn goes on."""
    running, over = gateway.open(user, say("stall_after=1 tokens=9")), gateway.ask(user, say("tokens=1"))
    running.until("token")
    ids = [running.turn_id, over.turn_id, "x", running.turn_id + "0"]
    ids += [f"{str(uuid.uuid4())[:-2]}{loop:02x}" for loop in (*range(loops.count), 255)]
    refusals = []
    for loop in range(loops.count):
        with loops.borrow(loop) as connection:
            for id_ in ids:
                refused = gateway.stop_turn(new_user(), id_, connection=connection)
                assert refused.status == 404, id_
                refusals.append(problem(refused))
    assert all(refusal == refusals[0] for refusal in refusals)
    assert gateway.call("POST", f"{TURNS}/{running.turn_id}/stop").status == 401
    assert gateway.call("GET", f"{TURNS}/{running.turn_id}/stop", user=user).status == 405
    # the turn still runs: its own user can stop it, and is the one who does
    assert not gateway.events("turn", turn_id=running.turn_id)
    stop(gateway, user, running.turn_id)
    assert running.finish().last["finish_reason"] == "stopped"


def test_a_turn_that_has_gone_cannot_be_stopped(start, user):
    gateway = start({"threads": 2, "chat.resume_window_s": 0})
    for _ in range(6):
        turn = gateway.ask(user, say("tokens=1"))
        assert gateway.stop_turn(user, turn.turn_id).status == 410


def test_the_conversation_goes_on(gateway, loops, user, stub, redis):
    """The partial answer is in the next prompt, from the cache and from Postgres."""
    stream = gateway.open(user, say("stall_after=3 tokens=9", "one"))
    stream.until_text(answer(3))
    stop(gateway, user, stream.turn_id)
    stream.finish()
    for question in ("from the cache", "from Postgres"):
        gateway.ask(user, say("tokens=1", question), session_id=stream.session_id)
        contents = [message["content"] for message in stub.last()["messages"]]
        assert contents[1:3] == [say("stall_after=3 tokens=9", "one"), answer(3)]
        keys = redis.client().keys(f"sl:{{{user}}}*")
        assert keys and redis.client().delete(*keys)


def test_a_stop_makes_room_for_the_next_turn(start, user):
    gateway = start({"threads": 2, "chat.turns_per_user_max": 1})
    for _ in range(4):
        stream = gateway.open(user, say("stall_after=1 tokens=9"))
        stream.until("token")
        assert gateway.open(user, "hello").status == 429
        stop(gateway, user, stream.turn_id)
        stream.finish()  # then at once, as its user may take the last event for the end
