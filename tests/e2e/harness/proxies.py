"""nginx and HAProxy with the files of deploy/, real curl before them, and a server that notes what they send."""

import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from . import tokens
from .gateway import ROOT, STREAM
from .process import spawn
from .wait import wait_until


def adapt(text, values):
    """The file with other values in its lines marked `# site: NAME`.

    `values`: {name: (old, new)}; `new` None empties the line. Every old value must be there.
    """
    lines, missing = [], set(values)
    for line in text.splitlines():
        mark = re.search(r"# site: ([a-zA-Z0-9, ]+)", line)
        for name in mark.group(1).split(", ") if mark else ():
            old, new = values.get(name, ("", ""))
            assert old in line, f"{name} is not {old!r}: {line}"
            missing.discard(name)
            line = "" if new is None else line.replace(old, new) if old else line
        lines.append(line)
    assert not missing, f"no line is marked with {missing}"
    return "\n".join(lines) + "\n"


class Proxy:
    """One proxy in front of `upstreams` (addresses), private to a test; it ends with its clients."""

    def __init__(self, *upstreams, read_timeout=None):
        """`read_timeout` instead of the 60 s of the file, as in "2s"."""
        self.upstreams, self.read_timeout = upstreams, read_timeout
        self.folder = tempfile.mkdtemp(prefix=f"sluice-{self.NAME}.", dir="/tmp")
        os.chmod(self.folder, 0o711)  # for the account that the proxy changes to
        self.certificate = f"{self.folder}/certificate.pem"
        self.config = f"{self.folder}/{self.FILE}"
        self.process, self.curls = None, []
        self._make_certificate()

    def _make_certificate(self):
        made = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-subj", "/CN=Sluice test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
            + ["-keyout", f"{self.folder}/key.pem", "-out", self.certificate],
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        with open(f"{self.folder}/both.pem", "w", encoding="ascii") as both:
            for path in (self.certificate, f"{self.folder}/key.pem"):
                with open(path, encoding="ascii") as part:
                    both.write(part.read())

    # ---- its life

    def start(self):
        for _ in range(3):  # somebody else may take the free port first
            self._write_config()
            with open(f"{self.folder}/log", "ab") as log:
                self.process = spawn(self._command(), stdout=log, stderr=log)
            wait_until(lambda: self._listens() or self.process.poll() is not None, what=f"{self.NAME} listens")
            if self.process.poll() is None:
                return self
        raise AssertionError(self.log())

    def _write_config(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        with open(os.path.join(ROOT, "deploy", self.FILE), encoding="utf-8") as shipped:
            text = self._adapted(shipped.read())
        with open(self.config, "w", encoding="utf-8") as config:
            config.write(text)

    def _listens(self):
        host, port = self.address.split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def check(self):
        """Runs the proxy's own check of the file: (exit code, what it says)."""
        self._write_config()
        done = subprocess.run(self._check(), capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def log(self):
        with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self):
        for curl in self.curls:
            curl.kill()
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- its clients

    def curl(self, *requests, **options):
        """Starts a curl; see Curl."""
        self.curls.append(Curl(self, requests, **options))
        return self.curls[-1]

    def fetch(self, request, **options):
        """A whole response."""
        curl = self.curl(request, **options)
        assert curl.wait() == 0, curl.errors()
        return curl.transfers[0]


class Nginx(Proxy):
    NAME, FILE, PROGRAM = "nginx", "nginx.conf", "/usr/sbin/nginx"

    def _adapted(self, text):
        servers = " ".join(f"server {address};" for address in self.upstreams)
        values = {
            "pid": ("/run/nginx.pid", f"{self.folder}/pid"),
            "error log": ("/var/log/nginx/error.log", f"{self.folder}/log"),
            "access log": ("/var/log/nginx/access.log", f"{self.folder}/log"),
            "sluice": ("server 127.0.0.1:8080;", servers),
            "listen": ("listen 443 ", f"listen {self.address} "),
            "listen on IPv6": ("listen [::]:443 ", None),
            "certificate": ("/etc/ssl/sluice/fullchain.pem", self.certificate),
            "key": ("/etc/ssl/sluice/key.pem", f"{self.folder}/key.pem"),
        }
        if self.read_timeout:
            values["read timeout"] = ("60s", self.read_timeout)
        if os.geteuid() != 0:
            values["user"] = ("user www-data;", None)
        # nginx makes these folders at its start, whether it needs them or not
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = "".join(f" {kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        return adapt(text, values).replace("\nhttp {\n", f"\nhttp {{{folders}\n", 1)

    def _check(self):
        return [self.PROGRAM, "-t", "-e", f"{self.folder}/log", "-c", self.config]

    def _command(self):
        # SIGTERM when the tests die: killed, the master would leave its workers behind
        command = [self.PROGRAM, "-e", f"{self.folder}/log", "-c", self.config, "-g", "daemon off;"]
        return ["setpriv", "--pdeathsig", "TERM", *command]


class Haproxy(Proxy):
    NAME, FILE, PROGRAM = "haproxy", "haproxy.cfg", "/usr/sbin/haproxy"

    def _adapted(self, text):
        servers = [f"server sluice{i} {address}" for i, address in enumerate(self.upstreams, 1)]
        if len(servers) > 1:
            servers = [f"{server} check inter 2s" for server in servers]  # as the file says
        values = {
            "log": ("/dev/log", "stdout format raw"),
            "sluice": ("server sluice1 127.0.0.1:8080", "\n".join(servers)),
            "listen": ("bind :::443 v4v6", f"bind {self.address}"),
            "certificate": ("/etc/haproxy/sluice.pem", f"{self.folder}/both.pem"),
        }
        if self.read_timeout:
            values["read timeout"] = ("60s", self.read_timeout)
        if os.geteuid() != 0:
            values["user"] = ("user haproxy", None)
            values["group"] = ("group haproxy", None)
            values["chroot"] = ("chroot /var/lib/haproxy", None)
        return adapt(text, values)

    def _check(self):
        return [self.PROGRAM, "-c", "-f", self.config]

    def _command(self):
        # master and worker, as Debian runs it: the worker leaves when the master is killed
        return [self.PROGRAM, "-W", "-f", self.config]


PROXIES = {"nginx": Nginx, "haproxy": Haproxy}


# ---------------------------------------------------------------- clients


def get(path, *arguments, user=None):
    """A request for Proxy.curl: the path, the body, and curl's arguments."""
    return path, None, [*_token(user), *arguments]


def post(path, body, *arguments, user=None):
    return path, body, [*_token(user), "-H", "Content-Type: application/json", *arguments]


def ask(user, message, *arguments, **body):
    return post(STREAM, json.dumps({"message": message, **body}), *arguments, user=user)


def _token(user):
    return ["-H", f"Authorization: Bearer {tokens.mint(user)}"] if user else []


class Transfer:
    """What curl has received for one request, also while it still receives."""

    def __init__(self, name):
        self.request_path, self.head_path, self.body_path = f"{name}.request", f"{name}.head", f"{name}.body"
        self.version = self.connects = self.exit_code = None  # known at its end

    @property
    def body(self):
        if not os.path.exists(self.body_path):
            return ""
        with open(self.body_path, encoding="utf-8", newline="") as body:
            return body.read()

    def open_pipe(self):
        """The reader of a body that is a pipe; a transfer whose reader has gone is given up by curl."""
        return open(self.body_path, "rb")

    def await_text(self, text, timeout=10):
        wait_until(lambda: text in self.body, timeout, f"{text!r} arrives")

    @property
    def head(self):
        with open(self.head_path, encoding="latin-1") as head:
            return head.read().splitlines()

    @property
    def status(self):
        return int(self.head[0].split(" ")[1])

    @property
    def headers(self):
        """Lower-case name -> the values of all headers of this name."""
        found = {}
        for line in filter(None, self.head[1:]):
            name, value = line.split(":", 1)
            found.setdefault(name.lower(), []).append(value.strip())
        return found

    @property
    def events(self):
        """[(id or None, the event's JSON)]; heartbeats are left out."""
        found = re.findall(r"^(?:id: (.+)\n)?data: (.+)\n\n", self.body, re.MULTILINE)
        return [(id_ or None, json.loads(data)) for id_, data in found]

    @property
    def types(self):
        return [event["type"] for _, event in self.events]


class Curl:
    """One curl with one request or several at once, which share an HTTP/2 connection."""

    def __init__(self, proxy, requests, http="2", pipe=None):
        """`pipe`: the number of a request whose body goes to a pipe, not to a file."""
        self.folder = tempfile.mkdtemp(prefix="curl.", dir=proxy.folder)
        self.transfers = []
        command = ["curl", "--silent", "--show-error", *(["--parallel"] if len(requests) > 1 else [])]
        for number, (path, body, arguments) in enumerate(requests):
            transfer = Transfer(f"{self.folder}/{number}")
            self.transfers.append(transfer)
            if number == pipe:
                os.mkfifo(transfer.body_path)
            command += ["--next"] if number else []
            command += ["--no-buffer", f"--http{http}", "--cacert", proxy.certificate, "--path-as-is"]
            command += ["-o", transfer.body_path, "-D", transfer.head_path]
            command += ["-w", f"{number} %{{http_version}} %{{num_connects}} %{{exitcode}}\\n", *arguments]
            if body is not None:
                with open(transfer.request_path, "w", encoding="utf-8") as request:
                    request.write(body)
                command += ["--data-binary", f"@{transfer.request_path}"]
            command += [f"https://{proxy.address}{path}"]
        with open(f"{self.folder}/out", "wb") as out, open(f"{self.folder}/errors", "wb") as errors:
            self.process = spawn(command, stdout=out, stderr=errors)

    def wait(self, timeout=20):
        """Its exit code, which is a transfer's that failed."""
        code = self.process.wait(timeout)
        with open(f"{self.folder}/out", encoding="ascii") as out:
            for line in out:
                number, version, connects, exit_code = line.split()
                transfer = self.transfers[int(number)]
                transfer.version, transfer.connects = version, int(connects)
                transfer.exit_code = int(exit_code)
        return code

    def errors(self):
        with open(f"{self.folder}/errors", encoding="utf-8") as errors:
            return errors.read()

    def kill(self):
        self.process.kill()
        self.process.wait()


# ---------------------------------------------------------------- in place of Sluice


class Recorder:
    """An HTTP/1.1 server that keeps each request's head and answers 204, or nothing at /hang-up."""

    def __init__(self):
        recorder = self
        self.requests = []  # (method, path, [(lower-case name, value)])

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                if self.path == "/readyz":
                    self.reply()
                    return
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fields = [(name.lower(), value) for name, value in self.headers.items()]
                recorder.requests.append((self.command, self.path, fields))
                if self.path == "/hang-up":
                    self.close_connection = True
                else:
                    self.reply()

            def reply(self):
                self.send_response(204)
                self.end_headers()

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = "127.0.0.1:%d" % self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def headers(self, name):
        """The values of this header, of all requests."""
        return [value for _, _, fields in self.requests for field, value in fields if field == name]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
