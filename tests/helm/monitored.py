"""The chart's rules and dashboard against what they are for: Prometheus scrapes a vault that serves and evaluates every rule, and
every query of the dashboard is asked over its HTTP API, as Grafana asks it.

Called by `scripts/test helm` with Debian's prometheus, the binary of this tree, and buf. What is waited for is told by Prometheus
itself, until DEADLINE.
"""

import contextlib
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ROOT / "helm/sandyq/files"
PROMETHEUS, SANDYQ, BUF = sys.argv[1:4]
DEADLINE = time.monotonic() + 55
# What Grafana puts in its place: four times the interval of scrapes, and here there is one a second.
RATE_INTERVAL = "10s"


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


@contextlib.contextmanager
def running(*command, **how):
    process = subprocess.Popen([str(part) for part in command], **how)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def calls(directory, address):
    """Answers a function that calls the vault once each way: read, denied, refused before a decision."""
    stored = run(
        SANDYQ, "--json", "tokenize", "--connection", directory / "client-backend.toml", "--input", directory / "person.json"
    )
    assert stored.returncode == 0, stored.stderr
    token = json.loads(stored.stdout)["tokens"]["iin"]
    iin = json.loads((directory / "person.json").read_text())["fields"]["iin"]
    secure = ("--protocol", "grpc", "--cacert", directory / "server-authority.pem", "--servername", "localhost")
    own = ("--cert", directory / "payments.pem", "--key", directory / "payments.key")
    url = f"https://{address}/sandyq.v1.VaultService/Detokenize"

    def detokenize(purpose, of):
        asked = json.dumps({"token": of, "purpose": purpose, "view": "VIEW_FULL"})
        return run(BUF, "curl", *secure, *own, "-d", asked, url)

    def once():
        read = detokenize("payments", token)
        assert read.returncode == 0 and iin in read.stdout, read.stderr
        for purpose, of, said in (("resale", token, "PermissionDenied"), ("payments", "none", "InvalidArgument")):
            refused = detokenize(purpose, of)
            assert refused.returncode != 0, said
            assert said.lower() in refused.stderr.lower().replace("_", ""), refused.stderr

    return once


class Monitor:
    """Prometheus as Grafana asks it."""

    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}/api/v1/"

    def ask(self, what, **arguments):
        url = self.address + what + "?" + urllib.parse.urlencode(arguments)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{what} {arguments}: {error.read().decode()}") from error
        assert said["status"] == "success" and not said.get("warnings"), (arguments, said)
        return said["data"]

    def values(self, query):
        """Values that a query finds now; what is no number is none."""
        found = self.ask("query", query=query)
        assert found["resultType"] == "vector", (query, found)
        return [sample["value"][1] for sample in found["result"] if sample["value"][1] != "NaN"]


def until(wanted, between):
    """Asks until there is nothing left to want, and does something between."""
    left = wanted()
    while left:
        assert time.monotonic() < DEADLINE, f"still wanted: {left}"
        between()
        left = wanted()


def is_up(monitor):
    try:
        targets = monitor.ask("targets")["activeTargets"]
    except OSError:
        return False
    return bool(targets) and all(target["health"] == "up" for target in targets)


def main():
    rules = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    alerts = [rule for group in rules for rule in group["rules"]]
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    panels = [(p["title"], target["expr"]) for p in dashboard["panels"] for target in p.get("targets", [])]
    queries = {query.replace("$__rate_interval", RATE_INTERVAL): title for title, query in panels}
    assert len(queries) == len(panels) >= 20
    assert not [query for query in queries if "$" in query], "a variable that this does not know"

    with contextlib.ExitStack() as stack:
        place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        vault = place / "vault"
        served = stack.enter_context(
            running(SANDYQ, "--json", "dev", "--port", 0, "--dir", vault, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        told = json.loads(served.stdout.readline())
        scraped = {"job_name": "sandyq", "static_configs": [{"targets": [told["health"]]}]}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(FILES / "alerts.yaml")],
            "scrape_configs": [scraped],
        }
        (place / "prometheus.yaml").write_text(yaml.safe_dump(config))
        port = free_port()
        log = stack.enter_context((place / "log").open("w"))
        stack.enter_context(
            running(
                PROMETHEUS,
                f"--config.file={place / 'prometheus.yaml'}",
                f"--storage.tsdb.path={place / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                stdout=log,
                stderr=log,
            )
        )
        monitor = Monitor(port)
        once = calls(vault, told["address"])
        until(lambda: [] if is_up(monitor) else ["a scrape"], lambda: time.sleep(0.1))

        # Every panel has something to show: also on a vault to which nothing bad has happened, since what counts that is there.
        until(lambda: [(title, query) for query, title in queries.items() if not monitor.values(query)], once)

        # Every metric that a rule or a panel names is there by its name.
        for expression in [rule["expr"] for rule in alerts] + list(queries):
            bare = re.sub(r'"[^"]*"|\b(?:by|without) *\([^)]*\)|\{[^}]*\}', "", expression)
            named = set(re.findall(r"\b(?:sandyq|process|rpc)_[a-z_]+", bare))
            assert named, expression
            for name in named:
                assert monitor.values(f"count({name})"), f"nothing of {name}, which is asked for by: {expression}"

        # Every rule was evaluated and none failed; each is answered when asked by itself. A vault that is well alerts nobody.
        def unevaluated():
            told = [rule for group in monitor.ask("rules")["groups"] for rule in group["rules"]]
            assert [rule["name"] for rule in told] == [rule["alert"] for rule in alerts]
            failed = [(rule["name"], rule["lastError"]) for rule in told if rule.get("lastError")]
            assert not failed, failed
            return [rule["name"] for rule in told if rule["health"] != "ok"]

        until(unevaluated, lambda: time.sleep(0.1))
        for rule in alerts:
            monitor.ask("query", query=rule["expr"])
        firing = [alert["labels"]["alertname"] for alert in monitor.ask("alerts")["alerts"] if alert["state"] == "firing"]
        assert not firing, firing
        served.send_signal(signal.SIGTERM)
        assert served.wait(30) == 0
    print(f"helm: monitored ({len(queries)} queries, {len(alerts)} rules)")


main()
