"""Traces: who a turn's trace belongs to, what the collector gets, and what a bad collector costs."""

import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from harness.many import ask_all
from harness.stub import answer, once, say
from harness.tokens import SECRET
from harness.wait import wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PATH = "/v1/traces"
KEY = "sk-not-for-a-collector"
EXPORTED, DROPPED = "sluice_trace_spans_exported_total", "sluice_trace_spans_dropped_total"


class Collector:
    """Keeps every body; answers with `status`."""

    def __init__(self):
        self.bodies, self.heads, self.status = [], [], 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.heads.append((self.path, dict(self.headers.items())))
                collector.bodies.append(body.decode())
                self.send_response(collector.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}{PATH}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        found = []
        for body in self.bodies:
            for resource in json.loads(body)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    found += scope["spans"]
        return found

    def of(self, turn):
        """The spans of a turn, by name, once they are there."""

        def spans():
            all_spans = self.spans()
            trace = [s["traceId"] for s in all_spans if attributes(s).get("sluice.turn.id") == turn.turn_id]
            return trace and [span for span in all_spans if span["traceId"] == trace[0]]

        return {span["name"]: span for span in wait_until(spans, what="the turn's spans")}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def attributes(span):
    """{key: value}, numbers as numbers."""
    found = {}
    for entry in span["attributes"]:
        ((kind, value),) = entry["value"].items()
        found[entry["key"]] = int(value) if kind == "intValue" else value
    return found


def ns(span):
    return int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])


def ms(span):
    start, end = ns(span)
    return (end - start) / 1e6


def fields(stub):
    """The headers of the newest request to the model."""
    return dict(line.lower().split(": ", 1) for line in stub.last_head().split("\r\n")[1:] if line)


@pytest.fixture(scope="module")
def collector():
    server = Collector()
    yield server
    server.close()


@pytest.fixture(scope="module")
def traced(collector):
    return {"tracing.url": collector.url, "tracing.interval_ms": 20, "upstream.api_key": KEY}


@pytest.fixture
def traced_gateway(start, traced):
    return start(traced)


def threads_of(gateway):
    return len(os.listdir(f"/proc/{gateway.process.pid}/task"))


# ---------------------------------------------------------------- what is sent


def test_a_turn_becomes_one_post(traced_gateway, collector, stub, user):
    first = traced_gateway.ask(user, say("tokens=1"))
    collector.of(first)
    posts = len(collector.bodies)
    before_s = time.time()
    turn = traced_gateway.ask(user, say("tokens=5 first=60 gap=20", "a secret question"), session_id=first.session_id)
    spans = collector.of(turn)
    line = traced_gateway.turn_line(turn.turn_id)
    assert len(collector.bodies) == posts + 1
    path, head = collector.heads[-1]
    assert path == PATH and head["Content-Type"] == "application/json"
    (chat,) = [name for name in spans if name.startswith("chat")]
    parents = {
        "context": "turn", "profile": "context", "history": "context",
        "ask": "turn", chat: "ask", "stream": "ask", "save": "turn",
    }  # fmt: skip
    assert spans.keys() == parents.keys() | {"turn"}
    assert {span["traceId"] for span in spans.values()} == {line["trace_id"]}
    assert len({span["spanId"] for span in spans.values()}) == len(spans)
    assert "parentSpanId" not in spans["turn"]
    for child, parent in parents.items():
        assert spans[child]["parentSpanId"] == spans[parent]["spanId"]
        (start, end), (parent_start, parent_end) = ns(spans[child]), ns(spans[parent])
        assert parent_start <= start <= end <= parent_end, child

    # times: Unix time, the same as in the log, and the parts are the whole
    assert before_s - 0.1 <= ns(spans["turn"])[0] / 1e9 <= time.time()
    assert ms(spans["turn"]) == pytest.approx(line["total_ms"], abs=0.01)
    assert ms(spans["profile"]) == pytest.approx(line["profile_ms"], abs=0.01)
    parts = sum(ms(spans[name]) for name in ("context", "ask", "save"))
    assert parts == pytest.approx(ms(spans["turn"]), abs=1)
    assert ms(spans["ask"]) >= 60 + 4 * 20 and ms(spans["stream"]) >= 4 * 20 - 1

    # what is said of it
    root, call = attributes(spans["turn"]), attributes(spans[chat])
    assert (spans["turn"]["kind"], spans[chat]["kind"]) == (2, 3)
    assert root["sluice.session.id"] == call["gen_ai.conversation.id"] == turn.session_id
    assert root["sluice.user.hash"] == line["user_hash"] and root["sluice.request.id"] == line["request_id"]
    assert root["sluice.status"] == "complete" and root["sluice.answer.bytes"] == len(answer(5))
    assert call["gen_ai.operation.name"] == "chat" and call["gen_ai.provider.name"] == "openai"
    assert chat == f"chat {call['gen_ai.request.model']}" and call["http.response.status_code"] == 200
    assert call["gen_ai.usage.input_tokens"] == line["prompt_tokens"]
    assert call["gen_ai.usage.output_tokens"] == line["completion_tokens"] == 5
    assert call["gen_ai.response.finish_reasons"] == {"values": [{"stringValue": "stop"}]}
    assert not any("error.type" in attributes(span) for span in spans.values())
    assert attributes(spans["history"])["sluice.source"] == line["history_source"]

    # the request to the model named the call's span
    assert fields(stub)["traceparent"] == f"00-{line['trace_id']}-{spans[chat]['spanId']}-01"
    assert fields(stub)["authorization"] == f"bearer {KEY}".lower()

    # and never a word of what was said, nor who said it, nor a key
    for word in ("secret question", "stub", "tok0", user, KEY, SECRET, "helpful assistant"):
        assert word not in collector.bodies[-1]
    wait_until(lambda: traced_gateway.metric(EXPORTED) == len(spans) + 7, what="all are counted")
    assert traced_gateway.metric(DROPPED) == 0


def test_each_call_has_a_span(start, traced, collector, user):
    gateway = start({**traced, "upstream.retry_budget_percent": 100, "upstream.retry_backoff_ms": 1})
    turn = gateway.ask(user, say(once("status=500") + " tokens=1"))
    spans = collector.of(turn)
    trace = spans["turn"]["traceId"]
    calls = [s for s in collector.spans() if s["traceId"] == trace and s["name"].startswith("chat")]
    assert [attributes(call).get("error.type") for call in calls] == ["upstream_error", None]
    assert [attributes(call)["http.response.status_code"] for call in calls] == [500, 200]
    assert ["gen_ai.usage.output_tokens" in attributes(call) for call in calls] == [False, True]
    assert ns(calls[0])[1] <= ns(calls[1])[0]
    assert attributes(spans["turn"])["sluice.retries"] == 1


def test_a_turn_that_fails(start, traced, collector, user):
    gateway = start({**traced, "upstream.retry_budget_percent": 0, "upstream.idle_timeout_ms": 300})
    turn = gateway.ask(user, say("stall_after=2"))
    spans = collector.of(turn)
    (chat,) = [name for name in spans if name.startswith("chat")]
    for span in (spans["turn"], spans[chat]):
        assert attributes(span)["error.type"] == "upstream_idle_timeout" and span["status"] == {"code": 2}
    turn = gateway.open(user, say("tokens=1000 gap=20"))
    turn.until("token")
    gateway.stop_turn(user, turn.turn_id)
    spans = collector.of(turn.finish())
    assert attributes(spans["turn"])["sluice.status"] == "stopped"
    assert not any("error.type" in attributes(span) for span in spans.values())


# ---------------------------------------------------------------- whose trace it is


@pytest.mark.parametrize("flags", ["01", "00"])
def test_the_callers_trace(traced_gateway, collector, stub, user, flags):
    state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-{flags}", "tracestate": state}
    turn = traced_gateway.ask(user, say("tokens=1"), headers=headers)
    sent = fields(stub)
    assert sent["tracestate"] == state.lower()
    assert traced_gateway.turn_line(turn.turn_id)["trace_id"] == TRACE
    assert "traceparent" not in turn.response.headers and "traceresponse" not in turn.response.headers
    if flags == "01":
        spans = collector.of(turn)
        (chat,) = [name for name in spans if name.startswith("chat")]
        assert spans["turn"]["traceId"] == TRACE and spans["turn"]["parentSpanId"] == SPAN
        assert sent["traceparent"] == f"00-{TRACE}-{spans[chat]['spanId']}-01"
    else:
        assert sent["traceparent"] == f"00-{TRACE}-{SPAN}-00"
        collector.of(traced_gateway.ask(user, say("tokens=1")))  # what came later is there
        assert turn.turn_id not in "".join(collector.bodies)
    # a kept handle carries nothing over to the next request
    traced_gateway.ask(user, say("tokens=1"))
    assert "tracestate" not in fields(stub) and TRACE not in fields(stub)["traceparent"]


@pytest.mark.parametrize(
    "given", ["", "garbage", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01"]
)
def test_an_ill_formed_one_begins_a_new_trace(traced_gateway, stub, user, given):
    turn = traced_gateway.ask(user, say("tokens=1"), headers={"traceparent": given, "tracestate": "a=1"})
    line = traced_gateway.turn_line(turn.turn_id)
    assert len(line["trace_id"]) == 32 and line["trace_id"] not in (TRACE, "0" * 32)
    assert fields(stub)["traceparent"].startswith(f"00-{line['trace_id']}-")
    assert "tracestate" not in fields(stub)


def test_a_bad_state_is_dropped_alone(traced_gateway, stub, user):
    for state in ("no equals sign", "a=" + "x" * 511):
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state}
        traced_gateway.ask(user, say("tokens=1"), headers=headers)
        assert TRACE in fields(stub)["traceparent"] and "tracestate" not in fields(stub)


def test_headers_in_several_lines(traced_gateway, stub, user):
    """Lines of a state are one list; two parents are none."""
    given = f"00-{TRACE}-{SPAN}-01"
    traced_gateway.ask(user, say("tokens=1"), headers={"Traceparent": given, "Tracestate": "a=1\r\ntracestate: b=2"})
    assert TRACE in fields(stub)["traceparent"] and fields(stub)["tracestate"] == "a=1,b=2"
    headers = {"traceparent": f"{given}\r\ntraceparent: {given}", "tracestate": "a=1"}
    traced_gateway.ask(user, say("tokens=1"), headers=headers)
    assert TRACE not in fields(stub)["traceparent"] and "tracestate" not in fields(stub)


def test_nothing_is_sampled_at_zero_percent(start, traced, collector, stub, user):
    gateway = start({**traced, "tracing.sample_percent": 0})
    posts = len(collector.bodies)
    turns = [gateway.ask(user, say("tokens=1")) for _ in range(5)]
    line = gateway.turn_line(turns[-1].turn_id)
    sent = fields(stub)["traceparent"]
    assert sent.startswith(f"00-{line['trace_id']}-") and sent.endswith("-00")
    asked = gateway.ask(user, say("tokens=1"), headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    collector.of(asked)
    assert len(collector.bodies) == posts + 1


# ---------------------------------------------------------------- off, and when the collector is bad


def test_off_by_default(gateway, start, traced, stub, user):
    """No thread, no header of ours; an incoming one is passed on as it came."""
    turn = gateway.ask(user, say("tokens=1"))
    assert "traceparent" not in fields(stub)
    assert "trace_id" not in gateway.turn_line(turn.turn_id)
    given = f"00-{TRACE}-{SPAN}-01"
    turn = gateway.ask(user, say("tokens=1"), headers={"traceparent": given, "tracestate": "a=1"})
    assert fields(stub)["traceparent"] == given and fields(stub)["tracestate"] == "a=1"
    assert gateway.turn_line(turn.turn_id)["trace_id"] == TRACE
    assert gateway.metric(EXPORTED) == gateway.metric(DROPPED) == 0
    assert threads_of(start(traced)) == threads_of(start()) + 1


class Hanging:
    """Takes connections and never answers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}{PATH}"

    def close(self):
        self.listener.close()


class Refusing(Hanging):
    """Nobody listens there any more."""

    def __init__(self):
        super().__init__()
        self.listener.close()


@pytest.mark.parametrize("kind", [Hanging, Refusing])
def test_a_collector_that_is_away_costs_spans_only(start, kind):
    bad = kind()
    gateway = start({"tracing.url": bad.url, "tracing.queue_max": 32, "tracing.batch_max": 16, "tracing.interval_ms": 1})
    turns = [turn for _, turn in ask_all(gateway, [say("tokens=1")] * 60, threads=8)]
    lines = gateway.turn_lines(turns)
    assert all(line["status"] == "complete" for line in lines)
    # in time: the collector's timeout is 5 s
    assert max(line["total_ms"] for line in lines) < 3000
    made = 7 * len(lines)
    # what is not dropped waits: the queue and one batch
    wait_until(lambda: gateway.metric(DROPPED) >= made - 32 - 16, what="what has no room is dropped")
    assert gateway.metric(EXPORTED) == 0
    begun = time.monotonic()
    gateway.stop()
    assert time.monotonic() - begun < 4  # the flush has a second
    bad.close()


def test_an_answer_but_2xx_is_a_loss(start, traced, collector, user):
    gateway = start(traced)
    collector.status = 503
    try:
        collector.of(gateway.ask(user, say("tokens=1")))
        wait_until(lambda: gateway.metric(DROPPED) > 0, what="it is counted")
        assert gateway.metric(EXPORTED) == 0
    finally:
        collector.status = 200


def test_what_waits_is_sent_at_the_end(start, traced, collector, user):
    gateway = start({**traced, "tracing.interval_ms": 60000})
    turn = gateway.ask(user, say("tokens=1"))
    gateway.turn_line(turn.turn_id)
    assert turn.turn_id not in "".join(collector.bodies)
    gateway.stop()
    assert turn.turn_id in "".join(collector.bodies)
