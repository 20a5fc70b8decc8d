"""Who may in: one 401 for every reason, and nothing that lets a token choose how it is checked."""

import base64
import hashlib
import json
import time

import pytest
from harness.gateway import STREAM
from harness.tokens import SECRET, b64, mint, new_user

SETTINGS = {"jwt.issuer": "https://issuer.example", "jwt.audience": "sluice", "jwt.leeway_s": 5}
CLAIMS = {"iss": "https://issuer.example", "aud": "sluice"}


def unsigned(header, user="mallory"):
    payload = {"sub": user, "exp": int(time.time()) + 3600, **CLAIMS}
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(payload).encode())}"


def tampered():
    head, body, signature = mint("mallory", **CLAIMS).split(".")
    payload = json.loads(base64.urlsafe_b64decode(body + "=="))
    return f"{head}.{b64(json.dumps({**payload, 'sub': 'admin'}).encode())}.{signature}"


BAD = {
    "none at all": None,
    "empty": "",
    "no scheme": mint("u", **CLAIMS),
    "basic": "Basic dXNlcjpwYXNz",
    "bearer of nothing": "Bearer ",
    "rubbish": "Bearer rubbish",
    "two parts": "Bearer a.b",
    "four parts": "Bearer a.b.c.d",
    "not base64": "Bearer !!!.???.***",
    "alg none": "Bearer " + unsigned({"alg": "none"}) + ".",
    "alg None": "Bearer " + unsigned({"alg": "None", "typ": "JWT"}) + ".",
    "alg absent": "Bearer " + mint("u", header={"typ": "JWT"}, **CLAIMS),
    "alg RS256": "Bearer " + mint("u", header={"alg": "RS256"}, **CLAIMS),
    "alg HS512": "Bearer " + mint("u", header={"alg": "HS512"}, digest=hashlib.sha512, **CLAIMS),
    "alg HS384": "Bearer " + mint("u", header={"alg": "HS384"}, digest=hashlib.sha384, **CLAIMS),
    "alg hs256": "Bearer " + mint("u", header={"alg": "hs256"}, **CLAIMS),
    "crit": "Bearer " + mint("u", header={"alg": "HS256", "crit": ["exp"]}, **CLAIMS),
    "another key": "Bearer " + mint("u", secret="x" * 40, **CLAIMS),
    "an empty key": "Bearer " + mint("u", secret="", **CLAIMS),
    "a key in the header": "Bearer "
    + mint("u", secret="x" * 40, header={"alg": "HS256", "jwk": {"kty": "oct", "k": b64(b"x" * 40)}}, **CLAIMS),
    "tampered": "Bearer " + tampered(),
    "expired": "Bearer " + mint("u", expires_in=-60, **CLAIMS),
    "no exp": "Bearer " + mint("u", exp=None, **CLAIMS),
    "exp as text": "Bearer " + mint("u", exp="9999999999", **CLAIMS),
    "not yet": "Bearer " + mint("u", nbf=int(time.time()) + 600, **CLAIMS),
    "no sub": "Bearer " + mint(None, **CLAIMS),
    "empty sub": "Bearer " + mint("", **CLAIMS),
    "sub is a number": "Bearer " + mint(17, **CLAIMS),
    "sub is long": "Bearer " + mint("x" * 256, **CLAIMS),
    "NUL in sub": "Bearer " + mint("a\0b", **CLAIMS),
    "newline in sub": "Bearer " + mint("a\nb", **CLAIMS),
    "another issuer": "Bearer " + mint("u", iss="https://evil.example", aud="sluice"),
    "no issuer": "Bearer " + mint("u", aud="sluice"),
    "another audience": "Bearer " + mint("u", iss="https://issuer.example", aud="other"),
    "no audience": "Bearer " + mint("u", iss="https://issuer.example"),
    "a huge one": "Bearer " + mint("u", padding="x" * 9000, **CLAIMS),
}


def refused(gateway, authorization, path=STREAM):
    headers = {} if authorization is None else {"Authorization": authorization}
    with gateway.connect() as connection:
        connection.request("POST", path, headers=headers, body={"message": "hello"})
        return connection.read_response()


@pytest.fixture(scope="module")
def reference(gateway):
    return refused(gateway, None)


@pytest.mark.parametrize("reason", BAD)
def test_every_bad_token_gets_the_same_answer(gateway, reference, reason):
    response = refused(gateway, BAD[reason])
    assert response.status == 401, response
    assert response.body == reference.body
    assert response.headers["www-authenticate"] == reference.headers["www-authenticate"] == "Bearer"
    assert set(response.headers) == set(reference.headers)


def test_the_answer_says_nothing_of_the_reason(reference):
    assert reference.headers["content-type"] == "application/problem+json"
    problem = reference.json()
    assert problem["status"] == 401 and problem["error"]["code"] == "invalid_token"
    for word in ("expired", "signature", "issuer", "audience", "alg"):
        assert word not in reference.body.decode().lower()


@pytest.mark.parametrize(
    "method, path",
    [("GET", "/api/v1/chat/sessions"), ("GET", "/api/v1/profile"), ("PUT", "/api/v1/profile")]
    + [("POST", "/api/v1/chat/preload"), ("POST", "/chat/message/stream")]
    + [("DELETE", "/api/v1/chat/sessions/00000000-0000-7000-8000-000000000000")]
    + [("GET", "/api/v1/chat/sessions/00000000-0000-7000-8000-000000000000/messages")],
)
def test_every_api_route_wants_a_token(gateway, reference, method, path):
    response = gateway.call(method, path, {} if method in ("PUT", "POST") else None)
    assert response.status == 401 and response.body == reference.body


def test_good_tokens(gateway):
    good = [
        mint(new_user(), **CLAIMS),
        mint(new_user(), iss=CLAIMS["iss"], aud=["other", "sluice"]),
        mint(new_user(), nbf=int(time.time()) - 10, iat=int(time.time()), **CLAIMS),
        mint(new_user(), nbf=int(time.time()) + 3, **CLAIMS),  # within the leeway
        mint(new_user(), expires_in=-2, **CLAIMS),  # within the leeway
    ]
    for token in good:
        response = gateway.call("GET", "/api/v1/chat/sessions", token=token)
        assert response.status == 200, response


def test_the_scheme_in_any_case(gateway):
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {mint(new_user(), **CLAIMS)}"}
        assert gateway.call("GET", "/api/v1/chat/sessions", headers=headers).status == 200


def test_a_remembered_token_still_expires(start):
    gateway = start({"jwt.leeway_s": 0})
    token = mint(new_user(), expires_in=2)
    assert gateway.call("GET", "/api/v1/chat/sessions", token=token).status == 200
    assert gateway.call("GET", "/api/v1/chat/sessions", token=token).status == 200
    deadline = time.monotonic() + 5
    while gateway.call("GET", "/api/v1/chat/sessions", token=token).status == 200:
        assert time.monotonic() < deadline, "the token outlives its exp"
        time.sleep(0.1)


def test_a_jwks_file_in_place_of_a_secret(start, tmp_path):
    jwks = tmp_path / "jwks.json"
    keys = [{"kty": "oct", "kid": "one", "alg": "HS256", "k": b64(SECRET.encode())}]
    jwks.write_text(json.dumps({"keys": keys}))
    gateway = start({"jwt.secret": None, "jwt.jwks_file": str(jwks)})
    good = mint(new_user(), header={"alg": "HS256", "kid": "one"})
    assert gateway.call("GET", "/api/v1/chat/sessions", token=good).status == 200
    for header in ({"alg": "HS256", "kid": "../one"}, {"alg": "RS256", "kid": "one"}, {"alg": "none", "kid": "one"}):
        assert gateway.call("GET", "/api/v1/chat/sessions", token=mint("u", header=header)).status == 401


def test_a_refused_turn_never_reaches_the_model(gateway, stub):
    before = stub.stats()["requests"]
    refused(gateway, "Bearer " + tampered())
    assert stub.stats()["requests"] == before
