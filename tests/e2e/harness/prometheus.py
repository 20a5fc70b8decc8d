"""A private Prometheus with the files of deploy/prometheus, at the pace of a test."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.parse
import urllib.request

from .gateway import ROOT
from .process import spawn
from .proxies import adapt
from .wait import wait_until

SHIPPED = os.path.join(ROOT, "deploy", "prometheus")


def promtool(*arguments):
    """Debian's own check of the shipped files: (exit code, what it says)."""
    done = subprocess.run(["promtool", *arguments], cwd=SHIPPED, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def faster(rules):
    """Seconds for minutes, minutes for hours, hours for days: in every [window] and every `for`."""
    pace = {"m": "s", "h": "m", "d": "h"}
    return re.sub(r"(\[|\bfor: )(\d+)([mhd])\b", lambda found: found[1] + found[2] + pace[found[3]], rules)


class Prometheus:
    """It scrapes and evaluates each second; `targets`: {job: address}."""

    def __init__(self, targets, thresholds):
        """`thresholds`: {name: (old, new)} for the lines of rules.yml that are marked `# site: name`."""
        self.folder = tempfile.mkdtemp(prefix="sluice-prometheus.", dir="/tmp")
        each = [f'{{targets: ["{address}"], labels: {{job: {job}}}}}' for job, address in targets.items()]
        self._adapt(
            "prometheus.yml",
            {
                "scrape interval": ("15s", "1s"),
                "evaluation interval": ("15s", "1s"),
                "scrape timeout": ("5s", "1s"),
                "targets": ('targets: ["127.0.0.1:8080"]', "\n      - ".join(each)),
            },
        )
        self._adapt("rules.yml", thresholds, faster)
        self.process = None

    def _adapt(self, name, values, change=str):
        with open(f"{SHIPPED}/{name}", encoding="utf-8") as shipped:
            text = change(adapt(shipped.read(), values))
        with open(f"{self.folder}/{name}", "w", encoding="utf-8") as own:
            own.write(text)

    def start(self):
        for _ in range(3):  # somebody else may take the free port first
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.address = f"127.0.0.1:{free.getsockname()[1]}"
            with open(f"{self.folder}/log", "ab") as log:
                self.process = spawn(
                    ["prometheus", f"--config.file={self.folder}/prometheus.yml"]
                    + [f"--storage.tsdb.path={self.folder}/series", f"--web.listen-address={self.address}"],
                    stdout=log,
                    stderr=log,
                )
            wait_until(lambda: self._is_ready() or self.process.poll() is not None, 20, "Prometheus is ready")
            if self.process.poll() is None:
                return self
        raise AssertionError(self.log())

    def _is_ready(self):
        try:
            return self._get("/-/ready") is not None
        except OSError:
            return False

    def _get(self, path, **parameters):
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.read()

    def _api(self, what, **parameters):
        answer = json.loads(self._get(f"/api/v1/{what}", **parameters))
        assert answer["status"] == "success", answer
        return answer["data"]

    def log(self):
        with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as log:
            return log.read()

    # ---- asking it

    def query(self, expression):
        """[(labels, value), ...] of now. One that does not parse is an HTTPError."""
        return [(entry["metric"], float(entry["value"][1])) for entry in self._api("query", query=expression)["result"]]

    def firing(self, job):
        """{name: annotations} of the job's alerts."""
        return {
            alert["labels"]["alertname"]: alert["annotations"]
            for alert in self._api("alerts")["alerts"]
            if alert["state"] == "firing" and alert["labels"].get("job") == job
        }

    def rules(self):
        """All rules as Prometheus has read them; a rule that fails to evaluate has its `lastError`."""
        return [rule for group in self._api("rules")["groups"] for rule in group["rules"]]

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
