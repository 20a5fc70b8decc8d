"""Secrets and hostile input: whatever a client sends, the log stays one JSON object per line, and neither what was
said nor a secret shows anywhere but where it belongs.

Every secret has a word of its own in it, and so has every hostile input; they are then searched for in the log, on
/metrics and /readyz, in the bodies of errors and in the command line. That each line is one JSON object is checked
at the end of each gateway.
"""

import json
import random
import signal
import socket
import uuid

import pytest
from harness.gateway import STREAM, TURNS
from harness.many import at_once
from harness.stub import say
from harness.tokens import SECRET, b64, mint, new_user
from harness.wait import wait_until

INPUTS = 500
SECRETS = {
    "redis password": "canary-redis-5f1c",
    "database password": "canary-database-90ab",
    "upstream key": "sk-canary-upstream-77d2",
    "signing key": SECRET,
}


def fresh_word():
    return f"canary{uuid.uuid4().hex}"


@pytest.fixture
def redis_with_password(own_redis):
    """The URL of a Redis that asks for its password; passwords are for TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = own_redis.client()
    client.config_set("port", port)
    client.config_set("requirepass", SECRETS["redis password"])
    return f"redis://:{SECRETS['redis password']}@127.0.0.1:{port}/0"


@pytest.fixture
def sealed(start, settings, redis_with_password):
    """A gateway with a secret in every place that takes one, which says all that it ever says."""
    return start(
        {
            "redis.url": redis_with_password,
            "database.url": f"{settings['database.url']}&password={SECRETS['database password']}",
            "upstream.api_key": SECRETS["upstream key"],
            "upstream.breaker_failures": 0,
            "upstream.idle_timeout_ms": 500,
            "http.request_timeout_ms": 1000,  # what is no whole request
            "log": "debug",
        }
    )


def what_operators_see(gateway):
    """{place: text}; the log as it is so far."""
    pages = {path: gateway.call("GET", path).body.decode() for path in ("/metrics", "/readyz", "/healthz")}
    with open(f"/proc/{gateway.process.pid}/cmdline", encoding="utf-8") as file:
        return {**pages, "the command line": file.read(), "the log": "\n".join(gateway.lines)}


def assert_nowhere(words, places):
    """`words`: {what it is: word}; `places`: {where: text}."""
    found = [(what, where) for what, word in words.items() for where, text in places.items() if word in text]
    assert not found, found


def settled(gateway):
    """Nothing runs, and the log has what was said: its lines come in order."""
    wait_until(lambda: gateway.metric("sluice_turns_active") == 0, what="no turn runs")
    user = new_user()
    gateway.turn_line(gateway.ask(user, say("tokens=1")).turn_id)


# ---------------------------------------------------------------- hostile input

SHAPES = {
    "plain": b"%s",
    "control characters": b"\x01\x02\x07\x08%s\x0b\x0c\x0e\x1f\x7f",
    "quotes": b"\"%s\\\"',}]}\\",
    "a line of its own": b'\n{"event":"turn","level":"%s"}\n',
    "carriage return": b"\r\n%s\r{}\r",
    "NUL": b"\x00%s\x00",
    "invalid UTF-8": b"\xff\xfe\xc0\xaf%s\xed\xa0\x80\xf5",
    "other line ends": b"\xe2\x80\xa8%s\xc2\x85\xe2\x80\xa9",
    "format strings": b"%%s%%n%%x%s%%1000000d%%hhn%%*s",
    "terminal escapes": b"\x1b[2J\x1b]0;%s\x07\x1b[31m\x9b1m",
    "markup": b"<script>%s</script><!--",
    "very long": b"%s" + b"A" * 20000,
    "paths": b"/../../%s/%%2e%%2e/%%00",
    "escapes": b"\\u0000\\ud800%s\\udfff\\x",
}


def hostile(shape, word):
    return SHAPES[shape] % word.encode()


def in_message(text):
    """As JSON that is valid: the text arrives as it is, if it is UTF-8."""
    return {"body": json.dumps({"message": text.decode("utf-8", "replace")}).encode()}


def in_raw_message(text):
    return {"body": b'{"message":"' + text + b'"}'}


def in_answer(text):
    """The model says it, too."""
    said = "".join(text.decode("utf-8", "replace")[:2000].splitlines()).replace("]]", "")
    return {"body": json.dumps({"message": say(f"text={said}")}).encode()}


def in_session(text):
    return {"body": json.dumps({"message": "x", "session_id": text.decode("latin-1")}).encode()}


def in_model(text):
    return {"body": json.dumps({"message": "x", "model": text.decode("utf-8", "replace")}).encode()}


def in_key(text):
    """The one thing that an error may quote to who sent it: the name of the key at fault."""
    return {"body": json.dumps({"message": "x", text.decode("utf-8", "replace"): 1}).encode(), "is_quoted": True}


def in_body(text):
    return {"body": text}


def in_header(name):
    return lambda text: {"headers": {name: text.decode("latin-1")}, "body": b'{"message":"x"}'}


def in_token(text):
    return {"headers": {"Authorization": f"Bearer {text.decode('latin-1')}"}, "body": b'{"message":"x"}'}


def in_claim(text):
    """A good signature under a user id that is no good."""
    return {"headers": {"Authorization": f"Bearer {mint(text.decode('latin-1'))}"}, "body": b'{"message":"x"}'}


def in_token_head(text):
    head = b64(json.dumps({"alg": text.decode("latin-1"), "kid": text.decode("latin-1")}).encode())
    token = f"{head}.{mint('x').split('.', 1)[1]}"
    return {"headers": {"Authorization": f"Bearer {token}"}, "body": b'{"message":"x"}'}


def in_path(text):
    return {"method": "GET", "path": f"/{text.decode('latin-1')}"}


def in_query(text):
    return {"method": "GET", "path": f"/api/v1/chat/sessions?limit=1&cursor={text.decode('latin-1')}"}


def in_turn_id(text):
    return {"method": "GET", "path": f"{TURNS}/{text.decode('latin-1')}/stream"}


def in_method(text):
    return {"method": text.decode("latin-1"), "path": STREAM}


def in_profile(text):
    return {"method": "PUT", "path": "/api/v1/profile", "body": b'{"name":"' + text + b'"}'}


def in_title(text):
    body = json.dumps({"title": text.decode("utf-8", "replace")}).encode()
    return {"method": "PATCH", "path": f"/api/v1/chat/sessions/{uuid.uuid4()}", "body": body}


PLACES = [in_message, in_raw_message, in_answer, in_session, in_model, in_key, in_body, in_token, in_claim]
PLACES += [in_token_head, in_path, in_query, in_turn_id, in_method, in_profile, in_title]
HEADERS = ("Last-Event-ID", "Idempotency-Key", "Accept", "User-Agent", "Origin", "Content-Type")
HEADERS += ("X-Forwarded-For", "traceparent", "Cookie", "Host", "X-Session-Id")
KEPT = in_header("X-Request-Id")  # logged on purpose, if it is plain
PLACES += [KEPT, *(in_header(name) for name in HEADERS)]


def hostile_inputs():
    """`[(word, request)]`: every shape in every place at first, then at random."""
    pairs = [(shape, place) for place in PLACES for shape in SHAPES]
    pairs.remove(("plain", KEPT))
    rng = random.Random(1)
    pairs += rng.choices(pairs, k=max(0, INPUTS - len(pairs)))
    inputs = []
    for shape, place in pairs:
        word = fresh_word()
        inputs.append((word, place(hostile(shape, word))))
    return inputs


def send(gateway, request):
    """The body of the error that it is answered with; None: it is answered, or the connection is closed."""
    fields = {"Authorization": f"Bearer {mint(new_user())}", "Connection": "close", **request.get("headers", {})}
    with gateway.connect() as connection:
        try:
            connection.request(
                request.get("method", "POST"), request.get("path", STREAM), headers=fields, body=request.get("body")
            )
        except OSError:
            pass  # it has been refused before all of it was sent
        raw = connection.read_all()
    head, _, body = raw.partition(b"\r\n\r\n")
    refused = head[9:10] in (b"4", b"5")
    return (head + body).decode("utf-8", "replace") if refused else None


def test_hostile_input_leaves_no_trace(sealed, database):
    inputs = hostile_inputs()
    assert len(inputs) >= INPUTS
    errors = at_once(lambda one: send(sealed, one[1]), inputs, threads=16)
    known = fresh_word()
    errors.append(send(sealed, KEPT(known.encode())))
    settled(sealed)
    assert len(sealed.events("turn")) > INPUTS / 4 and sum(error is not None for error in errors) > INPUTS / 4
    count = "select count(*) from chat_messages where role = %s and content like %s"
    for role in ("user", "assistant"):
        (row,) = database.query(count, role, "%canary%")
        assert row["count"] >= len(SHAPES), f"many were to be taken for what a {role} says"
    for (word, request), error in zip(inputs, errors):
        assert error is None or word not in error or request.get("is_quoted"), error
    places = {**what_operators_see(sealed), "errors": "\n".join(filter(None, errors))}
    assert_nowhere(SECRETS, places)
    assert sealed.metric("sluice_log_lines_dropped_total") == 0
    sealed.terminate()
    assert sealed.await_exit() == 0
    places["the log"] = "\n".join(sealed.lines)
    assert known in places["the log"], "what is in it would be found"
    del places["errors"]
    assert_nowhere({f"input {number}": word for number, (word, _) in enumerate(inputs)}, places)
    for line in sealed.lines:
        assert isinstance(json.loads(line), dict), line
        assert line.isprintable(), "nothing that a terminal would obey"


# ---------------------------------------------------------------- secrets where something fails


def test_no_secret_shows_when_things_go_wrong(sealed, own_redis):
    """The model refuses and breaks off, the configuration is read again, Redis is gone."""
    token, words = mint(new_user()), {}
    words |= {"token": token, "signature": token.split(".")[2], **SECRETS}
    bodies = {}
    for number, fault in enumerate(("status=401", "status=500", "fin_after=1", "malformed=1 tokens=2", "html")):
        words[f"prompt {number}"] = fresh_word()
        message = say(fault, words[f"prompt {number}"])
        turn = sealed.ask(new_user(), message, headers={"Authorization": f"Bearer {token}"})
        bodies[fault] = turn.raw.decode()
        assert turn.last["type"] == "error", fault
    sealed.process.send_signal(signal.SIGHUP)
    wait_until(lambda: sealed.events("reloaded"), what="the configuration is read again")

    own_redis.stop()
    wait_until(lambda: sealed.metric("sluice_redis_links_up") == 0, what="Redis is missed")
    assert sealed.ask(new_user(), say("tokens=1")).last["type"] == "done"
    settled(sealed)
    assert_nowhere(words, {**bodies, **what_operators_see(sealed)})
    sealed.terminate()
    assert sealed.await_exit() == 0
    assert_nowhere(words, {"the log": "\n".join(sealed.lines)})


def test_passwords_that_are_refused_do_not_show(start, settings, redis_with_password):
    """Wrong ones, so that client libraries have something to complain of."""
    words = {"redis password": fresh_word(), "database password": fresh_word()}
    redis_url = redis_with_password.replace(SECRETS["redis password"], words["redis password"])
    database_url = settings["database.url"].replace("user=", f"password={words['database password']}&user=no-")
    gateway = start({"redis.url": redis_url, "database.url": database_url, "log": "debug"}, connected=False)
    turn = gateway.ask(new_user(), say("tokens=1"))
    listed = gateway.call("GET", "/api/v1/chat/sessions", user=new_user())
    assert turn.last["type"] == "done" and listed.status == 503
    assert gateway.metric("sluice_redis_links_up") == gateway.metric("sluice_database_links_up") == 0
    gateway.turn_line(turn.turn_id)
    places = {**what_operators_see(gateway), "the stream": turn.raw.decode(), "the error": listed.body.decode()}
    assert_nowhere(words, places)
    gateway.terminate()
    assert gateway.await_exit() == 0
    assert_nowhere(words, {"the log": "\n".join(gateway.lines)})
