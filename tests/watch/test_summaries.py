"""Every alert is worded in both languages, from what is kept of it."""

import json
import re

import pytest
from sqlalchemy import update

from recloop.settings import load_params
from recloop.store import open_store
from recloop.store.tables import alert_states, alerts
from recloop.watch import Alert, evaluate, notify, raised, rules, standing
from recloop.watch.prometheus import rule_file
from recloop.watch.summaries import FIGURE, SUMMARIES, VALUES, summary
from tests.delivery.live import PARAMS

ALL = load_params(PARAMS)
RULES = {rule.name: rule for rule in rules(ALL)}
EN, KO = SUMMARIES["en"], SUMMARIES["ko"]


def test_both_languages_have_every_rule_with_the_same_figures():
    assert EN.keys() == KO.keys() == RULES.keys()
    for name in EN:
        assert re.search("[가-힣]", KO[name]), name
        assert set(FIGURE.findall(EN[name])) == set(FIGURE.findall(KO[name])), name
        assert set(re.findall("`[^`]+`", EN[name])) <= set(re.findall("`[^`]+`", KO[name])), name
    assert all(re.search("[가-힣]", word) for word in VALUES["ko"].values())


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_every_figure_that_its_sentence_has(name):
    labels = {label: "x" for label, how in FIGURE.findall(EN[name]) if not how}
    promql = RULES[name].when.promql()
    assert all(re.search(rf"\b{label}\b", promql) for label in labels), "its series have the labels"
    for language in SUMMARIES:
        told = summary(name, language, labels, {"value": 0.25, **RULES[name].limits})
        assert told
        assert "{" not in told
    annotated = rule_file(ALL).partition(f"alert: {name}\n")[2].partition("summary: ")[2].partition("\n")[0]
    assert "{" not in re.sub(r"{{ .*? }}", "", annotated), "Go's templates, and nothing else"


class Series:
    """Of one gauge."""

    def __init__(self, name, value, **labels):
        self.name, self.values = name, {tuple(sorted(labels.items())): value}

    def increases(self, *_):
        return {}

    def gauges(self, name):
        return self.values if name == self.name else {}


def test_what_was_found_is_kept_with_what_it_takes_to_say_it_in_korean(store_url):
    engine = open_store(store_url)
    seen = Series("recloop_flow_failures", 3.0, flow="retrain")
    (alert,) = notify(engine, evaluate(list(RULES.values()), seen), [])
    assert (
        alert.summary == alert.told("en") == "flow retrain has failed 3 times in a row: its log is in Prefect"
    )
    for kept in (standing(engine)[0].alert, raised(engine)[0][1]):
        assert kept.labels == {"flow": "retrain"}
        assert kept.figures == {"value": 3.0}
        assert kept.told("ko") == "흐름 retrain이(가) 연달아 3번 실패했습니다. 로그는 Prefect에 있습니다"


def test_rows_of_a_version_that_kept_no_labels_are_shown_as_they_were_written(store_url):
    engine = open_store(store_url)
    notify(engine, [Alert("Drift feature=age kind=inputs", "warning", "as written", {"value": 0.2})], [])
    with engine.begin() as connection:
        for table in (alert_states, alerts):
            connection.execute(update(table).values(figures=json.dumps({"value": 0.2})))
    for kept in (standing(engine)[0].alert, raised(engine)[0][1]):
        assert (kept.told("ko"), kept.told("en"), dict(kept.figures)) == ("as written",) * 2 + (
            {"value": 0.2},
        )
    gone = Alert("NoSuchRule", "warning", "of another version", {})
    assert gone.told("ko") == "of another version"


def test_times_shares_and_labels_are_said_in_the_language():
    def told(language, name, labels=None, **figures):
        return summary(name, language, labels or {}, figures)

    assert "for 30 hours" in told("en", "FeedbackQuiet", value=108_000.0)
    assert told("ko", "FeedbackQuiet", value=108_000.0).startswith("30시간 동안")
    assert told("ko", "TrainingOld", value=4 * 86400.0).startswith("4일 동안")
    drift = {"kind": "inputs", "feature": "age", "reference": "same hour of the week"}
    assert "이용자: 나이의 거리가 0.2입니다(비교 대상: 같은 요일 같은 시각)" in told(
        "ko", "Drift", drift, value=0.2
    )
    slow = {"slot": "blue", "policy": "p"}
    assert "500 ms" in told("ko", "SlotSlow", slow, value=0.02, limit=500.0)
