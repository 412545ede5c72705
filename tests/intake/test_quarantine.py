"""What was refused is kept with its kind of failure, can be repaired, and is let in once."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from recloop.intake import parse_events
from recloop.intake.replay import ReplayError, replay
from recloop.intake.server_log import parse_line
from recloop.intake.traffic import Rules
from recloop.schema import Event, EventKind, Failure, Item, Traffic
from recloop.settings import places
from recloop.store import Outcome, Refused, Rows, add_items, append, open_store, set_consents, take
from recloop.store.quarantine import KEPT, count_held, find_held, held
from recloop.store.tables import events, impressions
from recloop.store.vault import open_vault

NOW = 1_700_000_000_000_000
DAY = 86_400_000_000
GOOD = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "kind": "click", "ts": NOW - 5}


@pytest.fixture
def engine(store_url):
    engine = open_store(store_url)
    add_items(engine, [Item(item_id="i1", title="One")])
    return engine


def refuse(engine, *bodies):
    """Send what is bad; the rows of the quarantine, in the order in which they came."""
    good, refused = parse_events(bodies)
    assert good == []
    append(engine, refused=refused)
    return held(engine, len(bodies))[::-1]


def count(engine, table=events):
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"kind": "stare"}, "schema"),
        ({"user_id": None}, "schema"),
        ({"user_id": "а1"}, "schema"),  # a Cyrillic letter
        ({"surprise": 1}, "schema"),
        ({"value": "x"}, "schema"),
        ({"schema_version": "2.0"}, "schema"),
        ({"value": float("inf")}, "range"),
        ({"value": -0.01}, "range"),
        ({"kind": "rating", "value": 5.01}, "range"),
        ({"ts": -1}, "range"),
        ({"ts": NOW + 61_000_000}, "range"),
        ({"ts": NOW - 8 * DAY}, "too-old"),
        ({"ts": -1, "kind": "stare"}, "schema"),
    ],
)
def test_a_failure_has_a_type(change, failure):
    (refused,) = parse_events([GOOD | change], NOW)[1]
    assert refused.failure == failure


def test_stars_bound_ratings_alone():
    rows = [GOOD | {"kind": "rating", "value": 5}, GOOD | {"kind": "purchase", "value": 90_000}]
    assert [act.value for act in parse_events(rows, NOW)[0]] == [5, 90_000]


def test_a_compatible_later_version_is_taken_with_what_it_adds(engine):
    later = GOOD | {"schema_version": "1.7", "mood": "good", "place": {"cell": 7}}
    (act,), refused = parse_events([later], NOW)
    assert refused == []
    assert take(engine, Rows(acts=[act])).new == 1
    with engine.connect() as connection:
        assert json.loads(connection.execute(select(events.c.extra)).scalar_one()) == {
            "mood": "good",
            "place": {"cell": 7},
        }
    assert take(engine, Rows(acts=[act])).acts == [Outcome.REPEATED]
    (other,), _ = parse_events([later | {"mood": "bad"}], NOW)
    assert take(engine, Rows(acts=[other])).acts == [Outcome.CONFLICT]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"mood": 1}, "mood: no field"),
        ({"schema_version": "1.0", "mood": 1}, "mood: no field"),
        ({"schema_version": "2.0"}, "schema_version: 2.0 breaks with 1.0"),
        ({"schema_version": "0.9"}, "schema_version: 0.9 breaks with 1.0"),
        ({"schema_version": 1}, "schema_version: two numbers"),
        ({"schema_version": "1.7", "value": "much"}, "value: "),
        ({"schema_version": "1.7", "mood": "x" * 5000}, "mood: more than 4096"),
        ({"received": 5}, "received: no field"),
        ({"skew": 5}, "skew: no field"),
        ({"schema_version": "1.7", "user_id": None}, "user_id"),
    ],
)
def test_a_breaking_change_is_refused_with_the_name_of_the_field(change, names):
    (refused,) = parse_events([GOOD | change], NOW)[1]
    assert refused.reason.startswith(names)


def test_the_same_id_with_another_body_is_a_conflict_and_an_honest_repeat_is_none(engine):
    timeless = {name: value for name, value in GOOD.items() if name != "ts"} | {"event_id": "e2"}
    (first, second), _ = parse_events([GOOD, timeless], NOW)
    assert take(engine, Rows(acts=[first, second])).acts == [Outcome.NEW, Outcome.NEW]
    again, _ = parse_events([GOOD, timeless, GOOD | {"value": 1}], NOW + 9)
    assert take(engine, Rows(acts=again)).acts == [Outcome.REPEATED] * 3
    others, _ = parse_events(
        [GOOD | {"kind": "cart", "value": 2.0}, GOOD | {"ts": NOW - 6}, timeless], NOW + 9
    )
    assert take(engine, Rows(acts=others)).acts == [Outcome.CONFLICT, Outcome.CONFLICT, Outcome.REPEATED]
    assert count(engine) == 2
    reasons = [row.reason for row in held(engine, 9)][::-1]
    assert reasons == [
        "event_id: e1 is known with another kind, value",
        "event_id: e1 is known with another ts",
    ]
    take(engine, Rows(acts=others))
    assert count_held(engine) == [("http", "duplicate", 2, 2)], "the same conflict again is not another one"
    assert [row.seen for row in held(engine, 9)] == [2, 2]


def test_what_is_refused_again_is_held_once_and_counted(engine):
    bad, late = GOOD | {"kind": "stare"}, GOOD | {"event_id": "old", "ts": NOW - 8 * DAY}
    for later in (0, 3 * DAY):  # by when the reason tells another age
        append(engine, refused=parse_events([bad, late, bad, GOOD | {"kind": "x"}], NOW + later)[1])
    rows = held(engine, 9)[::-1]
    assert [(json.loads(row.body)["kind"], row.seen) for row in rows] == [
        ("stare", 4),
        ("click", 2),
        ("x", 2),
    ]
    assert rows[1].reason == "ts: 8.0 days old, 7 at most"
    others = [
        Refused("own", "event", rows[0].reason, bad),
        Refused("http", "body", rows[0].reason, bad),
        Refused("http", "event", rows[0].reason, bad, Failure.RANGE),
        Refused("http", "event", rows[0].reason, bad, traffic=Traffic.BOT),
    ]
    append(engine, refused=others)
    assert [row.seen for row in held(engine, 9)] == [1, 1, 1, 1, 2, 2, 4], "these are others"


def test_of_many_who_bring_the_same_at_once_each_is_counted(engine):
    refused = parse_events([GOOD | {"kind": f"k{n}"} for n in range(20)], NOW)[1]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(append, engine, refused=refused) for _ in range(20)]:
            done.result()
    assert [row.seen for row in held(engine, 99)] == [20] * 20


def test_what_was_let_in_and_comes_again_does_not_wait_again(engine):
    (row,) = refuse(engine, GOOD | {"kind": "stare"})
    assert replay(engine, row, json.dumps(GOOD), any_age=True) == 1
    refuse(engine, GOOD | {"kind": "stare"})
    assert held(engine, 9, waiting=True) == []
    assert find_held(engine, row.id).seen == 2


def test_of_two_bodies_in_one_batch_the_first_holds(engine):
    acts, _ = parse_events([GOOD, GOOD | {"kind": "cart"}, GOOD], NOW)
    assert take(engine, Rows(acts=acts)).acts == [Outcome.NEW, Outcome.CONFLICT, Outcome.REPEATED]


def test_an_act_from_before_anybody_noted_its_arrival_is_no_conflict(engine):
    append(engine, acts=[Event(**GOOD)])
    timeless = {name: value for name, value in GOOD.items() if name != "ts"}
    (act,), _ = parse_events([timeless], NOW)
    assert take(engine, Rows(acts=[act])).acts == [Outcome.REPEATED]


def test_a_repaired_row_is_let_in_once_and_both_bodies_stay(engine):
    (row,) = refuse(engine, {"user_id": "u1", "item_id": "i1", "kind": "stare"})
    with pytest.raises(ReplayError, match=r"still unfit: kind.*--body"):
        replay(engine, row)
    repaired = json.dumps({"user_id": "u1", "item_id": "i1", "kind": "click"})
    assert replay(engine, row, repaired) == 1
    found = find_held(engine, row.id)
    assert found.replayed is not None
    assert found.repaired == repaired
    assert json.loads(found.body)["kind"] == "stare"
    assert replay(engine, found, repaired) == 0
    assert replay(engine, row, repaired) == 0, "also for whoever read the row before"
    other = json.dumps({"event_id": "another", "user_id": "u1", "item_id": "i1", "kind": "cart"})
    assert replay(engine, row, other) == 0, "nor as something else"
    assert find_held(engine, row.id).repaired == repaired
    assert count(engine) == 1
    assert held(engine, 9, waiting=True) == []
    with engine.connect() as connection:
        act = connection.execute(select(events)).one()
    assert (act.event_id, act.ts) == (f"q{row.id}", row.ts), "it happened when it came"


def test_what_is_fit_by_now_needs_no_repair(engine):
    append(engine, refused=[Refused("http", "event", "item_id: ...", {**GOOD, "item_id": "i2", "ts": None})])
    (row,) = held(engine, 1)
    with pytest.raises(ReplayError, match="i2 is no item"):
        replay(engine, row)
    assert find_held(engine, row.id).replayed is None
    add_items(engine, [Item(item_id="i2", title="Two")])
    assert replay(engine, row) == 1


def test_the_age_is_that_of_the_arrival_unless_one_says_otherwise(engine):
    (row,) = refuse(engine, GOOD)
    assert row.failure == "too-old"
    with pytest.raises(ReplayError, match="days old"):
        replay(engine, row)
    assert replay(engine, row, any_age=True) == 1


def test_a_conflict_needs_an_id_of_its_own(engine):
    acts, _ = parse_events([GOOD, GOOD | {"kind": "cart"}], NOW)
    take(engine, Rows(acts=acts))
    (row,) = held(engine, 9)
    with pytest.raises(ReplayError, match="event_id e1 is known with another body"):
        replay(engine, row, any_age=True)
    assert len(held(engine, 9, waiting=True)) == 1, "nothing of the attempt stays"
    other = json.dumps(json.loads(row.body) | {"event_id": "e9"})
    assert replay(engine, row, other, any_age=True) == 1


def test_a_whole_body_is_let_in_as_a_whole_or_not_at_all(engine):
    acts = [{"user_id": "u1", "item_id": "i1", "kind": "click"}] * 2
    append(engine, refused=[Refused("http", "body", "no JSON", {"text": json.dumps(acts)[:-1]})])
    (row,) = held(engine, 1)
    with pytest.raises(ReplayError, match="no JSON of an act"):
        replay(engine, row)
    with pytest.raises(ReplayError, match="still unfit: user_id"):
        replay(engine, row, json.dumps([*acts, {"kind": "x"}]))
    assert count(engine) == 0
    assert replay(engine, row, json.dumps(acts)) == 2
    assert replay(engine, row, json.dumps(acts)) == 0
    assert count(engine) == 2


@pytest.mark.parametrize("body", ["[NaN]", "[]", '{"value": Infinity}', "[" * 100_000, "", "7"])
def test_a_repair_that_is_none_changes_nothing(engine, body):
    (row,) = refuse(engine, {"kind": "stare"})
    with pytest.raises(ReplayError):
        replay(engine, row, body)
    assert find_held(engine, row.id).replayed is None


def test_a_line_of_a_log_is_repaired_as_a_line(engine):
    bad = '203.0.113.9 - - [10/Oct/2025:13:55:36 +0000] "GET /items/i1?uid=a%20b HTTP/1.1" 200 5 "-" "-"'
    with pytest.raises(ValueError, match="user_id"):
        parse_line(bad)
    append(engine, refused=[Refused("own", "log", "user_id: ...", {"file": "a", "line": 1, "text": bad})])
    (row,) = held(engine, 1)
    with pytest.raises(ReplayError, match="user_id"):
        replay(engine, row)
    assert replay(engine, row, bad.replace("a%20b", "ab") + "\n") == 1
    assert (count(engine), count(engine, impressions)) == (1, 1)
    (other,) = held(engine, 1)
    assert replay(engine, other, bad) == 0


def test_what_colleagues_did_is_flagged_when_it_is_let_in_late(engine):
    inside = '10.1.1.1 - - [10/Oct/2025:13:55:36 +0000] "GET /items/i1?uid=u2 HTTP/1.1" 200 5 "-" "Safari"'
    refused = [
        Refused("own", "log", "?", {"text": line}) for line in (inside, inside.replace("10.", "9.", 1))
    ]
    acts = [{"user_id": who, "item_id": "i1", "kind": "click"} for who in ("qa-7", "u3")]
    append(engine, refused=[*refused, *(Refused("http", "event", "?", act) for act in acts)])
    for row in held(engine, 9)[::-1]:
        replay(engine, row, rules=Rules("10.0.0.0/8,qa-*"))
    with engine.connect() as connection:
        flags = connection.execute(select(events.c.traffic).order_by(events.c.seq)).scalars().all()
        shown = connection.execute(select(impressions.c.traffic).order_by(impressions.c.seq)).scalars().all()
    assert (flags, shown) == (["internal", None, "internal", None], ["internal", None])


def test_what_a_bot_sent_is_flagged_when_it_is_let_in_late(engine):
    act = {"user_id": "u3", "item_id": "i1", "kind": "click"}
    bodies = {"text": json.dumps([act, act])}
    append(
        engine,
        refused=[
            Refused("http", "event", "?", act | {"value": 0}, traffic=Traffic.BOT),
            Refused("http", "body", "?", bodies, traffic=Traffic.INTERNAL),
            Refused("http", "event", "?", act),
        ],
    )
    for row in held(engine, 9)[::-1]:
        replay(engine, row)
    with engine.connect() as connection:
        flags = connection.execute(select(events.c.traffic).order_by(events.c.seq)).scalars().all()
    assert flags == ["bot", "internal", "internal", None]


def test_a_conflict_keeps_what_its_sender_was(engine):
    (act,), _ = parse_events([GOOD], NOW)
    take(engine, Rows(acts=[act]))
    other = act.model_copy(update={"kind": EventKind.CART, "traffic": Traffic.BOT})
    assert take(engine, Rows(acts=[other])).acts == [Outcome.CONFLICT]
    (row,) = held(engine, 9)
    replay(engine, row, json.dumps(json.loads(row.body) | {"event_id": "e9"}), any_age=True)
    with engine.connect() as connection:
        found = connection.execute(select(events.c.traffic).where(events.c.event_id == "e9")).scalar_one()
    assert found == "bot"


CONTACTS = {
    "email": "kim",
    "note": "write to kim@example.org",
    "customer": {"tel": ["010-1234-5678"]},
    "call": "+82 2 123 4567",
    "Phone": 7,
}


def test_contact_data_in_fields_that_no_act_has_is_kept_nowhere(engine):
    plain = {
        "colour": "red",
        "at": "2026-01-31T01:02:03.000004+00:00",
        "n": 1760104536000000,
        "x": 0.12345678901,
    }
    act = GOOD | {"sent": NOW, "schema_version": "1.0"}
    (row,) = refuse(engine, act | CONTACTS | plain)
    assert json.loads(row.body) == act | dict.fromkeys(CONTACTS, "left out") | plain
    late = act | {"schema_version": "1.7", "email": "kim@example.org", "ts": 5}
    (row,) = refuse(engine, late)
    assert (row.failure, json.loads(row.body)["email"]) == ("too-old", "left out")
    assert replay(engine, row, any_age=True) == 1


def test_a_long_text_is_looked_through_at_once():
    for text in ("@" * 300_000, "a" * 300_000 + "@", "+0" * 150_000, "0 " * 150_000):
        (row,) = parse_events([GOOD | {"note": text}], NOW)[1]
        assert row.reason == "note: no field of an event"


def test_a_row_of_a_dataset_says_how_it_comes_in(engine):
    append(
        engine, refused=[Refused("movielens", "ratings", "bad", {"file": "u.data", "line": 1, "text": ""})]
    )
    (row,) = held(engine, 1)
    with pytest.raises(ReplayError, match=r"import it again"):
        replay(engine, row)


def test_what_is_too_long_is_kept_as_far_as_it_goes_and_says_so(engine):
    append(engine, refused=[Refused("http", "event", "long", {"user_id": "u" * (2 * KEPT)})])
    (row,) = held(engine, 1)
    kept = json.loads(row.body)
    assert kept["characters"] > 2 * KEPT
    assert kept["cut"].startswith('{"user_id": "uuu')
    with pytest.raises(ReplayError, match="too long to be kept whole"):
        replay(engine, row)


def test_the_list_is_read_page_by_page_and_by_failure_and_source(engine):
    refuse(engine, *[GOOD | {"kind": f"k{n}"} for n in range(5)], GOOD)
    append(engine, refused=[Refused("own", "log", "torn", {"text": "x"})])
    newest = held(engine, 3)
    assert [row.id for row in held(engine, 9, before=newest[-1].id)] == [4, 3, 2, 1]
    assert [row.failure for row in held(engine, 9, failure="too-old")] == ["too-old"]
    assert [row.source for row in held(engine, 9, source="own")] == ["own"]
    assert count_held(engine) == [
        ("http", "schema", 5, 5),
        ("http", "too-old", 1, 1),
        ("own", "schema", 1, 1),
    ]


def test_a_row_of_somebody_who_has_withdrawn_is_not_let_in(engine, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    (row,) = refuse(engine, GOOD | {"kind": "stare"})
    repaired = json.dumps(GOOD)
    with pytest.raises(ReplayError, match="does not agree to the purpose service"):
        replay(engine, row, repaired, any_age=True)  # who never said anything
    set_consents(engine, "u1", {"service": True})
    set_consents(engine, "u1", {"service": False})
    with pytest.raises(ReplayError, match="does not agree"):
        replay(engine, row, repaired, any_age=True)
    assert count(engine) == 0
    assert held(engine, 1)[0].replayed is None, "it waits as before"
    set_consents(engine, "u1", {"service": True})
    with pytest.raises(ReplayError, match="does not agree"):
        replay(engine, row, repaired, any_age=True, terms={"service": 2})
    assert replay(engine, row, repaired, any_age=True, terms={"service": 1}) == 1


def test_a_replayed_account_is_known_by_its_pseudonym(engine, monkeypatch, tmp_path):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    vault = open_vault(places(vault_url=f"sqlite:///{tmp_path}/v.db"))
    (row,) = refuse(engine, GOOD | {"kind": "stare"})
    with pytest.raises(ReplayError, match="does not agree"):
        replay(engine, row, json.dumps(GOOD), True, name=vault.behind_the_door)
    pseudonym = vault.pseudonym("u1", make=True)
    set_consents(engine, pseudonym, {"service": True})
    assert replay(engine, row, json.dumps(GOOD), True, name=vault.behind_the_door) == 1
    with engine.connect() as connection:
        assert connection.execute(select(events.c.user_id)).scalar_one() == pseudonym
    assert vault.behind_the_door(pseudonym) == pseudonym
