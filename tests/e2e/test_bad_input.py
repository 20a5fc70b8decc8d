"""Bodies, routes and headers that are wrong: one clear 4xx in the one shape, and the server goes on."""

import json
import re
import uuid

import pytest
from harness.gateway import STREAM
from harness.stub import say
from harness.tokens import mint

SETTINGS = {"http.cors_origins": "https://app.example", "upstream.models": "second-model"}
ORIGIN = {"Origin": "https://app.example"}


def assert_problem(response, status, code=None, param=None):
    """The one error shape."""
    assert response.status == status, response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    problem = response.json()
    assert problem["type"] == "about:blank" and problem["title"] and problem["detail"]
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    error = problem["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert error["message"] and error["type"]
    if code is not None:
        assert error["code"] == code
    if param is not None:
        assert error["param"] == param and param in problem["detail"]
    assert not re.search(r"/usr|/tmp|/home|libpq|jansson|h2o|curl|hiredis|select ", response.body.decode())
    return problem


def post(gateway, user, body, content_type="application/json", path=STREAM, **headers):
    fields = {"Authorization": f"Bearer {mint(user)}", "Content-Type": content_type, **headers}
    with gateway.connect() as connection:
        connection.request("POST", path, headers=fields, body=body)
        return connection.read_response()


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"hello", b"{", b'{"message":"x"', b'{"message":"x"}}', b"{'message':'x'}", b'{"message":"x",}']
    + [b'{message:"x"}', b'{"message":"a\nb"}', b'{"message":"\\q"}', b'\xef\xbb\xbf{"message":"x"}', b"[" * 20000],
)
def test_not_json(gateway, user, body):
    assert_problem(post(gateway, user, body), 400)


@pytest.mark.parametrize("body", [b"null", b"17", b'"message"', b"[]", b'[{"message":"x"}]'])
def test_not_an_object(gateway, user, body):
    assert_problem(post(gateway, user, body), 400)


@pytest.mark.parametrize(
    "key, value",
    [("message", value) for value in (None, 17, True, [], {}, "", "  \n\t ")]
    + [("session_id", value) for value in (17, "", "not-a-uuid", "0" * 35, "../../etc", True, "g" * 36, {})]
    + [("model", value) for value in ("unknown-model", 17, "", [])]
    + [("temperature", value) for value in ("hot", True, [], {})]
    + [("max_tokens", value) for value in ("many", 1.5, True, [])]
    + [("on_disconnect", value) for value in ("sometimes", 1, True)]
    + [("stream", value) for value in ("yes", 1, 0)]
    + [("use_rag", value) for value in ("yes", 1)],
)
def test_a_wrong_value_is_named(gateway, user, key, value):
    problem = assert_problem(post(gateway, user, json.dumps({"message": "x", key: value}).encode()), 400, param=key)
    assert problem["error"]["code"] == "invalid_value"


def test_a_missing_message_is_named(gateway, user):
    assert_problem(post(gateway, user, b'{"session_id":null}'), 400, "invalid_value", "message")


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe2\x82"]
    + [b"\\u0000", b"\\ud800", b"\\udc00", b"\\ud800x", b"\\udc00\\ud800", b"\x00", b"\x01"],
)
def test_text_that_is_no_text(gateway, user, stub, text):
    before = stub.stats()["requests"]
    assert_problem(post(gateway, user, b'{"message":"a' + text + b'b"}'), 400, param="message")
    assert stub.stats()["requests"] == before


def test_numbers_beyond_all_bounds(gateway, user):
    for number in ("1e999", "-1e999", "9" * 400, "0x10", "NaN", "Infinity", "01", "+1"):
        response = post(gateway, user, b'{"message":"x","temperature":%s}' % number.encode())
        assert response.status in (200, 400), number
        if response.status == 400:
            assert_problem(response, 400)


def test_a_key_given_twice(gateway, user):
    assert_problem(post(gateway, user, b'{"message":"a","message":"b"}'), 400)


def test_a_message_at_the_limit_and_beyond(gateway, user, database):
    directive = say("tokens=1", "")
    text = "é" * ((32768 - len(directive)) // 2) + directive
    text += "x" * (32768 - len(text.encode()))
    assert gateway.ask(user, f"  {text}  ").last["type"] == "done"
    assert database.await_messages(user, 2)[0]["content"] == text
    assert_problem(post(gateway, user, json.dumps({"message": text + "y"}).encode()), 400, param="message")


def test_a_body_beyond_the_limit(gateway, user):
    response = post(gateway, user, json.dumps({"message": "x", "padding": "y" * 300000}).encode())
    assert_problem(response, 413, "body_too_large")


def test_a_large_body_below_the_limit(gateway, user):
    body = {"message": say("tokens=1"), "padding": "y" * 200000}
    assert post(gateway, user, json.dumps(body).encode()).status == 200


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "", "json"])
def test_another_content_type(gateway, user, type_):
    assert_problem(post(gateway, user, b'{"message":"x"}', type_), 415, "unsupported_media_type")


def test_no_content_type(gateway, user):
    assert_problem(post(gateway, user, b'{"message":"x"}', None), 415, "unsupported_media_type")


@pytest.mark.parametrize("type_", ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"])
def test_spellings_of_json(gateway, user, type_):
    assert post(gateway, user, json.dumps({"message": say("tokens=1")}).encode(), type_).status == 200


# ---------------------------------------------------------------- routes


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/api/v1", "/api/v1/chat", "/api/v1/chat/message/stream/", "/api/v2/chat/message/stream"]
    + ["/api/v1/chat/sessions/not-a-uuid/messages", "/api/v1/chat/sessions//messages", "/.env", "/..%2f..%2fetc/passwd"]
    + ["/../../etc/passwd", "/%00", "//", "/assets/../main.c", "/" + "a" * 3000],
)
def test_unknown_paths(gateway, user, path):
    assert_problem(gateway.call("GET", path, user=user), 404, "not_found")


@pytest.mark.parametrize(
    "method, path, allowed",
    [("GET", STREAM, {"POST"}), ("DELETE", STREAM, {"POST"}), ("PUT", "/chat/message/stream", {"POST"})]
    + [("POST", "/api/v1/chat/sessions", {"GET"}), ("POST", "/api/v1/profile", {"GET", "PUT"})]
    + [("GET", f"/api/v1/chat/sessions/{uuid.UUID(int=1)}", {"PATCH", "DELETE"})]
    + [("POST", "/healthz", {"GET"}), ("BREW", "/", {"GET"}), ("get", "/healthz", {"GET"})],
)
def test_the_wrong_method(gateway, user, method, path, allowed):
    response = gateway.call(method, path, user=user)
    assert_problem(response, 405, "method_not_allowed")
    assert allowed <= set(response.headers["allow"].replace(" ", "").split(","))


def test_head_is_get_without_a_body(gateway):
    get, head = gateway.call("GET", "/"), gateway.call("HEAD", "/")
    assert head.status == get.status == 200
    assert head.headers["content-length"] == str(len(get.body))


def test_a_request_id_that_is_no_id_is_not_echoed(gateway, user):
    response = gateway.call("GET", "/nothing", headers={"X-Request-Id": 'x"\u00fc' + "y" * 3000})
    assert len(response.headers["x-request-id"]) <= 128
    assert_problem(response, 404)


# ---------------------------------------------------------------- CORS


@pytest.mark.parametrize("path", [STREAM, "/api/v1/profile", f"/api/v1/chat/sessions/{uuid.UUID(int=1)}"])
def test_preflight(gateway, path):
    headers = {
        **ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    response = gateway.call("OPTIONS", path, headers=headers)
    assert response.status == 204
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    assert "origin" in response.headers["vary"].lower()
    allowed = response.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    for name in ("authorization", "content-type", "accept", "last-event-id", "idempotency-key", "traceparent"):
        assert name in allowed
    for name in ("tracestate", "x-api-key", "anthropic-version", "x-stainless-lang", "x-stainless-retry-count"):
        assert name in allowed
    assert response.headers["access-control-allow-methods"]


def test_preflight_of_another_origin(gateway):
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    response = gateway.call("OPTIONS", STREAM, headers=headers)
    assert "access-control-allow-origin" not in response.headers


def test_cors_headers_are_on_errors_too(gateway, user):
    answers = [
        gateway.call("GET", "/nothing", headers=ORIGIN),
        gateway.call("POST", STREAM, {"message": "x"}, headers=ORIGIN),  # 401
        post(gateway, user, b"{", **ORIGIN),  # 400
        post(gateway, user, b"x" * 300000, **ORIGIN),  # 413
        gateway.call("DELETE", STREAM, headers=ORIGIN),  # 405
    ]
    assert [response.status for response in answers] == [404, 401, 400, 413, 405]
    for response in answers:
        assert response.headers["access-control-allow-origin"] == "https://app.example", response


def test_other_origins_get_no_cors_headers(gateway):
    for origin in ("https://evil.example", "null", "https://app.example.evil.example", "http://app.example"):
        response = gateway.call("GET", "/healthz", headers={"Origin": origin})
        assert "access-control-allow-origin" not in response.headers


def test_all_of_it_left_the_server_well(gateway, user):
    assert gateway.ask(user, say("tokens=2")).last["type"] == "done"
