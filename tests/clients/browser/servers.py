#!/usr/bin/python3
"""The servers a browser test needs: private stores, the scripted model, a gateway on a port it keeps.

Prints one line of JSON once they are up: {"address", "secret"}. Then takes one command per line and answers
each with one line of JSON:

    restart          kill -9 of the gateway, and a new one on the same port, journal and stores
    kill             the first half of it
    start            the second half
    (end of input)   ends everything; exit code 0 if the gateway ended in good order
"""

import json
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "e2e"))

from harness import tokens  # noqa: E402
from harness.gateway import STUB_BINARY, Gateway, migrate  # noqa: E402
from harness.stores import Postgres, Redis  # noqa: E402
from harness.stub import Stub  # noqa: E402


class Servers:
    def __init__(self):
        self.redis = Redis().start()
        self.postgres = Postgres().start()
        self.stub = Stub(STUB_BINARY, "--gap-ms", "0")
        self.journal = tempfile.mkdtemp(prefix="sluice-journal.", dir="/tmp")
        self.address = "127.0.0.1:0"
        self.gateway = None
        database = self.postgres.create_database("browser")
        migration = migrate(database)
        assert migration.returncode == 0, migration.stderr
        self.settings = {
            "redis.url": self.redis.url,
            "database.url": database,
            "upstream.url": self.stub.url,
            "journal.dir": self.journal,
        }

    def start(self):
        self.gateway = Gateway({**self.settings, "listen": self.address})
        self.gateway.await_stores()
        self.address = self.gateway.address

    def kill(self):
        self.gateway.kill()

    def restart(self):
        self.kill()
        self.start()

    def end(self):
        try:
            self.gateway.stop()
        finally:
            self.stub.stop()
            self.postgres.destroy()
            self.redis.destroy()
            shutil.rmtree(self.journal, ignore_errors=True)


def say(answer):
    print(json.dumps(answer), flush=True)


def main():
    servers = Servers()
    commands = {name: getattr(servers, name) for name in ("restart", "kill", "start")}
    try:
        servers.start()
        say({"address": servers.address, "secret": tokens.SECRET})
        for line in sys.stdin:
            say(commands[line.strip()]())
    finally:
        servers.end()


if __name__ == "__main__":
    main()
