"""A client that leaves: the model is told to stop, or the answer is finished without it."""

import time
import uuid

import pytest
from harness.gateway import STREAM, Gateway
from harness.loops import Loops, loop_of
from harness.stub import answer, say
from harness.tokens import mint
from harness.wait import wait_until

SETTINGS = {"chat.disconnect_grace_s": 1}


def leave(stream, how):
    """A stream or a connection."""
    connection = getattr(stream, "connection", stream)
    connection.reset() if how == "reset" else connection.close()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_model_is_stopped_after_the_grace(gateway, user, stub, database, how):
    aborted = stub.stats()["aborted_by_client"]
    stream = gateway.open(user, say("stall_after=2 tokens=9"))
    while stream.text != answer(2):
        stream.next_event()
    left = time.monotonic()
    leave(stream, how)
    wait_until(lambda: stub.stats()["aborted_by_client"] == aborted + 1, 15, "the model's stream is closed")
    assert time.monotonic() - left > 0.8, "not before the grace is over"
    reply = database.await_messages(user, 2)[1]
    assert reply["status"] == "cancelled" and reply["content"] == answer(2)


def test_an_answer_that_ends_within_the_grace_is_whole(gateway, user, database):
    stream = gateway.open(user, say("tokens=5 gap=40"))
    stream.until("token")
    stream.close()
    reply = database.await_messages(user, 2)[1]
    assert reply["status"] == "complete" and reply["content"] == answer(5)


@pytest.mark.parametrize("directive", ["delay=60000", "first=60000"])
def test_a_client_that_leaves_before_the_first_token(gateway, user, stub, database, directive):
    stub.await_idle()
    stream = gateway.open(user, say(directive))
    stream.next_event()
    if directive.startswith("first"):
        stub.await_active()
    stream.close()
    reply = database.await_messages(user, 2, timeout=15)[1]
    assert reply["status"] == "cancelled" and reply["content"] == ""
    assert reply["ttft_ms"] is None
    stub.await_idle()


def test_on_disconnect_continue(gateway, user, stub, database):
    stream = gateway.open(user, say("tokens=30 gap=80"), on_disconnect="continue")
    stream.until("token")
    stream.close()  # the answer goes on for more than twice the grace
    reply = database.await_messages(user, 2, timeout=20)[1]
    assert reply["status"] == "complete" and reply["content"] == answer(30)
    assert reply["finish_reason"] == "stop"


def test_a_client_that_does_not_stream_leaves_too(gateway, user, stub, database):
    connection = gateway.connect()
    headers = {"Authorization": f"Bearer {mint(user)}"}
    body = {"message": say("stall_after=2 tokens=9"), "stream": False}
    connection.request("POST", STREAM, headers=headers, body=body)
    stub.await_active()
    connection.close()
    assert database.await_messages(user, 2, timeout=15)[1]["status"] == "cancelled"
    stub.await_idle()


def test_the_conversation_goes_on_after_a_cancelled_turn(gateway, user, stub, database):
    session = str(uuid.uuid4())
    stream = gateway.open(user, say("stall_after=2 tokens=9", "one"), session_id=session)
    while stream.text != answer(2):
        stream.next_event()
    stream.close()
    database.await_messages(user, 2)
    gateway.ask(user, say("tokens=1", "two"), session_id=session)
    contents = [message["content"] for message in stub.last()["messages"]]
    assert contents[1:3] == [say("stall_after=2 tokens=9", "one"), answer(2)]


def test_the_log_names_the_client(gateway, user):
    stream = gateway.open(user, say("stall_after=1"))
    stream.until("token")
    stream.close()
    line = gateway.turn_line(stream.turn_id)
    assert line["term"] == "CS" and line["status"] == "cancelled"


def test_a_hundred_that_leave_at_all_moments(start, user, stub, database):
    gateway = start({"chat.disconnect_grace_s": 0})
    for i in range(100):
        stream = gateway.open(f"{user}-{i}", say("tokens=6 gap=4"))
        for _ in range(i % 8):
            if stream.next_event() is None:
                break
        leave(stream, "reset" if i % 2 else "close")
    wait_until(lambda: gateway.metric("sluice_turns_active") == 0, 20, "all turns are over")
    wait_until(lambda: gateway.connections() == 0, what="all connections are gone")
    stub.await_idle()
    for i in range(100):
        rows = database.await_messages(f"{user}-{i}", 2)
        assert rows[1]["status"] in ("complete", "cancelled")
        assert answer(6).startswith(rows[1]["content"])


# ---------------------------------------------------------------- at once, without a grace


@pytest.fixture(scope="module")
def strict(settings):
    """A gateway that gives no grace, and so shows when it noticed; heartbeats do not help it."""
    server = Gateway({**settings, "threads": 3, "chat.disconnect_grace_s": 0, "chat.heartbeat_s": 3600})
    server.await_stores()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def strict_loops(strict):
    pool = Loops(strict, each=4)
    yield pool
    pool.close()


def assert_stopped_within_a_second(stub, aborted, streams, how):
    began = time.monotonic()
    for stream in streams:
        leave(stream, how)
    wait_until(lambda: stub.stats()["aborted_by_client"] == aborted + 1, 5, "the model's stream is closed")
    assert time.monotonic() - began < 1


SILENCES = ["delay=60000", "first=60000", "stall_after=2 tokens=9"]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("silence", SILENCES)
def test_a_departure_is_noticed_at_once(strict, strict_loops, user, stub, silence, how):
    """While nothing is written: by the one who asked, and by a follower, on the turn's loop and on others."""
    stub.await_idle()
    for loop in (None, *range(3)):
        aborted, active = stub.stats()["aborted_by_client"], stub.stats()["active_streams"]
        stream = strict.open(user, say(silence), connection=strict_loops.take(0))
        assert loop_of(stream.turn_id) == 0
        stream.until_text(answer(2) if "stall" in silence else "")
        stub.await_active(active + 1)
        streams = [stream]
        if loop is not None:
            follower = strict.follow(user, stream.turn_id, connection=strict_loops.take(loop))
            follower.until("session_id")
            leave(stream, how)
            wait_until(lambda: strict.connections() == strict_loops.idle() + 1, what="the first one has left")
            assert stub.stats()["aborted_by_client"] == aborted, "somebody still reads"
            streams = [follower]
        assert_stopped_within_a_second(stub, aborted, streams, how)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_departure_of_who_does_not_stream(strict, strict_loops, user, stub, how):
    for loop in range(3):
        aborted, active = stub.stats()["aborted_by_client"], stub.stats()["active_streams"]
        repeated = strict.metric("sluice_turns_repeated_total")
        asker, repeater = strict.connect(), strict_loops.take(loop)
        for connection in (asker, repeater):  # the second one attaches to the turn of the first
            headers = {"Authorization": f"Bearer {mint(user)}", "Idempotency-Key": f"key-{loop}"}
            connection.request("POST", STREAM, headers=headers, body={"message": say("first=60000"), "stream": False})
            stub.await_active(active + 1)
        wait_until(lambda: strict.metric("sluice_turns_repeated_total") == repeated + 1, what="both are there")
        leave(asker, how)
        wait_until(lambda: strict.connections() == strict_loops.idle() + 1, what="the first one has left")
        assert stub.stats()["aborted_by_client"] == aborted, "somebody still waits"
        assert_stopped_within_a_second(stub, aborted, [repeater], how)
