"""HTTP as attackers and broken clients speak it: ambiguous framing, bombs, halves, stubborn silence."""

import socket
import time

import pytest
from harness.gateway import STREAM
from harness.stub import say
from harness.tokens import mint
from harness.wait import wait_until

SETTINGS = {"http.request_timeout_ms": 1500, "http.write_timeout_ms": 1500, "chat.disconnect_grace_s": 0}

SMUGGLED = b"GET /healthz?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"0\r\n\r\n"


def ambiguous(user):
    """name -> bytes: each followed by a request that a second reader of the bytes would see."""
    auth = f"Authorization: Bearer {mint(user)}\r\nContent-Type: application/json\r\n"
    head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\n{auth}".encode()
    old = head.replace(b"HTTP/1.1", b"HTTP/1.0")
    bare = head.replace(b"Host: x\r\n", b"")
    size = len(SMUGGLED)
    return {
        "two lengths": head + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % size + SMUGGLED,
        "two lengths, reversed": head + b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % size + SMUGGLED,
        "the same length twice": head + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        "length and coding": head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED + SMUGGLED,
        "coding and length": head + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED + SMUGGLED,
        "two codings": head + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED + SMUGGLED,
        "two codings, alike": head + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + CHUNKED + SMUGGLED,
        "coding on 1.0": old + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED + SMUGGLED,
        "no host": bare + b"Content-Length: 0\r\n\r\n" + SMUGGLED,
        "two hosts": head + b"Host: y\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        "space before the colon": head + b"Content-Length : 0\r\n\r\n" + SMUGGLED,
        "a folded header": head + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        "bare line feeds": head.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n" + SMUGGLED,
        "a length with a sign": head + b"Content-Length: +0\r\n\r\n" + SMUGGLED,
        "a negative length": head + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
        "a length list": head + b"Content-Length: 0, 0\r\n\r\n" + SMUGGLED,
        "a hexadecimal length": head + b"Content-Length: 0x0\r\n\r\n" + SMUGGLED,
        "a length without a number": head + b"Content-Length: \r\n\r\n" + SMUGGLED,
        "an unknown coding": head + b"Transfer-Encoding: gzip\r\n\r\n" + CHUNKED + SMUGGLED,
        "chunked but not last": head + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED + SMUGGLED,
        "an obscured coding": head + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED + SMUGGLED,
    }


@pytest.mark.parametrize("trick", ambiguous("x"))
def test_ambiguous_framing_is_refused_and_nothing_smuggled(gateway, user, trick):
    with gateway.connect() as connection:
        connection.send(ambiguous(user)[trick])
        reply = connection.read_all()
    assert connection.ended, "the connection stays open"
    assert reply.count(b"HTTP/1.1 ") <= 1, "the smuggled request was served"
    assert b'"alive"' not in reply
    if reply:
        assert reply.startswith(b"HTTP/1.1 4"), reply


@pytest.mark.parametrize("trick", ["two lengths", "length and coding", "two codings", "coding on 1.0", "two hosts"])
def test_the_refusal_has_the_one_shape(gateway, user, trick):
    with gateway.connect() as connection:
        connection.send(ambiguous(user)[trick])
        response = connection.read_response()
    assert response.status == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["error"]["code"] == "bad_framing"


def test_a_chunked_body_is_fine(gateway, user):
    body = b'{"message":"' + say("tokens=1").encode() + b'"}'
    head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {mint(user)}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with gateway.connect() as connection:
        connection.send(head.encode())
        for i in range(len(body)):
            connection.send(b"1;ext=1\r\n" + body[i : i + 1] + b"\r\n")
        connection.send(b"0\r\n\r\n")
        assert connection.read_response().status == 200


@pytest.mark.parametrize("chunk", [b"zz\r\nab\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"5\r\nabcdefghij\r\n0\r\n\r\n"])
def test_chunks_that_are_none(gateway, user, chunk):
    head = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {mint(user)}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with gateway.connect() as connection:
        connection.send(head.encode() + chunk)
        reply = connection.read_all()
    assert reply == b"" or reply.startswith(b"HTTP/1.1 4"), reply


@pytest.mark.parametrize(
    "bytes_",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 50]
    + [b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n", b"\0" * 500, b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"\r\n" * 400]
    + [b"GET / HTTP/1.1\r\nHost: x\r\n: empty name\r\n\r\n", b"GET /\x01\x7f HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n"],
)
def test_bytes_that_are_no_request(gateway, bytes_):
    with gateway.connect() as connection:
        connection.send(bytes_)
        connection.socket.shutdown(socket.SHUT_WR)
        reply = connection.read_all()
    assert reply == b"" or b" 40" in reply.split(b"\r\n")[0] or b" 505" in reply.split(b"\r\n")[0], reply


def test_http2_is_not_spoken(gateway):
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    with gateway.connect() as connection:
        connection.send(upgrade + b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
        assert connection.read_response().status == 200


@pytest.mark.parametrize(
    "headers",
    [
        "".join(f"X-{i}: y\r\n" for i in range(500)),
        "X: " + "y" * 600000 + "\r\n",
        "x" * 600000 + ": y\r\n",
        "Cookie: " + "a=b; " * 120000 + "\r\n",
    ],
    ids=["many", "long-value", "long-name", "cookies"],
)
def test_header_bombs(gateway, headers):
    with gateway.connect() as connection:
        try:
            connection.send(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
            reply = connection.read_all()
        except (BrokenPipeError, ConnectionResetError):
            reply = b""
    assert reply == b"" or reply.startswith(b"HTTP/1.1 4"), reply[:200]


@pytest.mark.parametrize("size, status", [(30000, 200), (33000, 431)])
def test_the_head_has_a_limit(gateway, size, status):
    """http.head_max_bytes is 32768; the connection ends with the refusal."""
    with gateway.connect() as connection:
        connection.send(f"GET /healthz HTTP/1.1\r\nHost: x\r\nX: {'y' * size}\r\n\r\n".encode())
        response = connection.read_response()
        assert response.status == status
        assert status == 200 or response.json()["error"]["code"] == "head_too_large"
        assert status == 200 or connection.read_all() == b""


def test_a_hundred_headers_are_too_many_but_fifty_are_fine(gateway):
    with gateway.connect() as connection:
        connection.request("GET", "/healthz", headers={f"X-{i}": "y" for i in range(50)})
        assert connection.read_response().status == 200
    with gateway.connect() as connection:
        connection.request("GET", "/healthz", headers={f"X-{i}": "y" for i in range(101)})
        reply = connection.read_all()
    assert reply == b"" or reply.startswith(b"HTTP/1.1 4"), reply[:200]


def test_a_long_address(gateway):
    with gateway.connect() as connection:
        connection.send(b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            reply = connection.read_all()
        except ConnectionResetError:
            reply = b""
    assert reply == b"" or reply.startswith(b"HTTP/1.1 4")


# ---------------------------------------------------------------- halves and silence


@pytest.mark.parametrize(
    "part",
    [b"", b"P", b"POST " + STREAM.encode() + b" HTTP/1.1\r\nHost: x\r\n"]
    + [b"POST " + STREAM.encode() + b' HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"mess'],
    ids=["nothing", "a letter", "half a head", "half a body"],
)
def test_half_a_request_is_cut_in_time(gateway, part):
    with gateway.connect() as connection:
        began = time.monotonic()
        connection.send(part)
        reply = connection.read_all()
        assert time.monotonic() - began < 10
    assert b" 200 " not in reply


def test_a_head_that_trickles_is_cut_in_time(gateway):
    """One byte at a time does not buy more time."""
    with gateway.connect() as connection:
        connection.socket.settimeout(0.1)
        began = time.monotonic()
        head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 10000
        try:
            for i in range(len(head)):
                connection.send(head[i : i + 1])
                try:
                    if not connection.receive():
                        break
                except TimeoutError:
                    pass
                assert time.monotonic() - began < 10, "still open"
        except (BrokenPipeError, ConnectionResetError):
            pass


def test_half_requests_that_end_leave_nothing_behind(gateway, user):
    for _ in range(50):
        connection = gateway.connect()
        connection.send(b"POST /api/v1/chat/message/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
        connection.reset()
    wait_until(lambda: gateway.connections() == 0, what="the connections are gone")
    assert gateway.ask(user, say("tokens=1")).last["type"] == "done"


def test_a_client_that_never_reads_is_cut(start, user, stub, database):
    """It holds nothing up, its answer is kept, and its connection ends without a clean end of the body."""
    gateway = start({**SETTINGS, "upstream.answer_max_bytes": 16 << 20})
    # far more than the kernel's buffers take off the server's hands
    stream = gateway.open(user, say("long=8000000"), options={"receive_buffer": 4096})
    assert gateway.ask(user + "-other", say("tokens=3")).last["type"] == "done"
    stub.await_idle(30)
    reply = database.await_messages(user, 2, timeout=30)[1]
    assert reply["status"] in ("complete", "cancelled") and reply["content"]
    wait_until(lambda: gateway.connections() == 0, 20, "its connection is cut")
    while stream.next_event() is not None:
        pass
    assert stream.end == "cut" and "done" not in stream.types
    stream.close()


def test_a_slow_reader_gets_everything(gateway, user):
    """Slower than the model, but reading: nothing is lost and nothing is cut."""
    with gateway.open(user, say("long=300000"), options={"receive_buffer": 4096}) as stream:
        turn = stream.finish()
    assert turn.end == "clean" and len(turn.text) == 300000


def test_idle_connections_cost_nothing(gateway, user):
    connections = [gateway.connect() for _ in range(200)]
    assert gateway.ask(user, say("tokens=2")).last["type"] == "done"
    for connection in connections:
        connection.close()
