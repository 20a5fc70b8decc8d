"""The last 15 minutes as operators see them: samples that add up to the metrics, and their page."""

import re

from harness.stub import say
from harness.wait import wait_until

PATH = "/api/v1/performance"


def page(gateway, since=None, **options):
    response = gateway.call("GET", PATH if since is None else f"{PATH}?since={since}", **options)
    assert response.status == 200 and response.headers["content-type"] == "application/json"
    assert "no-store" in response.headers["cache-control"]
    return response.json()


def newest(gateway):
    return page(gateway)["newest"]


def await_samples(gateway, after, count=1):
    """The samples after number `after`, once there are so many."""

    def there():
        samples = page(gateway, after)["samples"]
        return len(samples) >= count and samples

    return wait_until(there, what="samples")


def added_up(samples):
    """What the samples say has happened, under the names that it has in the metrics."""
    total = {}

    def count(name, value, labels=""):
        total[name, labels] = total.get((name, labels), 0) + value

    for sample in samples:
        for result in ("complete", "stopped", "cancelled", "interrupted", "failed"):
            count("sluice_turns_total", sample["turns"][result], f'result="{result}"')
        count("sluice_turns_refused_total", sample["turns"]["refused"])
        count("sluice_tokens_total", sample["tokens"], 'type="completion"')
        count("sluice_upstream_retries_total", sample["upstream_retries"])
        count("sluice_upstream_failovers_total", sample["upstream_failovers"])
        count("sluice_writer_rows_total", sample["writer"]["rows"])
        count("sluice_writer_failures_total", sample["writer"]["failures"])
        for upstream in sample["upstreams"]:
            for what in ("requests", "failures"):
                count(f"sluice_upstream_{what}_total", upstream[what], f'upstream="{upstream["name"]}"')
    return total


def test_a_sample_comes_every_second(gateway):
    first = newest(gateway)
    one, two = await_samples(gateway, first, 2)[:2]
    assert (one["sequence"], two["sequence"]) == (first + 1, first + 2)
    assert abs((two["time_ms"] - one["time_ms"]) / 1000 - two["seconds"]) < 0.1
    assert 0.5 < two["seconds"] < 5


def test_only_what_is_new(gateway):
    await_samples(gateway, 0, 2)
    all_of_it = page(gateway)
    numbers = [sample["sequence"] for sample in all_of_it["samples"]]
    assert numbers == list(range(1, all_of_it["newest"] + 1))
    assert page(gateway, 1)["samples"][0]["sequence"] == 2
    later = page(gateway, all_of_it["newest"])
    assert all(sample["sequence"] > all_of_it["newest"] for sample in later["samples"])
    assert later["started_ms"] == all_of_it["started_ms"]


def test_a_number_of_an_earlier_process_gives_all(gateway):
    await_samples(gateway, 0)
    assert page(gateway, 10**12)["samples"][0]["sequence"] == 1


def test_since_is_a_number(gateway):
    for text in ("", "x", "-1", "1.5", "1e3", "9" * 19):
        response = gateway.call("GET", f"{PATH}?since={text}")
        assert response.status == 400, text
        assert response.json()["error"]["param"] == "since"


def test_the_samples_add_up_to_the_metrics(start):
    gateway = start({"chat.disconnect_grace_s": 0})
    for number in range(20):
        directive = "status=400" if number % 5 == 0 else f"tokens={number} gap=2"
        gateway.ask(f"burst-{number % 4}", say(directive))
    wait_until(lambda: gateway.metric("sluice_journal_uncommitted_records") == 0, what="all of it is written")
    await_samples(gateway, newest(gateway))
    metrics = gateway.metrics()
    total = added_up(page(gateway)["samples"])
    assert total["sluice_turns_total", 'result="complete"'] == 16
    assert total["sluice_turns_total", 'result="failed"'] == 4
    assert total == {key: metrics[key] for key in total}


def test_times_of_the_turns_of_that_second(gateway, user):
    before = newest(gateway)
    assert await_samples(gateway, before)[0]["ttft_ms"] == {"p50": None, "p95": None, "p99": None}
    before = newest(gateway)
    gateway.ask(user, say("first=120 tokens=2"))

    def measured():
        return [sample for sample in page(gateway, before)["samples"] if sample["ttft_ms"]["p50"] is not None]

    (sample,) = wait_until(measured, what="the turn is in a sample")
    assert 100 <= sample["ttft_ms"]["p50"] <= sample["ttft_ms"]["p95"] <= sample["ttft_ms"]["p99"] < 3000
    assert sample["stages_p95_ms"]["upstream_first_token"] >= 100


def test_what_runs_and_what_is_up(gateway, user):
    with gateway.open(user, say("stall_after=1")) as stream:
        stream.until("token")
        sample = await_samples(gateway, newest(gateway))[-1]
        assert sample["turns"]["active"] == 1
        assert sample["redis_links_up"] == sample["database_links_up"] == sample["threads"] == 2
        assert sample["journal"]["state"] == "open" and sample["writer"]["connected"] is True
        assert [upstream["breaker"] for upstream in sample["upstreams"]] == ["closed"]
        assert sample["log_bytes"] > 0 and sample["draining"] is False


def test_the_breaker_is_in_it(start, user):
    gateway = start({"upstream.breaker_failures": 1, "upstream.retry_budget_percent": 0})
    gateway.ask(user, say("status=500"))
    (upstream,) = await_samples(gateway, newest(gateway))[-1]["upstreams"]
    assert upstream["breaker"] == "open" and upstream["name"] == "default"


def test_the_page_and_its_parts(gateway):
    response = gateway.call("GET", "/performance")
    assert response.status == 200 and response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    text = response.body.decode()
    parts = re.findall(r'(?:src|href)="(/assets/[^"#]+)"', text)
    assert len(parts) == 2
    for part in parts:
        body = gateway.call("GET", part).body.decode()
        for module in re.findall(r"from '\./([^']+)'", body):
            assert gateway.call("GET", f"/assets/{module}").status == 200
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text), "nothing comes from elsewhere"
    assert not re.search(r"<script(?![^>]*src=)|<style|\son[a-z]+=|\sstyle=", text), "nothing inline"


def test_another_address_for_operators(start):
    gateway = start({"ops.listen": "127.0.0.1:0"})
    ops_address = gateway.events("listening")[0]["ops_address"]
    for path in (PATH, "/performance"):
        assert gateway.call("GET", path).status == 404
        assert gateway.call("GET", path, address=ops_address).status == 200
    assert gateway.call("GET", "/assets/performance.js", address=ops_address).status == 200
