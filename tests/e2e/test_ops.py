"""What operators see: health, readiness, metrics, the page."""

import re

from harness.gateway import STREAM
from harness.stub import say
from harness.wait import wait_until

SETTINGS = {"upstream.idle_timeout_ms": 500, "chat.disconnect_grace_s": 0}

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-z_]+="[^"\\]*"(?:,|(?=\})))*\})? (-?[0-9.e+]+|\+Inf|NaN)$')


def test_healthz_touches_nothing(start, own_redis, own_postgres, own_database):
    own_redis.stop()
    own_postgres.stop()
    gateway = start({"redis.url": own_redis.url, "database.url": own_database.url}, connected=False)
    assert gateway.call("GET", "/healthz").status == 200
    assert gateway.call("GET", "/readyz").status == 200
    own_postgres.start()


def test_readyz_names_each_part(gateway):
    gateway.await_up("redis")
    gateway.await_up("database")
    response = gateway.call("GET", "/readyz")
    assert response.status == 200 and response.headers["content-type"] == "application/json"
    parts = response.json()
    assert parts["status"] == "ready" and parts["redis"] == parts["database"] == "up"
    assert parts["writer"]["records_waiting"] >= 0


def test_they_need_no_token_and_are_not_cached(gateway):
    for path in ("/healthz", "/readyz", "/metrics", "/"):
        response = gateway.call("GET", path)
        assert response.status == 200, path
        assert re.search("no-store|no-cache", response.headers["cache-control"])


def test_metrics_are_well_formed(gateway, user):
    gateway.ask(user, say("tokens=1"))
    response = gateway.call("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = response.body.decode()
    assert text.endswith("\n")
    types, helped, series, closed, family = {}, set(), set(), set(), None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, words = line[7:].split(" ", 1)
            assert name not in helped and words.strip()
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, type_ = line.split(" ")
            assert name not in types and type_ in ("counter", "gauge", "histogram")
            types[name] = type_
        else:
            match = SAMPLE.match(line)
            assert match, line
            name = match.group(1)
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            base = base if types.get(base) == "histogram" else name
            assert base in types and base in helped, name
            assert not name.endswith("_total") or types[base] == "counter"
            assert types[base] != "counter" or name.endswith("_total")
            if base != family:
                assert base not in closed, f"{base} is torn apart"
                closed.add(family)
                family = base
            key = (name, match.group(2))
            assert key not in series, f"twice: {key}"
            series.add(key)


def test_histograms_are_cumulative(gateway, user):
    gateway.ask(user, say("tokens=1"))
    metrics = gateway.metrics()
    buckets = {}
    for (name, labels), value in metrics.items():
        if name.endswith("_bucket"):
            own, bound = re.match(r'(.*?),?le="([^"]+)"$', labels).groups()
            buckets.setdefault((name.removesuffix("_bucket"), own), []).append((float(bound), value))
    assert buckets
    for (name, labels), values in buckets.items():
        assert [bound for bound, _ in values] == sorted(bound for bound, _ in values)
        assert [count for _, count in values] == sorted(count for _, count in values)
        assert values[-1][0] == float("inf")
        assert values[-1][1] == metrics[name + "_count", labels]
        assert metrics[name + "_sum", labels] >= 0


def grown(gateway, action, name, labels=""):
    """By how much a figure grows through `action`."""
    before = gateway.metric(name, labels)
    action()
    return gateway.metric(name, labels) - before


def test_turns_are_counted_by_result(gateway, user):
    turns = "sluice_turns_total"
    assert grown(gateway, lambda: gateway.ask(user, say("tokens=3")), turns, 'result="complete"') == 1
    assert grown(gateway, lambda: gateway.ask(user, say("fin_after=1")), turns, 'result="failed"') == 1
    before = gateway.metric(turns, 'result="cancelled"')
    with gateway.open(user, say("gap=100 tokens=100")) as stream:
        stream.until("token")
    wait_until(lambda: gateway.metric(turns, 'result="cancelled"') == before + 1, what="it is counted")


def test_errors_are_counted_by_code(gateway, user):
    name = "sluice_turn_errors_total"
    for directive, code in (("status=429", "upstream_rate_limited"), ("stall_after=1", "upstream_idle_timeout")):
        assert grown(gateway, lambda d=directive: gateway.ask(user, say(d)), name, f'code="{code}"') == 1


def test_times_to_the_first_token(gateway, user):
    metrics = gateway.metrics()
    for _ in range(4):
        gateway.ask(user, say("first=120 tokens=2"))
    after = gateway.metrics()

    def more(name, labels=""):
        return after[name, labels] - metrics.get((name, labels), 0)

    assert more("sluice_ttft_seconds_count") == 4
    assert 0.48 <= more("sluice_ttft_seconds_sum") < 4
    assert more("sluice_ttft_seconds_bucket", 'le="0.1"') == 0
    for stage in ("profile", "context", "upstream_first_byte", "upstream_first_token", "save", "total"):
        assert more("sluice_stage_seconds_count", f'stage="{stage}"') == 4, stage


def test_a_turn_without_a_token_has_no_ttft(gateway, user):
    assert grown(gateway, lambda: gateway.ask(user, say("status=500")), "sluice_ttft_seconds_count") == 0


def test_cache_hits_and_misses(gateway, user):
    def figures():
        metrics = gateway.metrics()
        return {
            (kind, result): metrics["sluice_cache_requests_total", f'kind="{kind}",result="{result}"']
            for kind in ("profile", "history")
            for result in ("hit", "miss")
        }

    before = figures()
    session = gateway.ask(user, say("tokens=1")).session_id  # a new session asks for no history
    gateway.ask(user, say("tokens=1"), session_id=session)
    after = figures()
    assert after["profile", "miss"] - before["profile", "miss"] == 1
    assert after["profile", "hit"] - before["profile", "hit"] == 1
    assert after["history", "hit"] - before["history", "hit"] == 1


def test_gauges_follow_what_runs(gateway, user):
    assert gateway.metric("sluice_turns_active") == 0
    with gateway.open(user, say("stall_after=1")) as stream:
        stream.until("token")
        assert gateway.metric("sluice_turns_active") == 1
        # The connection that asked last may still be closing.
        wait_until(lambda: gateway.connections() == 1, what="only the stream is connected")
    wait_until(lambda: gateway.metric("sluice_turns_active") == 0 and gateway.connections() == 0, what="it is over")


def test_the_writers_figures(gateway, user, database):
    before = gateway.metric("sluice_writer_rows_total")
    gateway.ask(user, say("tokens=1"))
    # The question and the answer may travel in two commits.
    wait_until(lambda: gateway.metric("sluice_writer_rows_total") >= before + 2, what="both rows are counted")
    wait_until(lambda: gateway.metric("sluice_writer_records_waiting") == 0, what="nothing waits")
    assert gateway.metric("sluice_writer_connected") == 1
    assert gateway.metric("sluice_writer_failures_total") == 0


def test_refusals_are_counted(gateway, user):
    action = lambda: gateway.call("POST", STREAM, {"message": "x"})  # noqa: E731
    assert grown(gateway, action, "sluice_auth_refused_total") == 1


def test_the_page_and_its_parts(gateway):
    page = gateway.call("GET", "/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    text = page.body.decode()
    parts = re.findall(r'(?:src|href)="(/[^"#]+)"', text)
    assert parts
    for part in parts:
        response = gateway.call("GET", part)
        assert response.status == 200 and response.body, part
        assert response.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text), "nothing comes from elsewhere"
    assert not re.search(r"<script(?![^>]*src=)|<style|\son[a-z]+=|\sstyle=", text), "nothing inline"


def test_another_address_for_operators(start):
    gateway = start({"ops.listen": "127.0.0.1:0"})
    ops_address = gateway.events("listening")[0]["ops_address"]
    assert gateway.call("GET", "/metrics").status == 404
    assert gateway.call("GET", "/metrics", address=ops_address).status == 200
    for address in (gateway.address, ops_address):
        assert gateway.call("GET", "/healthz", address=address).status == 200


def test_metrics_while_turns_run(gateway, user):
    streams = [gateway.open(f"{user}-{i}", say("tokens=30 gap=3")) for i in range(8)]
    for _ in range(10):
        assert gateway.metric("sluice_threads") == 2
    for stream in streams:
        assert stream.finish().last["type"] == "done"
        stream.close()
