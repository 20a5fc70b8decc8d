"""A turn that goes well: what is on the wire, byte for byte."""

import json
import uuid

import pytest
from harness.gateway import STREAM
from harness.sse import Stream
from harness.stub import answer, say
from harness.tokens import mint
from harness.wait import wait_until

SETTINGS = {
    "upstream.models": "second-model",
    "upstream.temperature_max": "1.5",
    "upstream.max_tokens_max": 500,
    "chat.heartbeat_s": 1,
    "http.cors_origins": "https://app.example",
}
SSE = {"Accept": "text/event-stream"}


def test_the_events_of_a_turn_in_order(gateway, user):
    turn = gateway.ask(user, say("tokens=5"))
    assert turn.end == "clean"
    assert turn.types[0] == "session_id" and turn.types[-1] == "done"
    assert sorted(turn.types) == ["accepted", "done", "session_id"] + ["token"] * 5
    assert turn.text == answer(5)
    assert turn.warnings == []


def test_the_bytes_are_framed_as_promised(gateway, user):
    turn = gateway.ask(user, say("tokens=3"))
    blocks = turn.raw.split(b"\n\n")
    assert blocks.pop() == b""
    assert b"\r" not in turn.raw
    for number, block in enumerate(blocks, 1):
        event = json.loads(block.removeprefix(b"data: "))
        prefix = f'data: {{"type":"{event["type"]}","seq":{number},'
        assert block.startswith(prefix.encode()), block
    # The first bytes of all are the session, with nothing before them: naive readers rely on it.
    session, turn_id = turn.events[0]["session_id"], turn.events[0]["turn_id"]
    first = f'data: {{"type":"session_id","seq":1,"session_id":"{session}","turn_id":"{turn_id}"}}'
    assert blocks[0] == first.encode()


def test_the_keys_of_each_event(gateway, user):
    turn = gateway.ask(user, say("tokens=2"))
    session, accepted, done = turn.events[0], turn.of("accepted")[0], turn.last
    assert set(session) == {"type", "seq", "session_id", "turn_id"}
    assert set(accepted) == {"type", "seq", "message_id"}
    assert all(set(token) == {"type", "seq", "content"} for token in turn.of("token"))
    assert set(done) == {"type", "seq", "message_id", "finish_reason", "usage", "timings"}
    assert done["finish_reason"] == "stop"
    assert done["usage"]["completion_tokens"] == 2 and done["usage"]["prompt_tokens"] > 0
    assert uuid.UUID(session["session_id"]).version == 7
    assert len({session["turn_id"], accepted["message_id"], done["message_id"]}) == 3


def test_timings_are_plausible(gateway, user):
    timings = gateway.ask(user, say("first=80 tokens=3 gap=20"), session_id=str(uuid.uuid4())).last["timings"]
    for name in ("context_ms", "profile_ms", "history_ms", "upstream_first_byte_ms", "ttft_ms", "saved_ms", "total_ms"):
        assert timings[name] >= 0, name
    assert 80 <= timings["ttft_ms"] <= timings["total_ms"] - 40


def test_head_and_first_event_come_in_one_read_before_any_answer(gateway, user):
    with gateway.open(user, say("delay=300 tokens=1")) as stream:
        assert stream.next_event()["type"] == "session_id"
        first = stream.connection.reads[0][1]
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert stream.events[0].raw in first
        stream.finish()
    assert stream.of("token")[0].at - stream.connection.reads[0][0] > 0.2


def test_each_token_comes_when_the_model_says_it(gateway, user):
    turn = gateway.ask(user, say("tokens=4 gap=150"))
    times = [event.at for event in turn.of("token")]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert all(gap > 0.07 for gap in gaps), gaps


def test_response_headers(gateway, user):
    turn = gateway.ask(user, say("tokens=1"), headers={"Origin": "https://app.example"})
    headers = turn.response.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-session-id"] == turn.session_id
    assert headers["x-turn-id"] == turn.turn_id
    assert headers["x-request-id"]
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert "content-length" not in headers and "content-encoding" not in headers


def test_a_stream_is_never_compressed(gateway, user):
    turn = gateway.ask(user, say("long=5000"), headers={"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in turn.response.headers
    assert len(turn.text) == 5000


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html"])
def test_accept_never_chooses_the_form(gateway, user, accept):
    turn = gateway.ask(user, say("tokens=1"), headers={"Accept": accept})
    assert turn.response.headers["content-type"].startswith("text/event-stream")
    assert b"id:" not in turn.raw


def test_id_lines_for_clients_that_name_event_streams(gateway, user):
    turn = gateway.ask(user, say("tokens=3"), headers={"Accept": "text/html, text/event-stream;q=0.9"})
    assert turn.last["type"] == "done"  # Stream checks that every id is <turn_id>.<seq>
    assert turn.raw.startswith(f"id: {turn.turn_id}.1\ndata: ".encode())


def test_heartbeats_in_silence(gateway, user):
    turn = gateway.ask(user, say("delay=2300 tokens=1"))
    assert turn.heartbeats == 2
    assert turn.raw.count(b": hb\n\n") == 2
    assert turn.text == "tok0"


def test_heartbeats_where_ids_are_sent(gateway, user):
    turn = gateway.ask(user, say("delay=1300 tokens=1"), headers=SSE)
    assert turn.heartbeats == 1
    assert b": hb\n\n" not in turn.raw and b": hb\nid: " in turn.raw


def test_no_heartbeat_between_tokens_that_flow(gateway, user):
    turn = gateway.ask(user, say("tokens=8 gap=200"))
    assert turn.heartbeats == 0


def test_the_body_ends_at_once(gateway, user):
    with gateway.open(user, say("tokens=2")) as stream:
        done = stream.until("done")
        assert stream.next_event() is None and stream.end == "clean"
        assert stream.connection.reads[-1][0] - done.at < 0.05


def test_a_connection_serves_many_turns(gateway, user):
    with gateway.connect() as connection:
        for number in range(1, 4):
            turn = gateway.ask(user, say(f"tokens={number}"), connection=connection)
            assert turn.end == "clean" and turn.text == answer(number)
        connection.request("GET", "/healthz")
        assert connection.read_response().status == 200


def test_pipelined_requests_are_answered_in_order(gateway, user):
    with gateway.connect() as connection:
        headers = {"Authorization": f"Bearer {mint(user)}"}
        connection.request("POST", STREAM, headers=headers, body={"message": say("tokens=2")})
        connection.request("GET", "/healthz")
        assert Stream(connection).finish().text == answer(2)
        assert connection.read_response().status == 200


def test_the_route_without_prefix(gateway, user):
    turn = gateway.ask(user, say("tokens=2"), path="/chat/message/stream")
    assert turn.text == answer(2) and turn.last["type"] == "done"


def test_a_session_id_of_the_client_is_used(gateway, user):
    session = str(uuid.uuid4())
    assert gateway.ask(user, say("tokens=1"), session_id=session.upper()).session_id == session


@pytest.mark.parametrize("session", [None, "fresh"])
def test_keys_that_are_unknown_or_null_do_no_harm(gateway, user, session):
    body = {"session_id": None} if session is None else {"colour": {"deep": [1, 2]}}
    assert gateway.ask(user, say("tokens=1"), **body).last["type"] == "done"


def test_without_a_stream_one_json_object(gateway, user):
    body = {"message": say("tokens=3 reasoning=2"), "stream": False}
    response = gateway.call("POST", STREAM, body, user=user)
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    reply = response.json()
    assert reply["content"] == answer(3)
    assert reply["reasoning"] == "think0 think1"
    assert reply["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] == 5
    assert uuid.UUID(reply["session_id"]) and uuid.UUID(reply["turn_id"]) and uuid.UUID(reply["message_id"])
    assert reply["timings"]["total_ms"] > 0
    assert response.headers["x-session-id"] == reply["session_id"]


def test_without_a_stream_a_failure_is_an_http_failure(gateway, user):
    response = gateway.call("POST", STREAM, {"message": say("rst_after=2"), "stream": False}, user=user)
    assert response.status == 502
    assert response.json()["error"]["code"] == "upstream_truncated"


def test_what_the_model_is_asked(gateway, user, stub):
    gateway.ask(user, "  What is " + say("tokens=1") + "\n", model="second-model", temperature=0.25, max_tokens=77)
    asked = stub.last()
    assert asked["model"] == "second-model"
    assert asked["temperature"] == 0.25 and asked["max_tokens"] == 77
    assert asked["stream"] is True and asked["stream_options"] == {"include_usage": True}
    assert asked["messages"][-1] == {"role": "user", "content": "What is " + say("tokens=1")}
    head = stub.last_head().lower()
    assert "accept-encoding: gzip" not in head


@pytest.mark.parametrize(
    "given, sent",
    [({"temperature": 9}, {"temperature": 1.5}), ({"temperature": -3}, {"temperature": 0})]
    + [({"max_tokens": 10**9}, {"max_tokens": 500}), ({"max_tokens": 0}, {"max_tokens": 1})]
    + [({}, {"temperature": None, "max_tokens": None})],
)
def test_numbers_are_clamped(gateway, user, stub, given, sent):
    gateway.ask(user, say("tokens=1"), **given)
    asked = stub.last()
    assert {key: asked.get(key) for key in sent} == sent


def test_reasoning_is_told_apart(gateway, user):
    for key in ("reasoning_content", "reasoning"):
        turn = gateway.ask(user, say(f"reasoning=3 reasoning_key={key} tokens=2"))
        assert turn.joined("reasoning") == "think0 think1 think2"
        assert turn.text == answer(2)
        kinds = [type_ for type_ in turn.types if type_ in ("reasoning", "token")]
        assert kinds == ["reasoning"] * 3 + ["token"] * 2


def test_the_rows_of_a_turn(gateway, user, database):
    turn = gateway.ask(user, say("tokens=4 first=30"), model="second-model")
    question, reply = database.await_messages(user, 2)
    assert question["role"] == "user" and reply["role"] == "assistant"
    assert question["id"] == turn.of("accepted")[0]["message_id"]
    assert reply["id"] == turn.last["message_id"]
    assert {question["turn_id"], reply["turn_id"]} == {turn.turn_id}
    assert {question["session_id"], reply["session_id"]} == {turn.session_id}
    assert question["content"] == say("tokens=4 first=30")
    assert question["status"] == reply["status"] == "complete"
    assert question["model"] is None and question["ttft_ms"] is None
    assert reply["content"] == answer(4) == turn.text
    assert reply["model"] == "second-model"
    assert reply["finish_reason"] == "stop"
    assert reply["prompt_tokens"] == turn.last["usage"]["prompt_tokens"]
    assert reply["completion_tokens"] == 4
    assert 30 <= reply["ttft_ms"] < 5000
    (session,) = database.sessions(user)
    assert session["id"] == turn.session_id
    assert session["updated_at"] >= session["created_at"]


def test_reasoning_is_not_part_of_the_stored_answer(gateway, user, database):
    gateway.ask(user, say("reasoning=3 tokens=2"))
    assert database.await_messages(user, 2)[1]["content"] == answer(2)


def test_many_turns_at_once(gateway, user, database):
    streams = [gateway.open(f"{user}-{i}", say(f"tokens={i + 1} gap=2")) for i in range(40)]
    for i, stream in enumerate(streams):
        assert stream.finish().text == answer(i + 1)
        assert stream.last["type"] == "done"
        stream.close()
    for i in range(40):
        database.await_messages(f"{user}-{i}", 2)


def test_two_turns_of_one_session_at_once(gateway, user, database):
    session = str(uuid.uuid4())
    streams = [gateway.open(user, say("tokens=5 gap=20"), session_id=session) for _ in range(2)]
    for stream in streams:
        assert stream.finish().last["type"] == "done"
        stream.close()
    rows = database.await_messages(user, 4, session)
    assert len({row["turn_id"] for row in rows}) == 2


def test_text_on_one_line_whatever_is_in_it(gateway, user, database):
    message = 'tab\t quote" back\\slash \u2028 line\r\nend 😀 ' + say("echo")
    turn = gateway.ask(user, message)
    assert turn.text.endswith(message)
    assert "\u2028".encode() not in turn.raw
    question, reply = database.await_messages(user, 2)
    assert question["content"] == message and reply["content"] == turn.text


def test_the_turn_limit_of_one_user(start, user):
    gateway = start({"threads": 1, "chat.turns_per_user_max": 2})
    first = gateway.open(user, say("stall_after=1"))
    second = gateway.open(user, say("stall_after=1"))
    third = gateway.open(user, say("tokens=1"))
    assert third.status == 429
    assert third.response.json()["error"]["type"] == "rate_limit_error"
    assert int(third.response.headers["retry-after"]) >= 1
    assert gateway.ask(user + "-other", say("tokens=1")).last["type"] == "done"
    first.close(), second.close(), third.close()


def test_the_turn_limit_of_the_server(start, user):
    gateway = start({"chat.turns_max": 1, "chat.disconnect_grace_s": 0})
    with gateway.open(user, say("stall_after=1")) as running:
        running.until("token")
        refused = gateway.open(user, say("tokens=1"))
        assert refused.status == 503 and "retry-after" in refused.response.headers
        assert refused.response.json()["error"]["code"] == "overloaded"
    wait_until(lambda: gateway.ask(user, say("tokens=1")).status == 200, what="room again")
