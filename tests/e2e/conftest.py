"""Fixtures: stores and model once per session, gateways per module or per test.

Every test has users of its own, so tests share servers without meeting each other.
"""

import itertools
import os

import pytest

from harness.db import Database
from harness.gateway import BINARY, STUB_BINARY, Gateway, migrate
from harness.loops import Loops
from harness.stores import Postgres, Redis
from harness.stub import Stub
from harness.tokens import new_user

_number = itertools.count(1)


def pytest_sessionstart(session):
    for path in (BINARY, STUB_BINARY):
        if not session.config.option.collectonly and not os.access(path, os.X_OK):
            pytest.exit(f"{path} is missing; ./dev test e2e builds it", returncode=2)


@pytest.fixture(scope="session")
def redis():
    server = Redis().start()
    yield server
    server.destroy()


@pytest.fixture(scope="session")
def postgres():
    server = Postgres().start()
    yield server
    server.destroy()


@pytest.fixture(scope="session")
def stub():
    server = Stub(STUB_BINARY, "--gap-ms", "0")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stubs(request):
    """Model servers of a module's own, STUBS of them."""
    servers = [Stub(STUB_BINARY, "--gap-ms", "0") for _ in range(request.module.STUBS)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def database(postgres):
    """A migrated database that most tests share."""
    url = postgres.create_database("shared")
    migration = migrate(url)
    assert migration.returncode == 0, migration.stderr
    return Database(url)


@pytest.fixture(scope="module")
def settings(redis, database, stub):
    """What a gateway on the shared stores is started with."""
    return {"redis.url": redis.url, "database.url": database.url, "upstream.url": stub.url}


@pytest.fixture(scope="module")
def gateway(settings, request):
    """One gateway for a module; SETTINGS in the module adds to its configuration."""
    server = Gateway({**settings, **getattr(request.module, "SETTINGS", {})})
    server.await_stores()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def loops(gateway):
    """Connections to the module's gateway whose loop is known."""
    pool = Loops(gateway, each=2)
    yield pool
    pool.close()


@pytest.fixture
def start(settings):
    """start({key: value}): gateways of a test's own, stopped and checked at its end.

    It is connected to its stores, unless `connected=False` says that it cannot or need not be.
    """
    started = []

    def start_one(changes=None, *, connected=True, **options):
        server = Gateway({**settings, **(changes or {})}, **options)
        started.append(server)
        if connected:
            server.await_stores()
        return server

    yield start_one
    for server in started:
        server.stop()


@pytest.fixture
def user():
    return new_user()


@pytest.fixture
def own_redis():
    """A Redis that this test may break."""
    server = Redis().start()
    yield server
    server.destroy()


@pytest.fixture(scope="module")
def own_postgres():
    """A PostgreSQL that the tests of a module may break; `own_database` brings it back up."""
    server = Postgres().start()
    yield server
    server.destroy()


@pytest.fixture
def own_database(own_postgres):
    """A migrated database on own_postgres, which runs when the test starts."""
    if own_postgres.process is None:
        own_postgres.start()
    own_postgres.thaw()
    url = own_postgres.create_database(f"own{next(_number)}")
    migration = migrate(url)
    assert migration.returncode == 0, migration.stderr
    return Database(url)
