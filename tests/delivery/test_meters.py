"""The alert rules speak of metrics that a gateway has."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from recloop.delivery.meters import Meters
from recloop.settings import load_params

ROOT = Path(__file__).parents[2]
RULES = [
    rule
    for group in YAML(typ="safe").load(ROOT / "infra/prometheus/rules.yml")["groups"]
    for rule in group["rules"]
]


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_metric_of_a_rule_is_exposed(rule):
    meters = Meters()
    meters.asked.labels("blue", "p", "ok").inc()
    meters.slot_seconds.labels("blue", "p").observe(0.1)
    meters.events.labels("refused").inc()
    exposed = set(re.findall(r"^(\w+)[ {]", meters.text().decode(), re.MULTILINE))
    assert set(re.findall(r"recloop_\w+", rule["expr"])) <= exposed


def test_the_rules_limits_are_those_of_params():
    params = load_params(ROOT / "params.yaml")
    limits = {rule["alert"]: float(rule["expr"].rpartition(">")[2]) for rule in RULES if ">" in rule["expr"]}
    assert limits["SlotFails"] == params.delivery.max_error_rate
    assert limits["SlotSlow"] == params.delivery.max_p99_ms / 1000
    assert limits["FeedbackRefused"] == params.quality.tolerated_share
