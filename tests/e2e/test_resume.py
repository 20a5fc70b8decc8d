"""A stream that was cut is read on: the same events, without a gap, without one twice, without a second model call."""

import concurrent.futures
import signal
import uuid

import pytest
from harness.gateway import STREAM, TURNS
from harness.http import Connection
from harness.loops import loop_of
from harness.proxies import Nginx, ask, get
from harness.scene import journal_dir, scene  # noqa: F401 (fixtures)
from harness.stub import answer, say
from harness.tokens import new_user
from harness.wait import wait_until

SETTINGS = {"threads": 3, "chat.disconnect_grace_s": 1}
SSE = {"Accept": "text/event-stream"}
FIFTY = say("tokens=50 gap=2")
EVENTS = 53  # session_id, accepted, the tokens, done


@pytest.fixture(scope="module")
def nginx(gateway):
    proxy = Nginx(gateway.address).start()
    yield proxy
    proxy.stop()


def in_parallel(function, arguments, threads=16):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, arguments))


def read(stream, count):
    """The first `count` events."""
    while len(stream.events) < count:
        assert stream.next_event() is not None, stream.events
    return list(stream.events)


def the_rest(stream):
    """Its events, to a clean end."""
    assert stream.finish().end == "clean", stream.response
    return stream.events


def problem(stream):
    """What a refusal says, apart from whom it says it to."""
    body = (stream.response if hasattr(stream, "response") else stream).json()
    del body["request_id"]
    return body


# ---------------------------------------------------------------- at every event


@pytest.mark.parametrize("mode", ["continue", "cancel"])
@pytest.mark.parametrize("front", ["directly", "nginx"])
def test_cut_at_every_event(gateway, loops, nginx, stub, front, mode):
    """And read on by three at once: GET with `after`, GET with Last-Event-ID, the POST sent again with it.

    Now alone, now in the company of others who follow the turn from that loop: what these have been told
    may be less than what the first one has read. Through nginx this is HTTP/1.1 over TLS; HTTP/2 is the
    next test.
    """
    requests = stub.stats()["requests"] - loops.probes
    ways = set()

    def connect(loop):
        if front == "nginx":
            return Connection(nginx.address, certificate=nginx.certificate)
        return loops.take(loop)

    def cut_after(count):
        user, loop = new_user(), count % loops.count
        first = gateway.open(user, FIFTY, on_disconnect=mode, connection=connect(0))
        turn_id = first.turn_id
        company = [gateway.follow(user, turn_id, connection=connect(loop)) for _ in range(count // 2 % 2)]
        before = read(first, count)
        first.close()
        last = f"{turn_id}.{count}"
        streams = [
            gateway.follow(user, turn_id, after=count, connection=connect(loop)),
            gateway.follow(user, turn_id, last_event_id=last, headers=SSE, connection=connect(loop)),
            gateway.repeat(user, FIFTY, last, on_disconnect=mode, connection=connect(loop)),
        ]
        ways.add(loop == loop_of(turn_id))
        for stream in (*streams, *company):
            if count == EVENTS and stream not in company:
                assert stream.status == 204
            elif stream in company:
                assert [event["seq"] for event in the_rest(stream)] == list(range(1, EVENTS + 1))
            else:
                assert stream.turn_id == turn_id and stream.session_id == first.session_id
                events = before + the_rest(stream)
                assert [event["seq"] for event in events] == list(range(1, EVENTS + 1))
                assert "".join(event["content"] for event in events if event["type"] == "token") == answer(50)
                assert events[-1]["type"] == "done" and events[-1]["finish_reason"] == "stop"
            stream.close()

    in_parallel(cut_after, range(EVENTS + 1))
    assert stub.stats()["requests"] - loops.probes - requests == EVENTS + 1
    assert ways == {True, False}


def test_over_http2(gateway, nginx, user):
    """By real curl through nginx; as an EventSource does, and as one that repeats its POST."""
    turn_id = gateway.ask(user, say("tokens=3")).turn_id
    path = f"{TURNS}/{turn_id}/stream"
    whole = nginx.fetch(get(path, "-H", "Accept: text/event-stream", user=user))
    assert whole.version == "2" and [event["seq"] for _, event in whole.events] == [1, 2, 3, 4, 5, 6]
    for count, (last, _) in enumerate(whole.events[:-1], 1):
        header = ["-H", f"Last-Event-ID: {last}", "-H", "Accept: text/event-stream"]
        for request in (get(path, *header, user=user), ask(user, say("tokens=3"), *header)):
            assert nginx.fetch(request).events == whole.events[count:]


# ---------------------------------------------------------------- while it runs


def test_many_followers_of_one_turn(gateway, loops, user, stub):
    """They come one by one as it goes on, to every loop."""
    requests = stub.stats()["requests"] - loops.probes
    first = gateway.open(user, say("tokens=60 gap=5"))
    followers = []
    for i in range(12):
        read(first, 3 + 4 * i)
        after = first.events[-1]["seq"] if i % 2 else None
        followers.append(gateway.follow(user, first.turn_id, after=after, connection=loops.take(i % loops.count)))
    events = the_rest(first)
    for follower in followers:
        assert the_rest(follower) == events[follower.after :]
        follower.close()
    assert stub.stats()["requests"] - loops.probes == requests + 1


def test_the_head_comes_before_the_first_token(gateway, loops, user, stub):
    stream = gateway.open(user, say("delay=60000"))
    stream.until("accepted")
    for loop in range(loops.count):
        whole = gateway.follow(user, stream.turn_id, connection=loops.take(loop))
        assert [event["type"] for event in read(whole, 2)] == ["session_id", "accepted"]
        rest = gateway.follow(user, stream.turn_id, after=2, connection=loops.take(loop))
        assert rest.status == 200 and rest.turn_id == stream.turn_id
        for follower in (whole, rest):
            follower.close()
    assert gateway.stop_turn(user, stream.turn_id).status == 202
    stream.finish()


def test_a_cursor_from_beyond_the_end_follows(gateway, loops, user):
    stream = gateway.open(user, say("stall_after=2 tokens=9"))
    stream.until_text(answer(2))
    followers = [
        gateway.follow(user, stream.turn_id, after=4000000000, connection=loops.take(loop))
        for loop in range(loops.count)
    ]
    gateway.stop_turn(user, stream.turn_id)
    done = stream.finish().last
    for follower in followers:
        follower.after = done["seq"] - 1
        assert the_rest(follower) == [done]
        follower.close()


def test_coming_back_within_the_grace_keeps_the_turn(gateway, loops, user, database):
    """One comes back on its turn's loop, one on another; the answers last more than twice the grace."""
    ways = set()

    def come_back(loop):
        name = f"{user}-{loop}"
        stream = gateway.open(name, say("tokens=40 gap=70"), connection=loops.take(0))
        read(stream, 4)
        stream.close()
        ways.add(loop == loop_of(stream.turn_id))
        follower = gateway.follow(name, stream.turn_id, after=4, connection=loops.take(loop))
        assert the_rest(follower)[-1]["finish_reason"] == "stop"
        follower.close()
        assert database.await_messages(name, 2)[1]["status"] == "complete"

    in_parallel(come_back, range(loops.count))
    assert ways == {True, False}


# ---------------------------------------------------------------- after the end


def test_after_the_end(gateway, loops, user):
    turn = gateway.ask(user, say("tokens=8", "over"))
    for loop in range(loops.count):
        with loops.borrow(loop) as connection:
            for after in (None, 0, 1, 5, len(turn.events) - 1):
                follower = gateway.follow(user, turn.turn_id, after=after, connection=connection)
                assert the_rest(follower) == turn.events[follower.after :]
            for after in (len(turn.events), len(turn.events) + 1):
                over = gateway.follow(user, turn.turn_id, after=after, connection=connection)
                assert over.status == 204 and "content-length" not in over.response.headers
            last = f"{turn.turn_id}.{len(turn.events)}"
            assert gateway.repeat(user, say("tokens=8", "over"), last, connection=connection).status == 204


def test_ids_for_those_who_ask(gateway, loops, user):
    """The id of the last event that was read is what goes on from there, in every way."""
    turn = gateway.ask(user, say("tokens=3"), headers=SSE)
    for loop in range(loops.count):
        for event in turn.events[:-1]:
            assert event.id == f"{turn.turn_id}.{event['seq']}"
            for headers in ({}, SSE, {"Accept": "text/html, text/event-stream;q=0.5"}):
                with loops.borrow(loop) as connection:  # Stream.check knows which of them have ids
                    options = {"headers": headers, "connection": connection}
                    follower = gateway.follow(user, turn.turn_id, last_event_id=event.id, **options)
                    assert the_rest(follower) == turn.events[event["seq"] :]
                    again = gateway.repeat(user, say("tokens=3"), event.id, **options)
                    assert the_rest(again) == turn.events[event["seq"] :]


def test_the_header_is_newer_than_the_query(gateway, user):
    """An EventSource repeats its URL and adds what it has read last."""
    turn = gateway.ask(user, say("tokens=3"))
    last = f"{turn.turn_id}.4"
    assert the_rest(gateway.follow(user, turn.turn_id, after=1, last_event_id=last)) == turn.events[4:]


# ---------------------------------------------------------------- refusals


def test_only_ones_own_turns_exist(gateway, loops, user):
    """The same 404 for another user's turn, running or over, for none, and for what is no id."""
    running, over = gateway.open(user, say("first=60000")), gateway.ask(user, say("tokens=1"))
    ids = [running.turn_id, over.turn_id]
    ids += [f"{str(uuid.uuid4())[:-2]}{loop:02x}" for loop in (*range(loops.count), 255)]
    ids += ["x", "-", "%00", over.turn_id + "0", over.turn_id[:-1], "..", "0" * 4000]
    bodies = []
    for loop in range(loops.count):
        with loops.borrow(loop) as connection:
            for id_ in ids:
                stranger = gateway.follow(new_user(), id_, connection=connection)
                assert stranger.status == 404, id_
                bodies.append(problem(stranger))
            for id_ in ids[:-7]:
                stranger = gateway.repeat(new_user(), "hello", f"{id_}.1", connection=connection)
                assert stranger.status == 404, id_
                bodies.append(problem(stranger))
    assert all(body == bodies[0] for body in bodies)
    gateway.stop_turn(user, running.turn_id)
    assert running.finish().last["type"] == "done"


def test_cursors_that_are_none(gateway, user):
    turn = gateway.ask(user, say("tokens=1"))
    other = gateway.ask(user, say("tokens=1"))
    for after in ("", "x", "-1", "+1", "1.0", "4294967296", "99999999999", "1%20", "%31x"):
        refused = gateway.follow(user, turn.turn_id, after=after)
        assert (refused.status, problem(refused)["error"]["param"]) == (400, "after"), after
    spoilt = [turn.turn_id + tail for tail in ("", ".", ".x", ".-1", "-1", ".4294967296", ".1.1")]
    spoilt += ["x", "1", f".{turn.turn_id}.1", "x" * 5000]
    for last in [*spoilt, f"{other.turn_id}.1"]:
        refused = gateway.follow(user, turn.turn_id, last_event_id=last)
        assert (refused.status, problem(refused)["error"]["param"]) == (400, "Last-Event-ID"), last
    for last in spoilt:
        refused = gateway.repeat(user, "hello", last)
        assert (refused.status, problem(refused)["error"]["param"]) == (400, "Last-Event-ID"), last


# ---------------------------------------------------------------- when it has gone


def gone(gateway, user, turn_id, **options):
    """410 in every way; the connection is used three times."""
    streams = [
        gateway.follow(user, turn_id, **options),
        gateway.follow(user, turn_id, last_event_id=f"{turn_id}.1", **options),
        gateway.repeat(user, "hello", f"{turn_id}.1", **options),
    ]
    assert {stream.status for stream in streams} <= {200, 410}, streams[0].response
    return all(stream.status == 410 and problem(stream)["error"]["code"] == "gone" for stream in streams)


def test_after_the_window(start, user, database):
    gateway = start({"threads": 2, "chat.resume_window_s": 1})
    turns = [gateway.ask(user, say("tokens=3", f"question {i}")) for i in range(8)]
    for turn in turns:
        assert gateway.follow(user, turn.turn_id).finish().events == turn.events
    assert gateway.metric("sluice_turn_log_bytes") > 0
    wait_until(lambda: gateway.metric("sluice_turn_log_bytes") == 0, what="the logs have gone")
    for turn in turns:
        assert gone(gateway, user, turn.turn_id)
        assert gateway.follow(new_user(), turn.turn_id).status == 404, "to others it never was"
        messages = gateway.call("GET", f"/api/v1/chat/sessions/{turn.session_id}/messages", user=user).json()
        assert messages["messages"][0]["content"] == answer(3)


def test_a_reader_of_a_kept_turn_outlives_the_window(start, user):
    """What it is being sent is not taken away from under it."""
    gateway = start({"threads": 2, "chat.resume_window_s": 1, "http.write_timeout_ms": 60000})
    big = gateway.ask(user, say("long=1000000"))
    followers = [
        gateway.follow(user, big.turn_id, connection=gateway.connect(receive_buffer=4096)) for _ in range(6)
    ]
    later = gateway.ask(user, say("tokens=1"))
    wait_until(lambda: gone(gateway, user, later.turn_id), what="the window is over")
    for follower in followers:
        assert the_rest(follower) == big.events
        follower.close()
    wait_until(lambda: gateway.metric("sluice_turn_log_bytes") == 0, what="the logs have gone")


def test_without_a_window(start, user):
    gateway = start({"threads": 2, "chat.resume_window_s": 0})
    for _ in range(6):
        assert gone(gateway, user, gateway.ask(user, say("tokens=1")).turn_id)
    assert gateway.metric("sluice_turn_log_bytes") == 0


def test_the_oldest_go_first(start, user):
    gateway = start({"threads": 1, "chat.resume_bytes_max": 100000})
    turns = [gateway.ask(user, say("long=20000")) for _ in range(12)]
    are_gone = [gone(gateway, user, turn.turn_id) for turn in turns]
    assert are_gone == sorted(are_gone, reverse=True) and are_gone[0] and not are_gone[-1]
    kept = [turn for turn, is_gone in zip(turns, are_gone) if not is_gone]
    assert len(kept) > 1, "there is room for more than one"
    for turn in kept:
        assert the_rest(gateway.follow(user, turn.turn_id)) == turn.events
    assert gateway.metric("sluice_turn_log_bytes") <= 100000


def test_a_reload_changes_what_is_kept(start, user, tmp_path):
    config = tmp_path / "sluice.yaml"
    config.write_text("chat: {resume_bytes_max: 33554432}\n")
    gateway = start({"threads": 2}, arguments=["--config", str(config)])
    assert not gone(gateway, user, gateway.ask(user, say("tokens=1")).turn_id)
    config.write_text("chat: {resume_bytes_max: 0}\n")
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gateway.events("reloaded"), what="the reload")


    def nothing_is_kept():
        turns = [gateway.ask(user, say("tokens=1")) for _ in range(8)]  # on either loop
        return all([gone(gateway, user, turn.turn_id) for turn in turns])

    wait_until(nothing_is_kept)


# ---------------------------------------------------------------- after a crash


def test_after_a_crash(scene, user):
    """410 from the first moment on: the journal knows the turn while Postgres does not."""
    gateway = scene.start()
    with scene.database.lock("lock table chat_messages in access exclusive mode"):
        over = gateway.ask(user, say("tokens=3", "over"))
        running = gateway.open(user, say("stall_after=2", "running"))
        running.until("token")
        scene.kill()
        gateway = scene.start(connected=False)
        for turn in (over, running) * 4:
            assert gone(gateway, user, turn.turn_id)
            assert gateway.follow(new_user(), over.turn_id, headers={"X-Request-Id": "x"}).status in (404, 503)
    scene.drain()
    for turn in (over, running):
        assert gone(gateway, user, turn.turn_id), "and Postgres knows it afterwards"
    assert gateway.call("POST", STREAM, {"message": say("tokens=1")}, user=user).status == 200
