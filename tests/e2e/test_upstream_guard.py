"""Where requests to the model may go, what they carry, and what never leaves the process."""

import os
import socket
import threading

import pytest
from harness.gateway import Gateway, run_once
from harness.many import ask_all
from harness.names import with_etc
from harness.raw_server import RawServer
from harness.stub import answer, say
from harness.tokens import SECRET
from harness.wait import wait_until

ONCE = {"upstream.breaker_failures": 0, "upstream.retry_budget_percent": 0}


def over(upstreams, **changes):
    """Settings with this list of upstreams, the first one's first model being the default."""
    model = upstreams[0]["models"][0]
    return {"upstream.url": None, "upstream.model": model, "upstreams": upstreams, **ONCE, **changes}


# ---------------------------------------------------------------- keys

SECRET_PART = "5eCrEt"
KEYS = {  # model: the secret
    f"{provider}-{place}": f"sk-{provider}-{place}-{SECRET_PART}"
    for provider in ("openai", "anthropic")
    for place in ("api_key", "api_key_file", "api_key_env")
}


@pytest.fixture(scope="module")
def keyed(settings, stub, tmp_path_factory):
    """(settings, environment) with an upstream for every way to give a key."""
    folder, upstreams, env = tmp_path_factory.mktemp("keys"), [], {}
    for number, (model, key) in enumerate(KEYS.items()):
        provider, place = model.split("-")
        upstream = {"name": f"u{number}", "provider": provider, "url": stub.url, "models": [model], place: key}
        if place == "api_key_file":
            (folder / model).write_text(key + "\n")
            upstream[place] = str(folder / model)
        elif place == "api_key_env":
            upstream[place] = f"MODEL_KEY_{number}"
            env[upstream[place]] = key
        upstreams.append(upstream)
    return {**settings, **over(upstreams), "jwt.secret": SECRET, "log": "debug"}, env


@pytest.fixture(scope="module")
def key_gateway(keyed):
    settings, env = keyed
    server = Gateway(settings, env=env)
    server.await_stores()
    yield server
    server.stop()


def assert_no_key(text):
    assert SECRET_PART not in text


@pytest.mark.parametrize("model", KEYS)
def test_the_key_is_in_its_header_and_nowhere_else(key_gateway, stub, user, model):
    turn = key_gateway.ask(user, say("tokens=1"), model=model)
    assert turn.text == answer(1)
    fields = dict(line.split(": ", 1) for line in stub.last_head().split("\r\n")[1:] if line)
    fields = {name.lower(): value for name, value in fields.items()}
    expected = {"authorization": f"Bearer {KEYS[model]}"} if "openai" in model else {"x-api-key": KEYS[model]}
    carriers = {name: value for name, value in fields.items() if SECRET_PART in value}
    assert carriers == expected
    assert not fields.keys() & {"authorization", "x-api-key"} - expected.keys()
    assert fields["accept-encoding"] == "identity"

    # neither in what the user sees when it is refused, nor in what operators see
    for fault in ("status=401", "status=500", "fin_after=1", "malformed"):
        turn = key_gateway.ask(user, say(f"tokens=2 {fault}"), model=model)
        assert turn.last["type"] == "error"
        assert_no_key(turn.raw.decode())
    for path in ("/metrics", "/readyz", "/healthz"):
        assert_no_key(key_gateway.call("GET", path).body.decode())
    assert_no_key("\n".join(key_gateway.lines))


def test_the_configuration_is_printed_without_keys(keyed):
    settings, env = keyed
    done = run_once(["--print-config"], settings, env=env)
    assert done.returncode == 0, done.stderr
    assert "u5" in done.stdout
    assert_no_key(done.stdout + done.stderr)


@pytest.mark.parametrize("more", [{"url": "ftp://host/v1"}, {"api_key_file": "/"}, {"weight": 5000}, {"unknown": 1}])
def test_a_configuration_that_is_refused_shows_no_key(keyed, more):
    settings, env = keyed
    upstreams = [{**settings["upstreams"][0], **more}]
    done = run_once(["--check-config"], {**settings, "upstreams": upstreams}, env=env)
    assert done.returncode == 2 and "upstreams" in done.stderr
    assert_no_key(done.stdout + done.stderr)


# ---------------------------------------------------------------- strange servers

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"tok0"},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
CHUNKED = b"Transfer-Encoding: chunked"
SERVERS = {  # model: what its server sends, the code of the error or None
    "http-1.0": (HEAD.replace(b"1.1", b"1.0") + CHUNK + DONE, None),
    "behind-the-end": (HEAD + CHUNK + DONE + CHUNK + b"data: {\n\n" + DONE, None),
    "byte-order-mark": (HEAD + b"\xef\xbb\xbf" + CHUNK + DONE, None),
    "early-hints": (b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + HEAD + CHUNK + DONE, None),
    "http-1.0-cut": (HEAD.replace(b"1.1", b"1.0") + CHUNK, "upstream_truncated"),
    "too-few-bytes": (HEAD.replace(b"Connection: close", b"Content-Length: 999") + CHUNK, "upstream_truncated"),
    "broken-chunk": (HEAD.replace(b"Connection: close", CHUNKED) + b"zz\r\n", "upstream_truncated"),
    "no-body": (HEAD, "upstream_truncated"),
    "half-an-event": (HEAD + DONE[:-1], "upstream_truncated"),
    "half-a-head": (HEAD[:40], "upstream_truncated"),
    "compressed": (HEAD + b"\x1f\x8b\x08" + bytes(range(256)), "upstream_truncated"),
    "no-content": (HEAD.replace(b"200 OK", b"204 No Content"), "upstream_malformed"),
    "no-http": (b"hello\r\n\r\n", "upstream_malformed"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", "upstream_malformed"),
    **{f"redirect-{status}": (None, "upstream_malformed") for status in (301, 302, 303, 307, 308)},
}


@pytest.fixture(scope="module")
def raw_server():
    server = RawServer({model: sent for model, (sent, _) in SERVERS.items()})
    for model in SERVERS:
        if model.startswith("redirect-"):
            head = f"HTTP/1.1 {model[9:]} Elsewhere\r\nLocation: {server.url}/elsewhere\r\nContent-Length: 0\r\n\r\n"
            server.answers[model] = head.encode()
    yield server
    server.close()


@pytest.fixture(scope="module")
def raw_gateway(settings, raw_server):
    upstreams = [{"name": "raw", "url": raw_server.url, "models": list(SERVERS)}]
    server = Gateway({**settings, **over(upstreams)})
    server.await_stores()
    yield server
    server.stop()


@pytest.mark.parametrize("model", SERVERS)
def test_a_server_of_another_kind(raw_gateway, raw_server, user, database, model):
    code = SERVERS[model][1]
    turn = raw_gateway.ask(user, "hello", model=model)
    reply = database.await_messages(user, 2)[1]
    if code is None:
        assert (turn.last["type"], turn.text, reply["status"]) == ("done", "tok0", "complete"), turn.events
    else:
        assert (turn.last.get("code"), reply["status"]) == (code, "failed"), turn.events
        assert "127.0.0.1" not in turn.raw.decode()
    # asked once, and no redirect is followed
    lines = [line for line, asked in raw_server.requests if asked in (model, None)]
    assert lines == ["POST /v1/chat/completions HTTP/1.1"]


# ---------------------------------------------------------------- addresses


def test_no_proxy_is_taken_from_the_environment(start, user):
    names = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    gateway = start(env={name: "http://127.0.0.1:1" for name in names})
    assert gateway.ask(user, say("tokens=3")).text == answer(3)


PRIVATE_NAMES = {
    "loopback.example": "127.0.0.1",
    "mapped.example": "::ffff:127.0.0.1",
    "loopback6.example": "::1",
    "private.example": "10.1.2.3",
    "metadata.example": "169.254.169.254",
}


@pytest.fixture(scope="module")
def own_hosts(tmp_path_factory):
    hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in PRIVATE_NAMES.items())
    return with_etc(tmp_path_factory.mktemp("etc"), {"hosts": hosts, "nsswitch.conf": "hosts: files\n"})


def test_a_name_that_leads_to_a_private_address(start, stub, own_hosts):
    """Such a name was not meant to be ours: no connection, hence neither prompt nor key."""
    hosts = [*PRIVATE_NAMES, "localhost", "127.0.0.1", "unknown.example"]
    upstreams = [
        {"name": host.replace(".", "-"), "url": f"http://{host}:{stub.port}/v1", "models": [host]} for host in hosts
    ]
    upstreams[0]["models"].append("either")
    upstreams.append({"name": "behind", "url": stub.url, "models": ["either"], "priority": 1})
    gateway = start(over(upstreams), within=own_hosts)
    before = stub.requests()
    for host in PRIVATE_NAMES:
        ((_, turn),) = ask_all(gateway, ["hello"], model=host)
        assert (turn.last["code"], turn.last["retryable"]) == ("upstream_address_refused", False), turn.events
        assert host not in turn.raw.decode()
    ((_, turn),) = ask_all(gateway, ["hello"], model="unknown.example")
    assert turn.last["code"] == "upstream_unreachable"
    assert stub.requests() == before
    for model in ("localhost", "127.0.0.1", "either"):  # asked for in so many words; another one
        ((_, turn),) = ask_all(gateway, [say("tokens=2")], model=model)
        assert turn.text == answer(2)
    assert gateway.turn_line(turn.turn_id)["upstream"] == "behind"


def test_private_addresses_can_be_allowed(start, user, stub, own_hosts):
    upstreams = [{"name": "near", "url": f"http://loopback.example:{stub.port}/v1", "models": ["near"]}]
    gateway = start(over(upstreams, **{"upstream.allow_private_addresses": True}), within=own_hosts)
    assert gateway.ask(user, say("tokens=2"), model="near").text == answer(2)


# ---------------------------------------------------------------- DNS that hangs

NAME_SERVER = "127.83.76.1"
CONNECT_MS = 1000


@pytest.fixture
def silent_name_server():
    """Takes questions and answers none. The resolver asks port 53 and no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            server.bind((NAME_SERVER, 53))
        except OSError as failure:
            pytest.skip(f"no name server can be played here: {failure}")
        yield server


def test_dns_that_hangs_stalls_nobody(start, stub, silent_name_server, tmp_path):
    resolv = f"nameserver {NAME_SERVER}\noptions timeout:30 attempts:3\n"
    within = with_etc(tmp_path, {"resolv.conf": resolv, "nsswitch.conf": "hosts: dns\n"})
    upstreams = [
        {"name": "near", "url": stub.url, "models": ["near"]},
        {"name": "lost", "url": "http://model.example/v1", "models": ["lost"]},
    ]
    gateway = start(over(upstreams, **{"upstream.connect_timeout_ms": CONNECT_MS}), within=within)
    silent_name_server.settimeout(10)
    silent_name_server.recv(512)  # the look-up is under way

    def threads():
        return len(os.listdir(f"/proc/{gateway.process.pid}/task"))

    threads_before, lost = threads(), []
    crowd = threading.Thread(target=lambda: lost.extend(ask_all(gateway, ["hello"] * 50, threads=50, model="lost")))
    crowd.start()
    wait_until(lambda: gateway.metric("sluice_turns_active") >= 50, what="all of them wait")
    looks = 0
    while crowd.is_alive() and looks < 10:
        assert gateway.call("GET", "/healthz").status == 200
        ((_, turn),) = ask_all(gateway, [say("tokens=2")], model="near")
        assert turn.text == answer(2)
        assert turn.last["timings"]["total_ms"] < CONNECT_MS / 2
        assert threads() == threads_before
        looks += 1
    assert looks >= 3
    crowd.join()
    for _, turn in lost:
        assert turn.last["code"] == "upstream_connect_timeout", turn.events
        assert turn.last.at - turn.events[0].at < CONNECT_MS / 1000 + 0.5
