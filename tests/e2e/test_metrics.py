"""The figures of /metrics: all of them written down, and true. Their form is in test_ops.py."""

import os
import re
import time

from harness.gateway import ROOT, STREAM
from harness.sse import Stream
from harness.stub import answer, say
from harness.tokens import mint
from harness.wait import wait_until

SETTINGS = {
    "upstream.idle_timeout_ms": 500,
    "upstream.breaker_failures": 0,  # one failure after another, on purpose
    "chat.disconnect_grace_s": 0,
}

ROW = re.compile(r"^\| `((?:sluice|gen_ai|process)_\w+)` \| ((?:`\w+`(?:, )?)*) ?\|", re.M)
OPERATION = 'gen_ai_operation_name="chat"'
USAGE = "gen_ai_client_token_usage"


def written_down():
    """{name: labels} of the table in docs/OPERATIONS.md."""
    with open(os.path.join(ROOT, "docs", "OPERATIONS.md"), encoding="utf-8") as file:
        section = file.read().split("\n## Metrics\n")[1].split("\n## ")[0]
    rows = ROW.findall(section)
    table = section.count("\n| ") - 1  # the head is no row
    assert len(rows) == table == len(dict(rows)), "a row that is not of this form, or a name twice"
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def shown(gateway):
    """{name: labels} of the page, a histogram being one name without `le`."""
    page = gateway.call("GET", "/metrics").body.decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    found = {name: set() for name in types}
    for name, labels in re.findall(r"^(\w+)(?:\{([^}]*)\})? ", page, re.M):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        base = base if types.get(base) == "histogram" else name
        found[base] |= set(re.findall(r'(\w+)="', labels)) - {"le"}
    return found


def test_every_metric_is_written_down_and_every_row_is_true(gateway, user):
    gateway.ask(user, say("tokens=1"))
    gateway.ask(user, say("fin_after=1"))  # some labels come with the first error only
    assert shown(gateway) == written_down()


class Growth:
    """By how much figures grow within the block."""

    def __init__(self, gateway):
        self.gateway = gateway

    def __enter__(self):
        self.before = self.gateway.metrics()
        return self

    def __exit__(self, *_):
        self.after = self.gateway.metrics()

    def of(self, name, labels=""):
        grown = self.after.get((name, labels), 0) - self.before.get((name, labels), 0)
        return round(grown, 6)  # sums are written to the microsecond

    def series(self, name):
        """{labels: growth} of those that grew."""
        labels = {labels for found, labels in self.after if found == name}
        return {each: self.of(name, each) for each in labels if self.of(name, each)}


# ---------------------------------------------------------------- the time to the first token


def time_to_first_token(gateway, token, message):
    """By the client's clock: from just before the request is written to the read that brought the token."""
    with gateway.connect() as connection:
        headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}
        asked = time.monotonic()
        connection.request("POST", STREAM, headers=headers, body={"message": message})
        stream = Stream(connection)
        return stream.until("token").at - asked, stream.finish()


def test_the_time_to_the_first_token_is_what_the_client_measures(gateway, user):
    """The best of many turns. On a busy machine the client may have to wait for the processor before it looks at
    its clock, and so may the gateway between its write and its own look: neither is an error of the figure.
    The smallest difference is the one with the least of both in it.
    """
    token, differences = mint(user), []
    for _ in range(30):
        with Growth(gateway) as more:
            measured, turn = time_to_first_token(gateway, token, say("first=20 tokens=2"))
        assert turn.last["type"] == "done" and more.of("sluice_ttft_seconds_count") == 1
        figure = more.of("sluice_ttft_seconds_sum")
        assert figure >= 0.02
        assert more.of("gen_ai_server_time_to_first_token_seconds_sum", OPERATION) == figure
        differences.append(measured - figure)
    assert min(abs(difference) for difference in differences) < 0.001, differences


# ---------------------------------------------------------------- how turns end


def test_turns_are_counted_by_term(gateway, user):
    terms = "sluice_turns_by_term_total"
    cases = [("tokens=1", "-D"), ("fin_after=2", "US"), ("stall_after=2", "uS"), ("status=500", "UA")]
    for directive, term in cases:
        with Growth(gateway) as more:
            line = gateway.turn_line(gateway.ask(user, say(directive)).turn_id)
        assert line["term"] == term
        assert more.series(terms) == {f'term="{term}"': 1}

    with Growth(gateway) as more:
        with gateway.open(user, say("stall_after=1")) as stream:
            stream.until("token")
        gateway.turn_line(stream.turn_id)
    assert more.series(terms) == {'term="CS"': 1}

    metrics = gateway.metrics()
    turns = sum(value for (name, _), value in metrics.items() if name == "sluice_turns_total")
    assert turns == sum(value for (name, _), value in metrics.items() if name == terms)


# ---------------------------------------------------------------- tokens


def test_the_gap_between_tokens(gateway, user):
    gap, tokens = "sluice_token_gap_seconds", 6
    with Growth(gateway) as more:
        turn = gateway.ask(user, say(f"tokens={tokens} gap=50"))
    assert turn.text == answer(tokens)
    assert more.of(f"{gap}_count") == tokens - 1
    assert more.of(f"{gap}_bucket", 'le="0.03"') == 0
    # A late wake-up of the stub lengthens one gap and may shorten the next; the pauses add up.
    assert more.of(f"{gap}_bucket", 'le="0.1"') >= 1
    assert more.of(f"{gap}_sum") >= (tokens - 1) * 0.045

    per_token = "gen_ai_server_time_per_output_token_seconds"
    assert more.of(f"{per_token}_count", OPERATION) == 1
    mean = more.of(f"{gap}_sum") / (tokens - 1)
    assert abs(more.of(f"{per_token}_sum", OPERATION) - mean) < 1e-5


def test_gaps_are_counted_while_the_answer_runs(gateway, user):
    gap = "sluice_token_gap_seconds_count"
    before = gateway.metric(gap)
    with gateway.open(user, say("tokens=1000 gap=5")) as stream:
        wait_until(lambda: gateway.metric(gap) >= before + 3, what="gaps are counted")
        assert gateway.metric("sluice_turns_active") == 1
        stream.until("token")
    wait_until(lambda: gateway.metric("sluice_turns_active") == 0, what="it is over")


def test_a_turn_that_fails_or_has_one_token_has_no_time_per_token(gateway, user):
    with Growth(gateway) as more:
        gateway.ask(user, say("tokens=1"))
        gateway.ask(user, say("tokens=5 fin_after=3"))
    assert more.of("gen_ai_server_time_per_output_token_seconds_count", OPERATION) == 0
    assert more.of("gen_ai_server_time_to_first_token_seconds_count", OPERATION) == 1
    assert more.of("gen_ai_server_request_duration_seconds_count", OPERATION) == 2


def test_tokens_of_a_turn(gateway, user):
    with Growth(gateway) as more:
        turn = gateway.ask(user, say("tokens=20"))
    usage = turn.last["usage"]
    for type_, tokens in (("input", usage["prompt_tokens"]), ("output", usage["completion_tokens"])):
        labels = f'{OPERATION},gen_ai_token_type="{type_}"'
        assert more.of(f"{USAGE}_count", labels) == 1
        assert more.of(f"{USAGE}_sum", labels) == tokens > 0
        bounds = more.series(f"{USAGE}_bucket")
        for exponent in range(14):
            bound = f'{labels},le="{4**exponent}"'
            assert bounds.get(bound, 0) == (1 if tokens <= 4**exponent else 0), bound


# ---------------------------------------------------------------- the process and its disk


def test_the_process(gateway):
    metrics, pid = gateway.metrics(), gateway.process.pid
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert 0.5 < metrics["process_resident_memory_bytes", ""] / resident < 2
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        (limit,) = re.findall(r"^Max open files\s+(\d+)", file.read(), re.M)
    assert metrics["process_max_fds", ""] == int(limit)
    assert 0 < time.time() - metrics["process_start_time_seconds", ""] < 3600
    assert gateway.metric("process_start_time_seconds") == metrics["process_start_time_seconds", ""]

    # The page was asked for over one more connection, which may be closing while the folder is looked at.
    wait_until(lambda: gateway.connections() == 0, what="nobody else is connected")
    wait_until(
        lambda: gateway.metric("process_open_fds") == len(os.listdir(f"/proc/{pid}/fd")) + 1,
        what="the descriptors and the connection of who asks",
    )


def test_the_room_that_the_journal_has(gateway):
    free, about = gateway.metric("sluice_journal_disk_free_bytes"), os.statvfs(gateway.settings["journal.dir"])
    assert 0.5 < free / (about.f_bavail * about.f_frsize) < 2
