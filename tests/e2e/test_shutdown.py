"""Stopping, reloading, and the commands of the binary: nothing is lost, exit codes mean something."""

import signal
import time

import pytest
from harness.db import Database
from harness.gateway import migrate, run_once
from harness.stub import answer, say
from harness.tokens import SECRET
from harness.wait import wait_until

# ---------------------------------------------------------------- SIGTERM


def test_a_running_turn_finishes_and_new_ones_are_refused(start, user, database):
    gateway = start()
    waiting = gateway.connect()  # an idle connection from before
    with gateway.open(user, say("tokens=20 gap=60")) as stream:
        stream.until("token")
        gateway.terminate()
        wait_until(lambda: gateway.events("draining"), what="the log says that it drains")
        refused = gateway.open(user, say("tokens=1"), connection=waiting)
        assert refused.status == 503
        assert int(refused.response.headers["retry-after"]) >= 1
        assert refused.response.json()["error"]["code"] == "shutting_down"
        turn = stream.finish()
    assert turn.text == answer(20) and turn.last["type"] == "done"
    assert gateway.await_exit() == 0
    assert database.await_messages(user, 2)[1]["status"] == "complete"


def test_readyz_says_no_while_draining_and_healthz_yes(start, user):
    gateway = start()
    health, ready = gateway.connect(), gateway.connect()
    with gateway.open(user, say("tokens=10 gap=60")) as stream:
        stream.until("token")
        gateway.terminate()
        wait_until(lambda: gateway.events("draining"), what="the log says that it drains")
        health.request("GET", "/healthz")
        assert health.read_response().status == 200
        ready.request("GET", "/readyz")
        response = ready.read_response()
        assert response.status == 503 and response.json()["draining"] is True
        stream.finish()
    assert gateway.await_exit() == 0


def test_at_the_deadline_what_is_unfinished_is_saved_as_interrupted(start, user, database):
    gateway = start({"shutdown.timeout_s": 1})
    with gateway.open(user, say("stall_after=3 tokens=9")) as stream:
        stream.until("token")
        began = time.monotonic()
        gateway.terminate()
        turn = stream.finish()
    assert gateway.await_exit() == 0
    assert 0.8 < time.monotonic() - began < 15
    assert turn.end == "clean" and turn.text == answer(3)
    assert turn.last["type"] == "error" and turn.last["code"] == "shutting_down"
    assert turn.last["retryable"] is True and turn.last["saved"] is True
    reply = database.await_messages(user, 2)[1]
    assert reply["status"] == "interrupted" and reply["content"] == answer(3)


def test_a_second_sigterm_does_not_wait(start, user, database):
    gateway = start({"shutdown.timeout_s": 60})
    with gateway.open(user, say("stall_after=1 tokens=9")) as stream:
        stream.until("token")
        gateway.terminate()
        wait_until(lambda: gateway.events("draining"), what="the log says that it drains")
        gateway.terminate()
        assert stream.finish().last["code"] == "shutting_down"
    assert gateway.await_exit(20) == 0
    assert database.await_messages(user, 2)[1]["status"] == "interrupted"


def test_sigint_is_sigterm(start):
    gateway = start()
    gateway.process.send_signal(signal.SIGINT)
    assert gateway.await_exit(20) == 0


def test_an_idle_server_stops_at_once(start):
    gateway = start()
    connections = [gateway.connect() for _ in range(5)]
    began = time.monotonic()
    gateway.terminate()
    assert gateway.await_exit() == 0
    assert time.monotonic() - began < 5
    for connection in connections:
        assert connection.read_all() == b""


def test_everything_queued_is_written_before_the_end(start, user, database):
    gateway = start()
    for i in range(30):
        stream = gateway.open(f"{user}-{i}", say("tokens=2"))
        stream.until("token")
        stream.close()  # nobody waits for the end
    gateway.terminate()
    assert gateway.await_exit() == 0
    for i in range(30):
        assert len(database.messages(f"{user}-{i}")) == 2


def test_what_postgres_does_not_have_is_no_loss(start, user, own_postgres, own_database):
    """With Postgres away to the end the process ends cleanly: the journal has the messages."""
    gateway = start({"database.url": own_database.url, "shutdown.drain_timeout_s": 1})
    own_postgres.stop()
    turn = gateway.ask(user, say("tokens=1"))
    assert turn.last["type"] == "done" and "accepted" in turn.types
    gateway.terminate()
    assert gateway.await_exit() == 0
    (stopped,) = gateway.events("stopped")
    assert stopped["records_not_written"] == 0


# ---------------------------------------------------------------- SIGHUP


def config_file(tmp_path, settings, **sections):
    text = "".join(f'{name}: {{{", ".join(f"{k}: {v}" for k, v in keys.items())}}}\n' for name, keys in sections.items())
    path = tmp_path / "sluice.yaml"
    path.write_text(text)
    return path


def test_sighup_takes_what_can_be_taken(start, user, settings, tmp_path):
    path = config_file(tmp_path, settings, chat={"message_max_bytes": 1000}, redis={"timeout_ms": 50})
    gateway = start(arguments=["--config", str(path)])
    assert gateway.ask(user, say("tokens=1", "x" * 500)).last["type"] == "done"
    with gateway.open(user, say("tokens=10 gap=50")) as running:
        running.until("token")
        config_file(tmp_path, settings, chat={"message_max_bytes": 100}, redis={"timeout_ms": 70})
        gateway.process.send_signal(signal.SIGHUP)
        reloaded = wait_until(lambda: gateway.events("reloaded"), what="the log says so")[0]
        assert "redis.timeout_ms" in reloaded["needs_restart"]
        wait_until(lambda: gateway.open(user, "x" * 500).status == 400, what="the new limit holds")
        assert running.finish().text == answer(10)


def test_sighup_with_a_broken_file_changes_nothing(start, user, settings, tmp_path):
    path = config_file(tmp_path, settings, chat={"message_max_bytes": 1000})
    gateway = start(arguments=["--config", str(path)])
    path.write_text("chat: {message_max_bytes: many}\n")
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gateway.events("reload_failed"), what="the log says so")
    assert gateway.ask(user, say("tokens=1", "x" * 500)).last["type"] == "done"


# ---------------------------------------------------------------- commands


GOOD = {"upstream.url": "http://127.0.0.1:9/v1", "jwt.secret": SECRET}


def test_check_config_is_content(tmp_path):
    done = run_once(["--check-config"], GOOD)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "key, value",
    [("upstream.url", None), ("upstream.url", "not a url"), ("jwt.secret", None), ("jwt.secret", "short")]
    + [("threads", "many"), ("threads", "-1"), ("listen", "nowhere"), ("chat.heartbeat_s", "0")]
    + [("jwt.leeway_s", "3600"), ("redis.url", "http://x"), ("database.timeout_ms", "1.5")]
    + [("jwt.jwks_file", "/nonexistent/jwks.json"), ("upstream.temperature_max", "hot")],
)
def test_check_config_names_the_bad_key(key, value):
    settings = {**GOOD, key: value}
    if key == "jwt.jwks_file":
        del settings["jwt.secret"]
    for arguments in (["--check-config"], []):
        done = run_once(arguments, settings)
        assert done.returncode == 2, done
        assert len(done.stderr.splitlines()) == 1
        assert key in done.stderr or "SLUICE_" + key.upper().replace(".", "_") in done.stderr
        assert SECRET not in done.stderr and "short" not in done.stderr


@pytest.mark.parametrize(
    "text, key",
    [("threads: [1]\n", "threads"), ("nonsense: 1\n", "nonsense"), ("chat: {heartbeat: 3}\n", "heartbeat")]
    + [("chat: 3\n", "chat"), ("chat:\n  heartbeat_s: 1\n  heartbeat_s: 2\n", "heartbeat_s")],
)
def test_check_config_names_the_bad_key_of_a_file(tmp_path, text, key):
    path = tmp_path / "sluice.yaml"
    path.write_text(text)
    done = run_once(["--config", str(path), "--check-config"], GOOD)
    assert done.returncode == 2 and key in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["\t{", "a: [", "- 1\n- 2\n", "\0\xff"])
def test_check_config_of_a_file_that_is_no_yaml(tmp_path, text):
    path = tmp_path / "sluice.yaml"
    path.write_bytes(text.encode("latin-1"))
    done = run_once(["--config", str(path), "--check-config"], GOOD)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


def test_check_config_of_a_file_that_is_not_there():
    done = run_once(["--config", "/nonexistent/sluice.yaml", "--check-config"], GOOD)
    assert done.returncode == 2 and "/nonexistent/sluice.yaml" in done.stderr


def test_the_environment_wins_over_the_file(tmp_path):
    path = tmp_path / "sluice.yaml"
    path.write_text("threads: 3\nchat: {heartbeat_s: 7}\n")
    done = run_once(["--config", str(path), "--print-config"], {**GOOD, "threads": 5})
    assert done.returncode == 0
    assert "threads: 5" in done.stdout and "heartbeat_s: 7" in done.stdout
    assert SECRET not in done.stdout and "***" in done.stdout


def test_printed_configuration_is_a_configuration(tmp_path):
    path = tmp_path / "sluice.yaml"
    printed = run_once(["--print-config"], GOOD).stdout
    path.write_text("\n".join(line for line in printed.splitlines() if "***" not in line) + "\n")
    done = run_once(["--config", str(path), "--print-config"], GOOD)
    assert done.returncode == 0 and done.stdout == printed


def test_usage_and_version():
    assert run_once(["--version"], {}).stdout.startswith("sluice ")
    for arguments in (["--nonsense"], ["migrate", "twice"], ["--config"]):
        done = run_once(arguments, GOOD)
        assert done.returncode == 2 and done.stderr


def test_a_taken_port_is_a_clear_failure(gateway, settings):
    """Another kind of socket on the port: SO_REUSEPORT does not make them share."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_once([], {**settings, "jwt.secret": SECRET, "listen": address})
    assert done.returncode == 1 and "listen" in done.stderr and address in done.stderr


def test_migrate_twice(postgres):
    url = postgres.create_database("migrated-twice")
    first = migrate(url)
    second = migrate(url)
    assert first.returncode == second.returncode == 0
    assert "0001" in first.stdout and first.stdout != second.stdout


def test_migrate_without_a_database():
    done = migrate("postgresql:///x?host=/nonexistent")
    assert done.returncode == 1 and done.stdout + done.stderr


def test_start_on_a_database_that_was_never_migrated(start, postgres, user):
    url = postgres.create_database("never-migrated")
    settings = {"database.url": url, "writer.save_timeout_ms": 300, "shutdown.drain_timeout_s": 1}
    gateway = start(settings, connected=False)
    turn = gateway.ask(user, say("tokens=2"))
    assert turn.text == answer(2)
    assert turn.last["type"] == "done"
    migrate(url)
    # Systemic, not the row's fault: it was kept, and is written once the tables are there.
    Database(url).await_messages(user, 2, timeout=30)
