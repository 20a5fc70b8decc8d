"""Sluice behind nginx and HAProxy, with the files of deploy/ and real curl over TLS and HTTP/2."""

import json
import os
import re

import pytest
from harness.gateway import STREAM
from harness.proxies import PROXIES, Recorder, ask, get, post
from harness.stub import answer, say
from harness.tokens import mint
from harness.wait import wait_until

SETTINGS = {"chat.disconnect_grace_s": 0}
BODY_MAX = 262144
ENDLESS = "tokens=100000 gap=20"


@pytest.fixture(params=PROXIES)
def front(request):
    """front(*addresses, ...): the proxy of this test before these upstreams."""
    started = []

    def start(*upstreams, **options):
        started.append(PROXIES[request.param](*upstreams, **options))
        return started[-1].start()

    yield start
    for proxy in started:
        proxy.stop()


@pytest.fixture
def proxy(front, gateway):
    return front(gateway.address)


@pytest.fixture
def recorders():
    servers = [Recorder(), Recorder()]
    yield servers
    for server in servers:
        server.stop()


def test_the_proxy_accepts_its_file(front, gateway):
    proxy = front(gateway.address)
    code, words = proxy.check()
    assert code == 0 and "warn" not in (words + proxy.log()).lower(), words + proxy.log()


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("http", ["2", "1.1"])
def test_each_event_arrives_when_it_is_sent(proxy, user, http):
    """The model says two words and falls silent: nothing that follows could push them through."""
    curl = proxy.curl(ask(user, say("stall_after=2 tokens=9")), http=http)
    (transfer,) = curl.transfers
    transfer.await_text('"content":" tok1"')
    assert curl.process.poll() is None and "done" not in transfer.types
    assert transfer.status == 200
    assert transfer.headers["content-type"] == ["text/event-stream; charset=utf-8"]
    assert "content-encoding" not in transfer.headers


@pytest.mark.parametrize("http", ["2", "1.1"])
def test_a_whole_answer(proxy, user, http):
    transfer = proxy.fetch(ask(user, say("tokens=5 gap=20"), "--compressed"), http=http)
    assert transfer.version == http
    tokens = [event["content"] for _, event in transfer.events if event["type"] == "token"]
    assert "".join(tokens) == answer(5)
    assert transfer.types[0] == "session_id" and transfer.types[-1] == "done"
    assert all(id_ is None for id_, _ in transfer.events)


def test_ids_for_those_who_ask(proxy, user):
    transfer = proxy.fetch(ask(user, say("tokens=3"), "-H", "Accept: text/event-stream"))
    turn_id = transfer.events[0][1]["turn_id"]
    assert [id_ for id_, _ in transfer.events] == [f"{turn_id}.{event['seq']}" for _, event in transfer.events]


def test_two_streams_on_one_connection(proxy, user):
    both = [ask(user, say("tokens=20 gap=10", name)) for name in ("one", "two")]
    curl = proxy.curl(*both)
    assert curl.wait() == 0, curl.errors()
    assert sum(transfer.connects for transfer in curl.transfers) == 1
    for transfer in curl.transfers:
        assert transfer.version == "2" and transfer.types[-1] == "done"


def test_a_model_that_thinks_longer_than_the_proxy_waits(front, start, user):
    """PROXY_SLOW=1 takes the times that are shipped: 90 s without a token, 60 s allowed, 10 s a heartbeat."""
    if os.environ.get("PROXY_SLOW"):
        gateway, proxy_options, seconds = start({"upstream.first_token_timeout_ms": 120000}), {}, 90
    else:
        gateway, proxy_options, seconds = start({"chat.heartbeat_s": 1}), {"read_timeout": "2s"}, 4
    proxy = front(gateway.address, **proxy_options)
    curl = proxy.curl(ask(user, say(f"delay={seconds * 1000} tokens=2")))
    assert curl.wait(seconds + 20) == 0, curl.errors()
    (transfer,) = curl.transfers
    assert transfer.events[-1][1]["timings"]["ttft_ms"] >= seconds * 1000
    assert transfer.types[-3:] == ["token", "token", "done"]


@pytest.mark.parametrize("http", ["2", "1.1"])
def test_an_answer_that_is_cut_looks_cut(front, gateway, user, http):
    """Nobody must take what came for the whole, when a proxy gives up or Sluice dies."""
    proxy = front(gateway.address, read_timeout="400ms")
    curl = proxy.curl(ask(user, say("stall_after=2 tokens=9")), http=http)
    code = curl.wait()
    types = curl.transfers[0].types
    assert "token" in types and "done" not in types and "error" not in types
    # haproxy.cfg says so: over HTTP/2 only the missing last event tells
    assert code != 0 or (proxy.NAME, http) == ("haproxy", "2")


# ---------------------------------------------------------------- clients that leave


def test_the_model_is_stopped_when_the_client_leaves(proxy, user, stub):
    aborted = stub.stats()["aborted_by_client"]
    curl = proxy.curl(ask(user, say("stall_after=2 tokens=9")))
    curl.transfers[0].await_text('"content":" tok1"')
    curl.kill()
    # well before a heartbeat could tell the proxy
    wait_until(lambda: stub.stats()["aborted_by_client"] == aborted + 1, 5, "the model's stream is closed")


def test_one_stream_of_a_connection_is_left(proxy, user, stub):
    """As a page does with `abort()`: the stream is reset, the connection and its other stream go on."""
    aborted = stub.stats()["aborted_by_client"]
    left, kept = ask(user, say(ENDLESS, "left")), ask(user, say(ENDLESS, "kept"))
    curl = proxy.curl(left, kept, pipe=0)
    with curl.transfers[0].open_pipe() as pipe:
        while b"tok3" not in pipe.read1():
            pass
    wait_until(lambda: stub.stats()["aborted_by_client"] == aborted + 1, what="one model stream is closed")
    count = len(curl.transfers[1].events)
    wait_until(lambda: len(curl.transfers[1].events) > count + 2, what="the other stream goes on")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics?x=1", "/performance", "/api/v1/performance", "//metrics", "/%6detrics", "/api/../metrics"],
)
def test_figures_are_not_public(proxy, path):
    assert proxy.fetch(get(path)).status == 404


def test_an_error_before_the_stream_is_passed_as_it_is(proxy):
    transfer = proxy.fetch(post(STREAM, "{}"))
    assert transfer.status == 401
    assert transfer.headers["content-type"] == ["application/problem+json"]
    assert transfer.headers["www-authenticate"] == ["Bearer"]
    assert json.loads(transfer.body)["error"]["code"] == "invalid_token"


def test_a_body_over_the_limit(proxy, gateway, user):
    allowed = proxy.fetch(post(STREAM, "x" * BODY_MAX))
    assert allowed.status == 401, "a body of just the limit is for Sluice to judge"
    # haproxy.cfg says so: only who waits with the body is sure to see HAProxy's refusal
    http, wait = ("1.1", ["-H", "Expect: 100-continue"]) if proxy.NAME == "haproxy" else ("2", [])
    over = proxy.fetch(post(STREAM, "x" * (BODY_MAX + 1), *wait, user=user), http=http)
    directly = gateway.call("POST", STREAM, b"x" * (BODY_MAX + 1), user=user)
    assert over.status == directly.status == 413
    problem, model = json.loads(over.body), directly.json()
    assert over.headers["x-request-id"] == [problem.pop("request_id")]
    assert model.pop("request_id") and problem == model


def test_a_body_that_never_ends(proxy, user):
    """Without a length there is only counting, which HAProxy leaves to Sluice."""
    endless = ["--upload-file", "/dev/zero", "--request", "POST", "-H", "Content-Type: application/json"]
    curl = proxy.curl(get(STREAM, *endless, user=user))
    curl.wait()
    if proxy.NAME == "nginx":
        assert curl.transfers[0].status == 413


def test_sluice_is_away(front, user):
    proxy = front("127.0.0.1:1")
    transfer = proxy.fetch(ask(user, "hello"))
    assert transfer.status in (502, 503)
    problem = json.loads(transfer.body)
    assert problem["status"] == transfer.status and problem["error"]["code"] == "server_unreachable"
    assert transfer.headers["x-request-id"] == [problem["request_id"]]


# ---------------------------------------------------------------- what Sluice is sent


def test_what_a_request_looks_like_to_sluice(front, recorders):
    proxy = front(recorders[0].address)
    claims = ["-H", "X-Forwarded-For: 192.0.2.1", "-H", "X-Request-Id: mine-1"]
    assert proxy.fetch(post("/there", "{}", *claims)).status == 204
    ((method, path, fields),) = recorders[0].requests
    names = [name for name, _ in fields]
    assert (method, path) == ("POST", "/there")
    assert names.count("host") == names.count("x-forwarded-for") == names.count("x-request-id") == 1
    assert "connection" not in names, "keep-alive is what HTTP/1.1 has without that header"
    assert ("x-forwarded-for", "127.0.0.1") in fields and ("x-request-id", "mine-1") in fields


@pytest.mark.parametrize("given", [None, "two words", "x" * 64])
def test_a_request_without_a_good_id_gets_one(front, recorders, given):
    proxy = front(recorders[0].address)
    assert proxy.fetch(get("/", "-H", f"X-Request-Id: {given}") if given else get("/")).status == 204
    (made,) = recorders[0].headers("x-request-id")
    assert re.fullmatch("[0-9a-f-]{32,36}", made)


def test_a_post_is_never_sent_twice(front, recorders):
    """Also not to another instance: the first one may have begun the turn."""
    proxy = front(*[recorder.address for recorder in recorders])
    # haproxy.cfg says so: over HTTP/2 it would tell curl to repeat it
    http = "1.1" if proxy.NAME == "haproxy" else "2"
    assert proxy.fetch(post("/hang-up", "{}"), http=http).status == 502
    assert sum(len(recorder.requests) for recorder in recorders) == 1


def test_a_user_stays_at_one_instance(front, recorders, user):
    """Each user's second request, on another connection, meets the first; all users do not meet.

    An odd number of them, or mere taking turns would look the same.
    """
    proxy = front(*[recorder.address for recorder in recorders])
    headers = [["-H", f"Authorization: Bearer {mint(f'{user}-{i}')}"] for i in range(11)]
    for header in headers * 2:
        assert proxy.fetch(get("/", *header)).status == 204
    seen = [recorder.headers("authorization") for recorder in recorders]
    assert all(seen), "both instances have users"
    assert not set(seen[0]) & set(seen[1])


@pytest.mark.parametrize("front", ["haproxy"], indirect=True)
def test_a_user_stays_with_a_renewed_token(front, recorders, user):
    proxy = front(*[recorder.address for recorder in recorders])
    for i in range(6):
        token = mint(user, expires_in=1000 + i)
        assert proxy.fetch(get("/", "-H", f"Authorization: Bearer {token}")).status == 204
    assert sorted(len(recorder.requests) for recorder in recorders) == [0, 6]
