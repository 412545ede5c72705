"""The rules say the same here and in Prometheus: known numbers, and what each is asked as."""

import pytest

from recloop.watch.expressions import All, Both, Compare, Either, Gauge, Increase, duration


class Given:
    def __init__(self, counters=None, gauges=None):
        self.counters, self.found = counters or {}, gauges or {}

    def increases(self, name, seconds):
        return {labels: x * seconds for labels, x in self.counters.get(name, {}).items()}

    def gauges(self, name):
        return self.found.get(name, {})


BLUE, GREEN = ("slot", "blue"), ("slot", "green")
OK, BAD = ("outcome", "ok"), ("outcome", "timeout")
ASKED = Given({"asked_total": {(OK, BLUE): 1.0, (BAD, BLUE): 0.5, (OK, GREEN): 2.0}})


@pytest.mark.parametrize(
    ("match", "by", "value"),
    [
        ({}, (), {(): 35.0}),
        ({"outcome": "ok"}, (), {(): 30.0}),
        ({"outcome": "!ok"}, ("slot",), {(BLUE,): 5.0}),
        ({"outcome": "~time"}, ("slot",), {(BLUE,): 5.0}),
        ({"outcome": "none"}, (), {(): 0.0}),
        ({"outcome": "none"}, ("slot",), {}),
        ({}, ("slot",), {(BLUE,): 15.0, (GREEN,): 20.0}),
    ],
)
def test_increases_are_matched_and_added(match, by, value):
    assert Increase("asked_total", 10, match, by).value(ASKED) == value


def test_a_ratio_is_of_equal_labels_and_to_nothing_holds_for_nothing():
    failed, asked = (Increase("asked_total", 10, m, ("slot",)) for m in ({"outcome": "!ok"}, {}))
    assert Both(failed, "/", asked).value(ASKED) == {(BLUE,): pytest.approx(1 / 3)}
    nothing = Increase("no_total", 10)
    assert Compare(Both(nothing, "/", nothing), ">", -1.0).value(ASKED) == {}


def test_conditions_join():
    seen = Given(gauges={"a": {(BLUE,): 2.0, (GREEN,): 5.0}, "b": {(BLUE,): 1.0, (GREEN,): 9.0}})
    a, b = Gauge("a", ("slot",)), Gauge("b", ("slot",))
    above = Compare(a, ">", b)
    assert above.value(seen) == {(BLUE,): 2.0}
    assert All((above, Compare(a, "<", 2.0))).value(seen) == {}
    assert Either((above, Compare(a, ">", 4.0))).value(seen) == {(BLUE,): 2.0, (GREEN,): 5.0}
    assert Gauge("a").value(seen) == {(): 5.0}


def test_it_is_asked_in_promql():
    failed = Increase("asked_total", 300, {"outcome": "!ok", "status": "~5"}, ("slot",))
    assert failed.promql() == 'sum by (slot) (increase(asked_total{outcome!="ok",status=~"5.*"}[5m]))'
    whole = Compare(Both(Increase("a_total", 60), "+", Gauge("b")), ">=", 0.1)
    assert whole.promql() == "((sum(increase(a_total[1m])) or vector(0)) + max(b)) >= 0.1"
    assert [duration(x) for x in (0.5, 45, 300, 7200, 259200)] == ["500ms", "45s", "5m", "2h", "3d"]
