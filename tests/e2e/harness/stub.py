"""The scripted model server (loadtest/README.md has its directives)."""

import itertools
import json
import os
import subprocess
import tempfile
import urllib.request

from .process import spawn
from .wait import wait_until

_number = itertools.count(1)


def say(directive="", text="hello"):
    """A message that tells the stub what to do."""
    return f"{text} [[stub {directive}]]" if directive else text


def answer(tokens):
    """What the stub says to `tokens=N`."""
    return " ".join(f"tok{i}" for i in range(tokens))


def once(directive, times=1):
    """The same, which strikes the first `times` requests only, whatever else was asked before."""
    return f"{directive} times={times} id={next(_number)}"


class Stub:
    def __init__(self, binary, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            port_file = os.path.join(folder, "port")
            self.process = spawn(
                [binary, "--listen", "127.0.0.1:0", "--port-file", port_file, *arguments],
                stderr=subprocess.DEVNULL,
            )
            wait_until(lambda: os.path.exists(port_file) and os.path.getsize(port_file), what="the stub listens")
            with open(port_file, encoding="ascii") as file:
                self.port = int(file.read())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def _get(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.read()

    def stats(self):
        return json.loads(self._get("/stats"))

    def last(self):
        """The body of the newest chat request."""
        return json.loads(self._get("/last"))

    def last_head(self):
        return self._get("/last/head").decode()

    def reset(self):
        self._get("/reset", "POST")

    def requests(self):
        return self.stats()["requests"]

    def await_idle(self, timeout=10):
        wait_until(lambda: self.stats()["active_streams"] == 0, timeout, "no model stream runs")

    def await_active(self, count=1, timeout=10):
        wait_until(lambda: self.stats()["active_streams"] >= count, timeout, f"{count} model streams run")

    def stop(self):
        self.process.kill()
        self.process.wait()
