"""More than the server takes, and readers that do not read: refused early and cheaply, and bounded."""

import concurrent.futures
import threading
import time

import pytest
from harness.gateway import STREAM
from harness.http import Closed
from harness.loops import Loops, loop_of
from harness.stub import answer, say
from harness.tokens import mint, new_user
from harness.wait import wait_until

STUCK = say("stall_after=1 tokens=9")
SLOW = {"options": {"receive_buffer": 4096}}  # of the client's socket; the server's holds megabytes


@pytest.fixture(autouse=True)
def idle(stub):
    """The stub's figures are this test's alone."""
    stub.await_idle()
    stub.reset()


def refusal(stream, status, code):
    assert stream.status == status, stream.response
    assert int(stream.response.headers["retry-after"]) >= 1
    assert stream.response.json()["error"]["code"] == code
    stream.close()


def stop_all(gateway, streams):
    """`streams`: {user: its stream}"""
    for user, stream in streams.items():
        gateway.stop_turn(user, stream.turn_id)
        stream.finish().close()


def memory_peak(gateway):
    """Bytes; what the kernel calls the high-water mark of the resident set."""
    with open(f"/proc/{gateway.process.pid}/status", encoding="ascii") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


# ---------------------------------------------------------------- so many turns


def test_turns_max_holds_for_all_threads_together(start, user, stub):
    """Sixty ask at the same moment, on four threads; thrice, as a race is won by chance."""
    gateway = start({"threads": 4, "chat.turns_max": 5})
    for _ in range(3):
        gate = threading.Barrier(60)
        connections = [gateway.connect() for _ in range(60)]

        def ask(i):
            gate.wait()
            return gateway.open(f"{user}-{i}", STUCK, connection=connections[i])

        with concurrent.futures.ThreadPoolExecutor(60) as pool:
            streams = list(pool.map(ask, range(60)))
        running = {f"{user}-{i}": stream for i, stream in enumerate(streams) if stream.status == 200}
        assert len(running) == 5
        for stream in streams:
            if stream.status != 200:
                refusal(stream, 503, "overloaded")
        stop_all(gateway, running)
    assert stub.stats()["max_active_streams"] <= 5
    assert gateway.ask(user, say("tokens=2")).text == answer(2)


def test_turns_per_user_max_holds_for_all_threads_together(start, user):
    gateway = start({"threads": 4, "chat.turns_per_user_max": 5})
    loops = Loops(gateway, each=3)
    running = [gateway.open(user, STUCK, connection=loops.take(i % 4)) for i in range(5)]
    assert {loop_of(stream.turn_id) for stream in running} == {0, 1, 2, 3}
    for loop in range(4):
        refusal(gateway.open(user, "hello", connection=loops.take(loop)), 429, "rate_limit_exceeded")
        assert gateway.ask(new_user(), say("tokens=1")).text == "tok0", "others are not refused"
    stop_all(gateway, {user: running.pop()})
    running.append(gateway.open(user, STUCK))
    refusal(gateway.open(user, "hello"), 429, "rate_limit_exceeded")
    for stream in running:
        stop_all(gateway, {user: stream})
    loops.close()


@pytest.mark.parametrize("limit", ["chat.turns_max", "chat.turns_per_user_max"])
def test_a_refusal_costs_nothing(start, user, stub, own_database, own_postgres, limit):
    """Neither Redis nor Postgres nor the model hears of it, and it takes the time of a round trip.

    The time is the best of many: the machine is shared, and the sanitizers take their share.
    """
    gateway = start({limit: 1, "database.url": own_database.url})
    running = gateway.open(user, STUCK)
    running.until("token")

    def figures():
        metrics = gateway.metrics()
        names = ("sluice_redis_commands_total", "sluice_database_reads_total", "sluice_journal_records_total")
        return [value for (name, _), value in metrics.items() if name in names]

    def is_quiet():
        before = figures()
        return gateway.metric("sluice_journal_uncommitted_records") == 0 and figures() == before

    wait_until(is_quiet, what="nothing is under way any more")
    before, requests, mark = figures(), stub.stats()["requests"], own_postgres.log_mark()
    times = []
    for _ in range(20):  # of all loops
        with gateway.connect() as connection:
            for _ in range(10):
                began = time.monotonic()
                stream = gateway.open(user, "hello", session_id=running.session_id, connection=connection)
                times.append(time.monotonic() - began)
                assert stream.status in (429, 503)
    assert min(times) < 0.005, min(times)
    assert figures() == before and stub.stats()["requests"] == requests
    assert own_postgres.statements_since(mark, own_database.url.rpartition("/")[2]) == []
    stop_all(gateway, {user: running})


# ---------------------------------------------------------------- so much memory


def test_log_bytes_max(start, user):
    """Answers that nobody takes fill the memory for logs; when their readers are cut, turns are taken again."""
    settings = {"chat.log_bytes_max": 1000000, "chat.resume_window_s": 0, "http.write_timeout_ms": 1000}
    gateway = start({"threads": 4, "chat.heartbeat_s": 1, **settings})
    streams = [gateway.open(f"{user}-{i}", say("long=1000000"), **SLOW) for i in range(4)]
    wait_until(lambda: gateway.metric("sluice_turn_log_bytes") > 1000000, what="the logs are full")
    for _ in range(8):
        refusal(gateway.open(user, "hello"), 503, "overloaded")
    wait_until(lambda: gateway.metric("sluice_turn_log_bytes") == 0, 20, "the slow readers are cut")
    for _ in range(4):
        assert gateway.ask(user, say("tokens=2")).text == answer(2)
    for stream in streams:
        stream.close()


# ---------------------------------------------------------------- slow readers


def await_cut(streams):
    """Reads what the sockets still hold: it ends in the middle."""
    for stream in streams:
        try:
            stream.finish()
        except Closed:
            pass
        assert stream.end == "cut", stream.events[-1]
        stream.close()


def test_who_does_not_read_is_cut_and_the_answer_is_whole(start, user, database):
    """Fifty of them. What is kept of each is its log: no second copy, encoded, waits for its reader."""
    gateway = start({"threads": 2, "http.write_timeout_ms": 1500, "chat.heartbeat_s": 1, "chat.resume_window_s": 0})
    count, size = 50, 500000
    streams = [gateway.open(f"{user}-{i}", say(f"long={size}"), **SLOW) for i in range(count)]
    wait_until(lambda: gateway.metric("sluice_turns_active") == 0, 30, "the answers are complete")
    for i in range(count):
        question, reply = database.await_messages(f"{user}-{i}", 2, timeout=30)
        assert (question["status"], reply["status"], len(reply["content"])) == ("complete", "complete", size)
    # 64 bytes and their frame in the log, 12 bytes each; trimmed to what there is when the turn has ended
    assert gateway.metric("sluice_turn_log_bytes") < count * size * 1.25
    wait_until(lambda: gateway.metric("sluice_turn_log_bytes") == 0, 20, "all of them have been cut")
    assert gateway.metric("sluice_clients_gone_total") == count
    for i, stream in enumerate(streams):
        line = gateway.turn_line(stream.turn_id)
        assert (line["status"], line["answer_bytes"]) == ("complete", size), i
    await_cut(streams)


def test_fifty_slow_readers_of_one_turn(start, user):
    """Far less than fifty times the answer; sanitizers and all, hence only a third of it."""
    gateway = start({"threads": 2, "http.write_timeout_ms": 60000})
    first = gateway.ask(user, say("long=1000000"))
    sent = len(first.raw)
    assert sent > 1500000
    one_log, peak = gateway.metric("sluice_turn_log_bytes"), memory_peak(gateway)
    followers = [
        gateway.follow(user, first.turn_id, connection=gateway.connect(receive_buffer=4096)) for _ in range(50)
    ]
    logs = gateway.metric("sluice_turn_log_bytes")
    assert one_log < logs < 3.1 * one_log, "one copy on the other loop, however many follow there"
    grown = memory_peak(gateway) - peak
    assert grown < 50 * sent / 3, f"{grown >> 20} MiB"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda follower: follower.finish().events == first.events, followers[:4]))
    for follower in followers:
        follower.close()
    wait_until(lambda: gateway.metric("sluice_turn_log_bytes") == one_log, what="the copy has gone")


def test_slow_readers_do_not_hold_up_the_others(start, user):
    """Of one turn that runs: some do not read, some do and have it all."""
    gateway = start({"threads": 2, "http.write_timeout_ms": 1000, "chat.heartbeat_s": 1})
    first = gateway.open(user, say("first=500 long=1000000"))
    first.next_event()
    slow = [
        gateway.follow(user, first.turn_id, connection=gateway.connect(receive_buffer=4096)) for _ in range(8)
    ]
    fast = [gateway.follow(user, first.turn_id) for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        events = [stream.events for stream in pool.map(lambda stream: stream.finish(), [first, *fast])]
    assert events[0][-1]["finish_reason"] == "stop" and all(other == events[0] for other in events)
    wait_until(lambda: gateway.metric("sluice_clients_gone_total") == len(slow), 20, "the slow ones are cut")
    await_cut(slow)
    for stream in (first, *fast):
        stream.close()


def test_who_reads_slowly_is_not_cut(start, user):
    """What is sent at once takes longer than http.write_timeout_ms, but the reader gets on all the time."""
    gateway = start({"threads": 2, "http.write_timeout_ms": 1000, "chat.heartbeat_s": 1})
    stream = gateway.open(user, say("long=300000"), options={"receive_buffer": 16384})
    connection, began = stream.connection, time.monotonic()
    while time.monotonic() - began < 4:  # at some 20 KB a second, 64 KiB at once
        connection.reads.append((time.monotonic(), connection.socket.recv(2048)))
        connection.buffer += connection.reads[-1][1]
        time.sleep(0.1)
    assert stream.finish().end == "clean" and len(stream.text) == 300000
    stream.close()


@pytest.mark.parametrize("path", ["turn", "messages"])
def test_who_does_not_read_a_plain_reply_is_cut_as_well(start, user, path):
    """By the kernel, as h2o would wait for ever."""
    gateway = start({"threads": 2, "http.write_timeout_ms": 300})
    session = gateway.ask(user, say("long=1000000")).session_id
    connection = gateway.connect(receive_buffer=4096)
    headers = {"Authorization": f"Bearer {mint(user)}"}
    if path == "turn":
        body = {"message": say("long=1000000"), "stream": False}
        connection.request("POST", STREAM, headers=headers, body=body)
    else:
        connection.request("GET", f"/api/v1/chat/sessions/{session}/messages", headers=headers)
    connection.read_head()
    wait_until(lambda: gateway.connections() == 0, what="the connection is cut")
    connection.close()


# ---------------------------------------------------------------- silence


def test_heartbeats(start, user):
    """With silence, before the first token as after it, to the one who asked and to others on each loop."""
    gateway = start({"threads": 2, "chat.heartbeat_s": 1})
    loops = Loops(gateway, each=2)
    first = gateway.open(user, say("first=2200 gap=1300 tokens=2"))
    first.until("accepted")
    streams = [first]
    for loop in range(2):
        for headers in ({}, {"Accept": "text/event-stream"}):  # the two ways to write one
            connection = loops.take(loop)
            streams.append(gateway.follow(user, first.turn_id, after=2, headers=headers, connection=connection))
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        before = list(pool.map(lambda stream: (stream.until("token"), stream.heartbeats)[1], streams))
        after = [stream.heartbeats for stream in pool.map(lambda stream: stream.finish(), streams)]
    for stream, early, late in zip(streams, before, after):
        head = 0 if stream is first else 1  # the head brings one where there is no event for it
        assert head + 1 <= early <= head + 3 and early + 1 <= late <= early + 3, (early, late)
        stream.close()
    loops.close()


def test_no_heartbeats_while_tokens_come(start, user):
    gateway = start({"threads": 2, "chat.heartbeat_s": 1})
    assert gateway.ask(user, say("tokens=30 gap=60")).heartbeats == 0
