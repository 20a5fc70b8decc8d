"""Out of descriptors, or over the connection cap: no spinning, and back to normal by itself."""

import resource
import time

from harness.http import Closed
from harness.process import cpu_seconds
from harness.stub import say
from harness.wait import wait_until

DESCRIPTORS = 96


def open_all(gateway, count):
    connections = []
    for _ in range(count):
        try:
            connections.append(gateway.connect(timeout=5))
        except OSError:
            break
    return connections


def test_without_descriptors_it_does_not_spin_and_recovers(start, user):
    limits = [(resource.RLIMIT_NOFILE, DESCRIPTORS)]
    gateway = start({"threads": 1, "http.request_timeout_ms": 60000}, limits=limits)
    assert gateway.ask(user, say("tokens=1")).last["type"] == "done"
    connections = open_all(gateway, 3 * DESCRIPTORS)
    # This is a measurement over a span of time, not a wait for something.
    before, began = cpu_seconds(gateway.process.pid), time.monotonic()
    time.sleep(1.5)
    share = (cpu_seconds(gateway.process.pid) - before) / (time.monotonic() - began)
    assert share < 0.5, f"{share:.0%} of a processor for nothing"
    assert gateway.process.poll() is None
    for connection in connections:
        connection.close()
    wait_until(lambda: answers(gateway, user), 15, "turns are answered again")
    assert gateway.metric("sluice_connections_refused_total") > 0


def answers(gateway, user):
    try:
        turn = gateway.ask(user, say("tokens=1"))
        return turn.status == 200 and turn.last["type"] == "done"
    except (OSError, Closed):
        return False


def test_over_the_connection_cap_there_is_an_answer(start, user):
    gateway = start({"threads": 1, "http.connections_max": 5})
    wait_until(lambda: gateway.connections() == 0, what="earlier connections are gone")
    kept = [gateway.connect() for _ in range(4)]
    for connection in kept:
        connection.request("GET", "/healthz")
        assert connection.read_response().status == 200
    extra = [gateway.connect() for _ in range(3)]
    response = extra[2].read_response()
    assert response.status == 503 and "retry-after" in response.headers
    assert extra[2].read_all() == b"" and extra[2].ended
    for connection in kept + extra:
        connection.close()
    wait_until(lambda: answers(gateway, user), what="there is room again")
