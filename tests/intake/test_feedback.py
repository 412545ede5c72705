"""Feedback over HTTP: what is wrong is named, what is right is kept, nothing crashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recloop.intake import parse_events

NOW = 1_700_000_000_000_000
DAY = 86_400_000_000
GOOD = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "kind": "click", "ts": NOW - 5}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def test_a_whole_event_is_kept_as_it_came():
    (event,), refused = parse_events([GOOD | {"value": 2.5, "request_id": "r1"}], NOW)
    assert refused == []
    assert (event.event_id, event.kind, event.value, event.request_id) == ("e1", "click", 2.5, "r1")
    assert event.ts == NOW - 5


def test_an_absent_time_is_now_and_absent_ids_differ():
    body = {name: GOOD[name] for name in ("user_id", "item_id", "kind")}
    events, _ = parse_events([body, body], NOW)
    assert [event.ts for event in events] == [NOW, NOW]
    assert events[0].event_id != events[1].event_id


def test_the_same_act_delivered_twice_has_one_identity():
    body = {name: value for name, value in GOOD.items() if name != "event_id"}
    (first,), _ = parse_events([body], NOW)
    (again,), _ = parse_events([dict(reversed(body.items()))], NOW + 9)
    (other,), _ = parse_events([body | {"ts": NOW - 6}], NOW)
    assert first.event_id == again.event_id != other.event_id


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"user_id": None}, "user_id"),
        ({"user_id": "no spaces"}, "user_id"),
        ({"item_id": "x" * 65}, "item_id"),
        ({"kind": "stare"}, "kind"),
        ({"value": "much"}, "value"),
        ({"value": float("nan")}, "value"),
        ({"value": 10**400}, "value"),
        ({"ts": "soon"}, "ts"),
        ({"ts": -1}, "ts"),
        ({"ts": NOW + 61_000_000}, "ts: 61 s ahead"),
        ({"ts": NOW - 8 * DAY}, "ts: 8.0 days old"),
        ({"surprise": 1}, "surprise"),
        ({"event_id": 7}, "event_id"),
    ],
)
def test_the_wrong_field_is_named_and_the_others_go_on(change, names):
    bad = GOOD | change
    events, refused = parse_events([GOOD, bad, GOOD | {"event_id": "e2"}], NOW)
    assert [event.event_id for event in events] == ["e1", "e2"]
    assert len(refused) == 1
    assert refused[0].reason.startswith(names)
    assert refused[0].body is bad
    assert (refused[0].source, refused[0].kind) == ("http", "event")


def test_the_limits_of_the_clock_are_inside():
    events, refused = parse_events([GOOD | {"ts": NOW + 60_000_000}, GOOD | {"ts": NOW - 7 * DAY}], NOW)
    assert (len(events), refused) == (2, [])


@given(
    st.lists(
        JSON | st.builds(lambda extra: {**GOOD, **extra}, st.dictionaries(st.sampled_from(list(GOOD)), JSON))
    )
)
def test_every_body_is_either_an_event_or_refused(raw):
    events, refused = parse_events(raw, NOW)
    assert len(events) + len(refused) == len(raw)
    assert all(row.reason for row in refused)


@pytest.mark.parametrize("hours", [-30 * 24 * 365, -1, 2, 500])
def test_a_clock_that_is_wrong_is_corrected_for_and_by_how_much_is_kept(hours):
    off = hours * 3_600_000_000
    sent = {"ts": NOW - 7_000_000 + off, "sent": NOW - 200_000 + off}
    if sent["ts"] < 0:
        sent = {"ts": 3_000_000, "sent": 9_800_000}
    (act,), refused = parse_events([GOOD | sent], NOW)
    assert refused == []
    assert act.ts == NOW - 6_800_000, "it happened 6.8 s before it was sent"
    assert act.skew == NOW - sent["sent"]
    assert act.received == NOW


def test_a_clock_that_is_right_is_left_alone():
    for late in (0, 4_900_000, -4_900_000):
        (act,), _ = parse_events([GOOD | {"sent": NOW - late}], NOW)
        assert (act.ts, act.skew) == (GOOD["ts"], 0)
    (act,), _ = parse_events([{k: v for k, v in GOOD.items() if k != "ts"} | {"sent": 5}], NOW)
    assert (act.ts, act.skew) == (NOW, 0)


@pytest.mark.parametrize("sent", ["now", -1, 2**62, 1.5, True])
def test_a_sending_time_that_is_none_is_named(sent):
    _, (refused,) = parse_events([GOOD | {"sent": sent}], NOW)
    assert refused.reason.startswith("sent: ")


def test_an_act_that_is_sent_again_later_is_the_same():
    body = {name: value for name, value in GOOD.items() if name != "event_id"}
    (first,), _ = parse_events([body | {"sent": NOW}], NOW)
    (again,), _ = parse_events([body | {"sent": NOW + 9}], NOW + 9)
    assert first.event_id == again.event_id
