"""The alerts of deploy/prometheus and the dashboard of deploy/grafana, by a real Prometheus over real faults.

Each fault has a gateway, and each gateway is a job of one Prometheus: all faults last at the same time.
"""

import contextlib
import glob
import json
import os
import re
import tempfile
import threading

import pytest
from harness.db import Database
from harness.full_disk import fill, tmpfs
from harness.gateway import ROOT, Gateway, migrate
from harness.many import at_once
from harness.prometheus import Prometheus, promtool
from harness.stub import say
from harness.tokens import new_user
from harness.wait import wait_until

# {job: all that fires for it}
EXPECTED = {
    "sluice-gone": {"SluiceDown"},
    "sluice-slow": {"SluiceTtftHigh", "SluiceTurnsSlow"},
    "sluice-failing": {"SluiceTurnsFailing", "SluiceTurnsFailingSlowly", "SluiceUpstreamBreakerOpen"},
    "sluice-cold": {"SluiceCacheHitRateLow"},
    "sluice-behind": {"SluiceWriterDisconnected", "SluiceWriterFailures", "SluiceJournalOld", "SluiceJournalDamaged"},
    "sluice-full": {"SluiceWriterDisconnected", "SluiceWriterFailures", "SluiceJournalOld"}
    | {"SluiceJournalClosed", "SluiceJournalDiskLow"},
    "sluice-letters": {"SluiceDeadLetters"},
    "sluice-well": set(),
}
# seconds; and bytes that the disk of any machine has free
THRESHOLDS = {"journal age": ("300", "2"), "free space": ("2e9", "1000")}
# the users have no profile, and knowing that is to be a hit for the whole test
SETTINGS = {"threads": 1, "cache.absent_profile_ttl_s": 300, "shutdown.drain_timeout_s": 1}


class Scenes:
    """`gateways`: {job: the one with its fault}; `skipped`: {job: why it is not there}."""

    def __init__(self, settings, postgres, own_postgres):
        self.settings = {**settings, **SETTINGS}
        self.postgres, self.own_postgres = postgres, own_postgres
        self.gateways, self.skipped = {}, {}
        self.cleanup = contextlib.ExitStack()
        self.over = threading.Event()
        self.clients = []

    def start(self):
        """All but what begins with traffic."""
        lost = {"database.url": database_on(self.own_postgres).url}
        folder = self.cleanup.enter_context(tempfile.TemporaryDirectory(prefix="sluice-journal.", dir="/tmp"))
        self._start("sluice-behind", {**lost, "journal.dir": f"{folder}/journal"})
        self._start_on_small_disk(lost)
        for job in ("sluice-gone", "sluice-slow", "sluice-cold", "sluice-well"):
            self._start(job)
        self._start("sluice-failing", {"upstream.breaker_failures": 3})
        letters = database_on(self.postgres)
        self._start("sluice-letters", {"database.url": letters.url})
        for gateway in self.gateways.values():
            gateway.await_stores()
        self.own_postgres.stop()
        self._damage_a_record()
        self._fill_small_disk()
        self._write_dead_letter(letters)

    def _start(self, job, changes=None):
        self.gateways[job] = Gateway({**self.settings, **(changes or {})})

    # ---- faults

    def _start_on_small_disk(self, changes):
        try:
            folder = self.small_disk = self.cleanup.enter_context(tmpfs("4m"))
        except pytest.skip.Exception as reason:
            self.skipped["sluice-full"] = str(reason)
            return
        self._start("sluice-full", {**changes, "journal.dir": f"{folder}/journal", "journal.segment_bytes": 65536})

    def _fill_small_disk(self):
        if "sluice-full" in self.skipped:
            return
        fill(f"{self.small_disk}/ballast")
        answers = (self.gateways["sluice-full"].ask(new_user(), "b" * 12000).status for _ in range(60))
        assert 503 in answers, "the disk is full"

    def _damage_a_record(self):
        """A byte on the disk changes while nobody looks."""
        gateway = self.gateways["sluice-behind"]
        for text in ("the first of some", "of which one is hit", "and the last"):
            gateway.ask(new_user(), text)
        gateway.kill()
        for path in glob.glob(f"{gateway.settings['journal.dir']}/*"):
            with open(path, "r+b") as file:
                at = file.read().find(b"of which one is hit")
                if at >= 0:
                    file.seek(at)
                    file.write(b"O")
        self._start("sluice-behind", gateway.settings)

    def _write_dead_letter(self, database):
        database.query("alter table chat_messages add constraint no_poison check (content not like 'arsenic%%')")
        self.gateways["sluice-letters"].ask(new_user(), "arsenic")

    # ---- traffic

    def send(self, job, message, *, clients=1, pause_s=0.05, new_users=False):
        """Turns until the end of the test."""
        gateway = self.gateways[job]

        def run(first_pause_s):
            user, session = new_user(), None
            self.over.wait(first_pause_s)
            while not self.over.is_set():
                turn = gateway.ask(new_user() if new_users else user, message, session_id=session)
                session = None if new_users else turn.session_id
                self.over.wait(pause_s)

        for number in range(clients):
            self.clients.append(threading.Thread(target=run, args=(number * 0.4,), daemon=True))
            self.clients[-1].start()

    def stop(self):
        self.over.set()
        for client in self.clients:
            client.join()
        at_once(Gateway.stop, self.gateways.values())


def database_on(postgres):
    database = Database(postgres.create_database("alerts"))
    migration = migrate(database.url)
    assert migration.returncode == 0, migration.stderr
    return database


@pytest.fixture(scope="module")
def scenes(settings, postgres, own_postgres):
    scenes = Scenes(settings, postgres, own_postgres)
    with scenes.cleanup:
        scenes.start()
        scenes.send("sluice-slow", say("first=1500 tokens=20 gap=90"), clients=8)
        scenes.send("sluice-failing", say("status=500"))
        scenes.send("sluice-cold", say("tokens=1"), new_users=True)
        scenes.send("sluice-well", say("tokens=3"), clients=2)
        yield scenes
        scenes.stop()


@pytest.fixture(scope="module")
def prometheus(scenes):
    targets = {job: gateway.address for job, gateway in scenes.gateways.items()}
    server = Prometheus(targets, THRESHOLDS).start()
    try:
        wait_until(lambda: len(server.query("up == 1")) == len(targets), 20, "all are scraped")
        scenes.gateways["sluice-gone"].stop()
        yield server
    finally:
        server.stop()


# ---------------------------------------------------------------- alerts


@pytest.mark.parametrize(
    "check", ["check config prometheus.yml", "check rules rules.yml", "test rules rules_test.yml"]
)
def test_promtool_finds_nothing(check):
    code, words = promtool(*check.split())
    assert code == 0 and "SUCCESS" in words, words


@pytest.mark.parametrize("job", [job for job in EXPECTED if EXPECTED[job]])
def test_a_fault_fires_its_alerts(prometheus, scenes, job):
    if job in scenes.skipped:
        pytest.skip(scenes.skipped[job])
    wait_until(lambda: prometheus.firing(job).keys() >= EXPECTED[job], 40, f"{EXPECTED[job]} fire")
    for name, annotations in prometheus.firing(job).items():
        assert not re.search("no value|error|NaN|Inf", annotations["summary"], re.I), (name, annotations)


def test_nothing_else_fires(prometheus, scenes):
    """Every alert has had the time it takes: each fires for somebody by now."""
    for job in scenes.gateways:
        assert prometheus.firing(job).keys() == EXPECTED[job], job


def test_every_alert_has_been_fired_and_has_its_runbook(prometheus):
    rules = [rule for rule in prometheus.rules() if rule["type"] == "alerting"]
    assert {rule["name"] for rule in rules} == set().union(*EXPECTED.values())
    with open(f"{ROOT}/docs/OPERATIONS.md", encoding="utf-8") as file:
        sections = re.split(r"^#+ (.*)\n", file.read(), flags=re.M)
    anchors = [re.sub("[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in sections[1::2]]
    text = dict(zip(anchors, sections[2::2], strict=True))
    for rule in rules:
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert path == "docs/OPERATIONS.md" and f"`{rule['name']}`" in text[anchor], rule
        assert rule["labels"]["severity"] in ("critical", "warning"), rule
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}, rule


def test_no_rule_fails(prometheus):
    assert not [rule for rule in prometheus.rules() if rule.get("lastError")]


# ---------------------------------------------------------------- the dashboard


def dashboard():
    with open(os.path.join(ROOT, "deploy", "grafana", "sluice.json"), encoding="utf-8") as file:
        return json.load(file)


def queries():
    """Of all panels and annotations, as Grafana sends them for all jobs."""
    found = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    found += [entry["expr"] for entry in dashboard()["annotations"]["list"]]
    values = {"$job": "sluice.*", "$instance": ".*", "$__rate_interval": "5s"}
    for name, value in values.items():
        found = [query.replace(name, value) for query in found]
    return found


@pytest.mark.parametrize("query", queries())
def test_a_query_of_the_dashboard_has_data(prometheus, query):
    assert "$" not in query, "a variable that the dashboard does not have"
    if "sluice_journal_disk_free_bytes" in query:
        prometheus.query(query)  # only where the system tells
        return
    # 0/0 is no data: the query names other labels than the metric has
    wait_until(lambda: any(value == value for _, value in prometheus.query(query)), 20, query)


def test_the_dashboard_can_be_imported():
    board = dashboard()
    assert [entry["name"] for entry in board["templating"]["list"]] == ["datasource", "job", "instance"]
    uids = set(re.findall(r'"uid": "([^"]*)"', json.dumps(board)))
    assert uids == {"sluice", "${datasource}"}, "no data source of one installation"
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24, "panels overlap"
