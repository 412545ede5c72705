"""Prometheus, Alertmanager and Grafana get what the rules declare, and an alert reaches a webhook."""

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from ruamel.yaml import YAML

from recloop.delivery.meters import Meters
from recloop.delivery.processes import free_port
from recloop.serving.bodies import Problem
from recloop.serving.meters import Meters as SlotMeters
from recloop.settings import load_params
from recloop.watch import rules
from recloop.watch.exporter import Figures
from recloop.watch.figures import GAUGES
from recloop.watch.prometheus import alertmanager_file, rule_file
from tests.delivery.live import Live, until

ROOT = Path(__file__).parents[2]
FOLDER, RUNBOOKS = ROOT / "infra" / "prometheus", ROOT / "docs" / "runbooks"
CASES = ("rules.test.yml", "rules.slow.test.yml")
PARAMS = load_params(ROOT / "params.yaml")
RULES = rules(PARAMS)
PROMTOOL, PROMETHEUS, ALERTMANAGER = map(shutil.which, ("promtool", "prometheus", "prometheus-alertmanager"))
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"
)
needs_both = pytest.mark.skipif(
    None in (PROMETHEUS, ALERTMANAGER),
    reason="not installed: apt-get install prometheus prometheus-alertmanager",
)


def read(path):
    return YAML(typ="safe").load(path)


def test_the_files_are_what_the_rules_declare():
    why = "run: python -m recloop.watch.prometheus"
    assert (FOLDER / "rules.yml").read_text() == rule_file(PARAMS), why
    assert (FOLDER / "alertmanager.yml").read_text() == alertmanager_file("http://127.0.0.1:9099/alerts"), why


@needs_promtool
def test_prometheus_understands_them():
    done = subprocess.run([PROMTOOL, "check", "rules", FOLDER / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [PROMTOOL, "check", "config", FOLDER / "prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


@needs_promtool
@pytest.mark.parametrize("file", [CASES[0], pytest.param(CASES[1], marks=pytest.mark.slow)])
def test_alerts_fire_are_silent_and_hold_at_their_boundary(file):
    done = subprocess.run([PROMTOOL, "test", "rules", FOLDER / file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_cases_that_fire_and_that_are_silent():
    seen = {
        (check["alertname"], bool(check["exp_alerts"]))
        for file in CASES
        for case in read(FOLDER / file)["tests"]
        for check in case["alert_rule_test"]
    }
    assert seen == {(rule.name, fires) for rule in RULES for fires in (True, False)}


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_every_alert_has_a_runbook_and_names_it(name):
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert [part.partition("\n")[0] for part in sections[1:]] == ["What it means", "Look at", "Do"]
    assert all(len(part) > 60 for part in sections[1:])
    for link in re.findall(r"\]\(([\w./]+\.md)", text):
        assert (RUNBOOKS / link).exists(), link
    (found,) = [r for r in read(FOLDER / "rules.yml")["groups"][0]["rules"] if r["alert"] == name] or [None]
    if found:
        assert ROOT / found["annotations"]["runbook"] == RUNBOOKS / f"{name}.md"


def test_no_runbook_is_of_an_alert_that_is_gone():
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {rule.name for rule in RULES}


def exposition():
    """Every series that a gateway and the exporter have, as Prometheus reads them."""
    meters, figures, registry = Meters(), Figures(None, None), CollectorRegistry()
    for meter in vars(meters).values():
        if getattr(meter, "_labelnames", None):
            meter.labels(*meter._labelnames)
    figures._values = {name: {(("policy", "p"),): 1.0} for name in GAUGES}
    registry.register(figures)
    slot = SlotMeters("p", registry)
    slot.refused(Problem(422, "no"))
    return generate_latest(meters.registry).decode() + generate_latest(registry).decode()


def exposed():
    return set(re.findall(r"^(recloop_\w+)", exposition(), re.MULTILINE))


@needs_promtool
def test_names_keep_prometheus_s_conventions():
    def lint(text):
        return subprocess.run(
            [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True
        ).stderr

    assert lint(exposition()) == ""
    assert "_total" in lint("# HELP a_b b\n# TYPE a_b counter\na_b 1\n"), "a wrong name is seen"


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_every_metric_of_a_rule_is_exposed(rule):
    assert set(re.findall(r"recloop_\w+", rule.when.promql())) <= exposed()


def test_the_dashboard_shows_what_is_exposed_and_every_figure_of_a_policy():
    board = json.loads((ROOT / "infra/grafana/dashboards/recloop.json").read_text())
    shown = {
        name for p in board["panels"] for t in p["targets"] for name in re.findall(r"recloop_\w+", t["expr"])
    }
    assert shown <= exposed()
    policy = {name for name in GAUGES if name.startswith("recloop_policy_")} - {"recloop_policy_requests"}
    assert policy <= shown
    source = read(ROOT / "infra/grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    uids = {p["datasource"]["uid"] for p in board["panels"]}
    assert uids == {source["uid"]}
    ids = [p["id"] for p in board["panels"]]
    assert len(set(ids)) == len(ids)
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]}
    assert len(places) == len(ids), "no panel lies on another"


@needs_promtool
def test_every_question_of_the_dashboard_is_promql(tmp_path):
    board = json.loads((ROOT / "infra/grafana/dashboards/recloop.json").read_text())
    exprs = [t["expr"] for p in board["panels"] for t in p["targets"]]
    rules_ = [{"record": f"r{n}", "expr": expr} for n, expr in enumerate(exprs)]
    (tmp_path / "r.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": rules_}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", tmp_path / "r.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def webhook():
    """A real server that keeps the groups that Alertmanager posts."""
    got = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/alerts", got
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def running(command, ready):
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or answers(ready))
        assert process.poll() is None, f"{command[0]} ended"
        yield
    finally:
        process.terminate()
        process.wait(60)


def answers(url):
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def alertmanager(tmp_path, url):
    port = free_port()
    config = tmp_path / "alertmanager.yml"
    config.write_text(alertmanager_file(url, wait=1, regroup=2))
    where = f"127.0.0.1:{port}"
    command = [ALERTMANAGER, f"--config.file={config}", f"--storage.path={tmp_path}/am"]
    command += [f"--web.listen-address={where}", "--cluster.listen-address="]
    with running(command, f"http://{where}/-/ready"):
        yield where


@contextmanager
def prometheus(tmp_path, manager, gateway):
    port = free_port()
    text = (FOLDER / "prometheus.yml").read_text()
    other = {"127.0.0.1:9093": manager, "127.0.0.1:8080": gateway, "interval: 5s": "interval: 1s"}
    for old, new in other.items():
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"  - job_name: recloop-(slot|watch)\n(    .*\n)*", "", text)
    (tmp_path / "prometheus.yml").write_text(text)
    quick = rule_file(PARAMS, hold=0).replace("keep_firing_for: 30m", "keep_firing_for: 1s")
    down = re.compile(r"(- alert: GatewayDown\n +expr: .*\n)")
    quick, changed = down.subn(r"\1        for: 10s\n", quick)  # a machine that stalls is not down
    assert changed == 1
    (tmp_path / "rules.yml").write_text(quick)
    where = f"127.0.0.1:{port}"
    command = [PROMETHEUS, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/db"]
    command += [f"--web.listen-address={where}"]
    with running(command, f"http://{where}/-/ready"):
        yield f"http://{where}"


def said(server, what, **query):
    return httpx.get(f"{server}/api/v1/{what}", params=query, timeout=60).json()["data"]


def post(manager, labels):
    alerts = [{"labels": one} for one in labels]
    httpx.post(f"http://{manager}/api/v2/alerts", json=alerts, timeout=60).raise_for_status()


def told(got):
    """Names of the alerts in each message that says that something is wrong."""
    return [
        sorted({a["labels"]["alertname"] for a in m["alerts"] if a["status"] == "firing"})
        for m in got
        if m["status"] == "firing"
    ]


@needs_both
@pytest.mark.slow
def test_an_alert_of_a_real_gateway_arrives_at_a_real_webhook(tmp_path, webhook, nothing_left):
    url, got = webhook
    with Live(tmp_path) as live, alertmanager(tmp_path, url) as manager:
        address = live.url.removeprefix("http://")
        with prometheus(tmp_path, manager, address) as server:
            scraped = f'count_over_time(up{{instance="{address}"}}[1m]) >= 2'
            until(lambda: said(server, "query", query=scraped)["result"])
            assert got == []
            for n in range(60):  # there is no slot: all are fallbacks
                assert live.ask(f"u{n}").json()["fallback"]
            until(lambda: told(got))
            both = {"Fallbacks", "AvailabilityBurn"}
            until(lambda: both <= {a["labels"]["alertname"] for a in said(server, "alerts")["alerts"]})
            time.sleep(4)  # a symptom would have been told by then
            assert told(got) == [["Fallbacks"]], "and not what it burns"
            (alert,) = got[0]["alerts"]
            assert alert["annotations"]["runbook"] == "docs/runbooks/Fallbacks.md"
            live.server.should_exit = True
            until(lambda: ["GatewayDown"] in told(got))


@needs_both
@pytest.mark.slow
def test_one_fault_with_twenty_symptoms_is_one_notification(tmp_path, webhook, nothing_left):
    url, got = webhook
    layers = {rule.name: (rule.layer, rule.severity) for rule in RULES}
    symptoms = ["GatewayDown", "Fallbacks", "AvailabilityBurn", "AvailabilitySlowBurn", "LatencyBurn",
                "FeedbackRefused", "RewardLoss", "ExplorationLost"]  # fmt: skip
    labels = [{"alertname": name} for name in symptoms]
    labels += [{"alertname": "SlotFails", "slot": slot} for slot in ("blue", "green")]
    labels += [{"alertname": "Drift", "feature": f"f{n}"} for n in range(12)]
    assert len(labels) >= 20
    for one in labels:
        one["layer"], one["severity"] = layers[one["alertname"]]
    with alertmanager(tmp_path, url) as manager:
        post(manager, list(reversed(labels)))  # the cause comes last, and within what is gathered
        until(lambda: got)
        time.sleep(4)
        assert told(got) == [["GatewayDown"]]
        post(manager, [{"alertname": "x", "layer": "rollout"}])
        until(lambda: len(told(got)) == 2)


@needs_both
@pytest.mark.slow
def test_a_refusal_is_one_notification_and_each_rollout_another(tmp_path, webhook, nothing_left):
    url, got = webhook

    def raise_(name, **labels):
        one = {"alertname": name, "layer": layers[name], "severity": "critical"} | labels
        post(manager, [one])

    layers = {rule.name: rule.layer for rule in RULES}
    with alertmanager(tmp_path, url) as manager:
        raise_("RolloutRefused", rollout="7", policy="new", gate="canary", reason="failures")
        raise_("SlotFails", slot="green", policy="new")
        until(lambda: got)
        raise_("RolloutRefused", rollout="8", policy="newer", gate="canary", reason="slow")
        until(lambda: len(told(got)) == 2)
        raise_("SlotFails", slot="blue", policy="old")
        until(lambda: ["SlotFails"] in told(got))
    assert sorted(told(got)) == [["RolloutRefused"], ["RolloutRefused"], ["SlotFails"]]
    (slots,) = [m for m in got if m["groupLabels"].get("layer") == "serving"]
    assert [a["labels"]["policy"] for a in slots["alerts"]] == ["old"], "the gate has dealt with the other"
