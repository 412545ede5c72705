"""Drift is told from chance, rules from their neighbours, and people are told once."""

import http.server
import json
import threading

import numpy as np
import pytest
from scipy import stats

from recloop.schema import Event, Impression, User
from recloop.settings import load_params
from recloop.store import Refused, add_users, append, open_store
from recloop.store.snapshot import watermark
from recloop.watch import Alert, NotifyError, categories_drift, check, notify, numbers_drift, raised

HOUR = 3_600_000_000
NOW = 10_000 * HOUR
ALERT = Alert("quiet", "critical", "no feedback", {"hours": 30.0})


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def test_psi_is_its_definition():
    reference, recent = ["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["b"] * 70
    p, q = np.array([60.5, 40.5]) / 101, np.array([30.5, 70.5]) / 101
    found = categories_drift("f", reference, recent)
    assert found.distance == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert found.drifted


def test_ks_is_scipy_s_and_its_threshold_the_smirnov_bound():
    rng = np.random.default_rng(1)
    reference, recent = rng.normal(0, 1, 400).tolist(), rng.normal(1, 1, 300).tolist()
    found = numbers_drift("f", reference, recent)
    assert found.distance == pytest.approx(stats.ks_2samp(reference, recent).statistic)
    assert stats.distributions.kstwobign.sf(found.threshold / (1 / 400 + 1 / 300) ** 0.5) == pytest.approx(
        0.001, rel=0.02
    )
    assert found.drifted


@pytest.mark.parametrize("size", [30, 300, 3000])
def test_the_same_people_seldom_drift_whatever_the_sample(size):
    rng = np.random.default_rng(size)
    alarms = 0
    for _ in range(300):
        words = rng.choice(list("abcdefgh"), (2, size), p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])
        ages = rng.normal(40, 10, (2, size))
        alarms += categories_drift("f", *words.tolist()).drifted
        alarms += numbers_drift("f", *ages.tolist()).drifted
    assert alarms <= 4


def test_a_shift_that_matters_to_nobody_is_no_drift_however_many_saw_it():
    reference, recent = ["a"] * 500_000 + ["b"] * 500_000, ["a"] * 510_000 + ["b"] * 490_000
    found = categories_drift("f", reference, recent)
    assert stats.chi2_contingency([[500_000, 500_000], [510_000, 490_000]]).pvalue < 1e-9
    assert not found.drifted


def test_an_empty_sample_has_no_distance():
    assert categories_drift("f", [], ["a"]) is None
    assert numbers_drift("f", [1.0], []) is None


def browse(engine, label, people, rate, policy="p", region="Seoul", start=NOW - HOUR):
    """Each person asks three times and clicks at the rate."""
    rng = np.random.default_rng(len(label) + people)
    add_users(
        engine, [User(user_id=f"{label}{n}", age=20 + n % 40, sex="F", region=region) for n in range(people)]
    )
    shown, acts = [], []
    for n in range(people):
        for turn in range(3):
            request = f"{label}-{n}-{turn}"
            shown.append(
                Impression(
                    request_id=request, position=0, user_id=f"{label}{n}", item_id="a", propensity=0.5,
                    policy=policy, ts=start,
                )
            )  # fmt: skip
            if rng.random() < rate:
                acts.append(
                    Event(
                        event_id=request, user_id=f"{label}{n}", item_id="a", kind="click",
                        request_id=request, ts=start + 1,
                    )
                )  # fmt: skip
    append(engine, shown, acts)


def names(engine, mark, now=NOW):
    return {alert.name for alert in check(engine, load_params(), mark, now)[1]}


def test_all_is_well_when_nothing_has_changed(engine):
    browse(engine, "x", 300, 0.4)
    mark = watermark(engine)
    assert names(engine, mark) == set(), "nobody has come since training"
    browse(engine, "y", 300, 0.42)
    figures, alerts = check(engine, load_params(), mark, NOW)
    assert (figures.requests, alerts) == (900, [])
    assert {drift.feature for drift in figures.drifts} == {"sex", "region", "device", "age"}


def test_each_rule_fires_for_its_cause_alone(engine):
    browse(engine, "x", 300, 0.5)
    mark = watermark(engine)
    browse(engine, "loss", 300, 0.2)
    assert names(engine, mark) == {"reward-loss"}
    mark = watermark(engine)
    browse(engine, "busan", 300, 0.5, region="Busan")
    assert names(engine, mark) == {"drift-region"}
    mark = watermark(engine)
    append(engine, refused=[Refused("http", "event", "no", {})] * 500)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"update quarantine set ts = {NOW}")
    assert names(engine, mark) == {"quarantined"}
    assert names(engine, mark, NOW + 30 * HOUR) == {"quiet"}


def test_fallbacks_are_reported(engine):
    browse(engine, "x", 300, 0.4)
    mark = watermark(engine)
    browse(engine, "y", 300, 0.4)
    browse(engine, "none", 20, 0.4, policy="fallback")
    assert names(engine, mark) == {"fallbacks"}


def test_an_empty_store_is_well(engine):
    assert names(engine, watermark(engine)) == set()


@pytest.fixture
def webhook():
    """A real server that keeps what was posted to it; ``status`` is what it answers."""
    got = []

    class Hook(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_address[1]}/hook", got, Hook
    server.shutdown()
    thread.join()
    server.server_close()


def test_people_are_told_once_until_the_time_is_over(engine, webhook):
    url, got, _ = webhook
    assert notify(engine, [ALERT], [url]) == [ALERT]
    assert got[0]["title"] == "recloop: quiet"
    assert "no feedback" in got[0]["message"]
    other = Alert("drift-age", "warning", "age has drifted", {"distance": 0.4})
    assert notify(engine, [ALERT, other], [url]) == [other]
    assert (len(got), got[1]["title"]) == (2, "recloop: drift-age")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"update alerts set ts = ts - {7 * HOUR}")
    assert notify(engine, [ALERT], [url]) == [ALERT]
    assert [alert for _, alert in raised(engine)] == [ALERT, other, ALERT]


def test_what_could_not_be_delivered_is_sent_next_time(engine, webhook):
    url, got, hook = webhook
    hook.status = 500
    with pytest.raises(NotifyError, match="could not be delivered"):
        notify(engine, [ALERT], [url])
    assert raised(engine) == []
    hook.status = 200
    assert notify(engine, [ALERT], [url]) == [ALERT]
    assert len(got) == 2


def test_an_address_that_is_not_understood_is_named_by_its_number_only(engine):
    with pytest.raises(NotifyError, match="number 2") as error:
        notify(engine, [ALERT], ["json://127.0.0.1:9/", "nonsense://user:secret@host"])
    assert "secret" not in str(error.value)
    assert notify(engine, [ALERT], []) == [ALERT], "without addresses it is noted"
