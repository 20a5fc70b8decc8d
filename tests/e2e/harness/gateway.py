"""The server under test: the real binary, its log, its exit."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading

from . import tokens
from .http import Connection
from .process import spawn
from .sse import Stream
from .wait import wait_until

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BINARY = os.environ.get("SLUICE_BINARY") or os.path.join(ROOT, "build", "asan", "sluice")
STUB_BINARY = os.environ.get("SLUICE_STUB") or os.path.join(os.path.dirname(BINARY), "loadtest", "llm_stub")
STREAM = "/api/v1/chat/message/stream"
TURNS = "/api/v1/chat/turns"

_SANITIZER = re.compile(r"Sanitizer|runtime error:|DEADLYSIGNAL")
_SUPPRESSIONS = os.path.join(os.path.dirname(__file__), "..")


def environment(settings):
    """`{"chat.heartbeat_s": 1}` as SLUICE_CHAT_HEARTBEAT_S=1, without the caller's own SLUICE_...

    A list (`upstreams`) becomes JSON.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    env["ASAN_OPTIONS"] = "detect_leaks=1:exitcode=99:detect_stack_use_after_return=1"
    env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1:exitcode=99"
    env["TSAN_OPTIONS"] = "halt_on_error=0:exitcode=99:second_deadlock_stack=1"
    for tool in ("lsan", "tsan"):
        path = os.path.join(_SUPPRESSIONS, f"{tool}.supp")
        if os.path.exists(path):
            options = f'print_suppressions=0:suppressions="{path}"'  # quoted: blanks divide options
            env[f"{tool.upper()}_OPTIONS"] = ":".join(filter(None, [env.get(f"{tool.upper()}_OPTIONS"), options]))
    for key, value in settings.items():
        if value is not None:
            text = json.dumps(value) if isinstance(value, (bool, list)) else str(value)
            env["SLUICE_" + key.upper().replace(".", "_")] = text
    return env


def _with_preload(env, preload):
    if preload:
        env.update(preload)
        env["ASAN_OPTIONS"] += ":verify_asan_link_order=0"  # the shim comes before the sanitizer's runtime
    return env


def run_once(arguments, settings, timeout=60, env=None):
    """Runs the binary to its end: --check-config, migrate. `env`: more of its environment."""
    return subprocess.run(
        [BINARY, *arguments],
        env={**environment(settings), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def migrate(database_url):
    """`sluice migrate`; the rest of the configuration only has to be valid."""
    settings = {"database.url": database_url, "upstream.url": "http://127.0.0.1:9/v1", "jwt.secret": tokens.SECRET}
    return run_once(["migrate"], settings)


class Gateway:
    def __init__(self, settings, *, limits=(), arguments=(), preload=None, env=None, within=()):
        """`preload`: {"LD_PRELOAD": ..., ...} for a shim between the gateway and the system.

        `env`: more of its environment. `within`: the command, such as unshare, that becomes the gateway.
        """
        self.folder = tempfile.mkdtemp(prefix="sluice-gw.", dir="/tmp")
        self.settings = {
            "listen": "127.0.0.1:0",
            "threads": 2,
            "jwt.secret": tokens.SECRET,
            "journal.dir": f"{self.folder}/journal",
            **settings,
        }
        self.lines = []  # of the log, as text
        self.exit_code = None
        self.process = spawn(
            [*within, BINARY, *arguments],
            limits=limits,
            env={**_with_preload(environment(self.settings), preload), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self.address = wait_until(self._listening, 30, "the gateway listens")

    def _read_log(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def _listening(self):
        for event in self.events("listening"):
            return event["address"]
        assert self.process.poll() is None, "the gateway ended:\n" + "\n".join(self.lines)
        return None

    # ---- its log

    def events(self, name, **fields):
        """The log lines with this `event` and these fields."""
        found = []
        for line in list(self.lines):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("event") == name and all(entry.get(key) == value for key, value in fields.items()):
                found.append(entry)
        return found

    def turn_line(self, turn_id):
        """The one log line of a turn."""
        wait_until(lambda: self.events("turn", turn_id=turn_id), what="the turn's log line")
        (line,) = self.events("turn", turn_id=turn_id)
        return line

    def turn_lines(self, turns):
        """The log lines of many turns, in their order."""
        wanted = {turn.turn_id for turn in turns}

        def lines():
            found = {line["turn_id"]: line for line in self.events("turn") if line["turn_id"] in wanted}
            return len(found) == len(wanted) and found

        found = wait_until(lines, what="the turns' log lines")
        return [found[turn.turn_id] for turn in turns]

    # ---- talking to it

    def connect(self, **options):
        return Connection(self.address, **options)

    def call(self, method, path, body=None, *, user=None, token=None, headers=None, address=None, connection=None):
        """One request, on a connection of its own unless there is one."""
        if connection is None:
            with Connection(address or self.address) as own:
                return self.call(method, path, body, user=user, token=token, headers=headers, connection=own)
        token = token or (tokens.mint(user) if user else None)
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        fields.update(headers or {})
        connection.request(method, path, headers=fields, body=body)
        return connection.read_response(head_only=method == "HEAD")

    def open(self, user, message, *, path=STREAM, headers=None, connection=None, options=None, **body):
        """Starts a turn and returns its stream, of which only the head has been read."""
        connection = connection or self.connect(**(options or {}))
        fields = {"Authorization": f"Bearer {tokens.mint(user)}", "Accept": "*/*", **(headers or {})}
        connection.request("POST", path, headers=fields, body={"message": message, **body})
        return Stream(connection, with_ids="text/event-stream" in fields["Accept"])

    def ask(self, user, message, **options):
        """A whole turn."""
        stream = self.open(user, message, **options).finish()
        if "connection" not in options:
            stream.close()
        return stream

    def follow(self, user, turn_id, *, after=None, last_event_id=None, headers=None, connection=None):
        """GET …/turns/{turn_id}/stream, of which only the head has been read; both cursors as they are sent."""
        connection = connection or self.connect()
        path = f"{TURNS}/{turn_id}/stream" + ("" if after is None else f"?after={after}")
        fields = {"Authorization": f"Bearer {tokens.mint(user)}", "Accept": "*/*", "Last-Event-ID": last_event_id}
        fields.update(headers or {})
        connection.request("GET", path, headers=fields)
        with_ids = "text/event-stream" in fields["Accept"]
        return Stream(connection, with_ids=with_ids, after=_cursor(last_event_id or after))

    def repeat(self, user, message, last_event_id, *, headers=None, connection=None, **body):
        """The POST that asked, sent again with Last-Event-ID."""
        stream = self.open(
            user, message, headers={"Last-Event-ID": last_event_id, **(headers or {})}, connection=connection, **body
        )
        stream.after = _cursor(last_event_id)
        return stream

    def stop_turn(self, user, turn_id, *, connection=None):
        return self.call("POST", f"{TURNS}/{turn_id}/stop", user=user, connection=connection)

    def metrics(self):
        """{(name, labels): value}, labels as they are written, "" for none."""
        found = {}
        ops_address = self.events("listening")[0]["ops_address"] or self.address
        for line in self.call("GET", "/metrics", address=ops_address).body.decode().splitlines():
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name, _, labels = series.partition("{")
                found[name, labels.rstrip("}")] = float(value)
        return found

    def metric(self, name, labels=""):
        return self.metrics().get((name, labels), 0.0)

    def is_up(self, part):
        """Every thread's link to "redis" or "database" is up."""
        metrics = self.metrics()
        return metrics[f"sluice_{part}_links_up", ""] == metrics["sluice_threads", ""]

    def await_up(self, part, timeout=20):
        wait_until(lambda: self.is_up(part), timeout, f"{part} is used")

    def await_stores(self):
        self.await_up("redis")
        self.await_up("database")

    def connections(self):
        """Open client connections but the one that asks."""
        return self.metric("sluice_connections_active") - 1

    # ---- ending it

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def await_exit(self, timeout=60):
        if self.exit_code is None:
            self.exit_code = self.process.wait(timeout)
            self._reader.join(10)
        return self.exit_code

    def stop(self):
        """SIGTERM; then: exit code 0, and nothing in the log that is not ours."""
        if self.exit_code is None:
            ended = self.process.poll()
            assert ended is None, f"ended before it was told to, code {ended}\n" + "\n".join(self.lines)
            self.terminate()
            try:
                self.await_exit()
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGABRT)
                self.process.wait()
                raise
        self.check()

    def check(self):
        log = "\n".join(self.lines)
        shutil.rmtree(self.folder, ignore_errors=True)
        assert not _SANITIZER.search(log), log
        for line in self.lines:
            assert isinstance(_parsed(line), dict), f"not one JSON object: {line!r}"
        assert self.exit_code == 0, f"exit code {self.exit_code}\n{log}"

    def kill(self):
        """kill -9; a journal folder that the test named stays."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        shutil.rmtree(self.folder, ignore_errors=True)
        log = "\n".join(self.lines)
        assert not _SANITIZER.search(log), log


def _cursor(text):
    """The sequence number in a cursor, however it is spelt."""
    digits = str(text or 0).rpartition(".")[2]
    return int(digits) if digits.isdecimal() else 0


def _parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return None
