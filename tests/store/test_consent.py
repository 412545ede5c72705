"""A person's newest word holds, to the terms that it was about; nobody is learnt from without it."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recloop.schema import Event, Impression, Item, User, now_us
from recloop.store import (
    add_items,
    add_users,
    append,
    consented,
    open_store,
    popular,
    remember,
    set_consent,
    set_consents,
)
from recloop.store.consent import (
    ASSUMED,
    PURPOSES,
    Word,
    allowed,
    withdrawn_since,
    words_of,
)
from recloop.store.snapshot import watermark, write_snapshot


@pytest.fixture
def engine(store_url, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    return open_store(store_url)


def seen(engine, user):
    shown = Impression(
        request_id=f"r-{user}", position=0, user_id=user, item_id="a", propensity=0.5, policy="p", ts=1
    )
    act = Event(event_id=f"e-{user}", user_id=user, item_id="a", kind="click", ts=2)
    append(engine, [shown], [act])


def learnt_from(engine, folder, terms=None):
    write_snapshot(engine, watermark(engine), folder, terms)
    found = [
        set(pq.read_table(folder / f"{name}.parquet")["user_id"].to_pylist())
        for name in ("users", "impressions", "events")
    ]
    assert found[0] == found[1] == found[2], "the same people in every table"
    return found[0]


def test_consent_is_the_newest_word_and_silence_is_no(engine):
    assert not consented(engine, "u", "training")
    set_consent(engine, "u", "training", True)
    assert consented(engine, "u", "training")
    assert not consented(engine, "u", "service")
    set_consent(engine, "u", "training", False)
    assert not consented(engine, "u", "training")
    with pytest.raises(ValueError, match="purpose must be one of"):
        set_consent(engine, "u", "world domination", True)


def test_any_number_of_people_is_asked_for_at_once(engine):
    set_consent(engine, "u299999", "service", True)
    assert set(words_of(engine, [f"u{n}" for n in range(300_000)])) == {"u299999"}


def test_a_consent_to_older_terms_holds_no_more(engine):
    set_consent(engine, "u", "training", True)
    assert not consented(engine, "u", "training", {"training": 2})
    set_consents(engine, "u", {"training": True, "service": True}, {"training": 2})
    assert consented(engine, "u", "training", {"training": 2})
    found = words_of(engine, ["u", "v"])
    assert {name: word.version for name, word in found["u"].items()} == {"training": 2, "service": 1}
    assert "v" not in found


WORDS = st.dictionaries(
    st.sampled_from(PURPOSES), st.builds(Word, st.booleans(), st.integers(1, 3), st.just(0))
)


@given(WORDS, st.dictionaries(st.sampled_from(PURPOSES), st.integers(1, 3)), st.booleans())
def test_nothing_is_allowed_but_by_a_yes_to_the_terms_or_by_assumption(words, terms, assumed):
    found = allowed(words, terms, assumed)
    for name in PURPOSES:
        word = words.get(name)
        yes = word.granted and word.version >= terms.get(name, 1) if word else assumed and name in ASSUMED
        if name != "personalisation":
            assert (name in found) == yes
        else:
            assert (name in found) == (yes and "service" in found)
    assert "marketing" in words or "marketing" not in found


def test_only_people_who_agreed_to_training_are_in_a_snapshot(engine, tmp_path):
    for user in ("yes", "no", "silent", "fickle", "back", "old", "served"):
        seen(engine, user)
    set_consents(engine, "yes", {"training": True}, {"training": 2})
    set_consent(engine, "no", "training", False)
    set_consents(engine, "fickle", {"training": True}, {"training": 2})
    set_consents(engine, "fickle", {"training": False}, {"training": 2})
    set_consent(engine, "back", "training", False)
    set_consents(engine, "back", {"training": True}, {"training": 2})
    set_consent(engine, "old", "training", True)
    set_consent(engine, "served", "service", True)
    assert learnt_from(engine, tmp_path / "one", {"training": 2}) == {"yes", "back"}
    assert learnt_from(engine, tmp_path / "two") == {"yes", "back", "old"}


def test_of_a_generated_log_those_who_never_spoke_are_learnt_from(engine, tmp_path):
    with engine.begin() as connection:
        remember(connection, "source", "market")
    for user in ("generated", "no", "visitor"):
        seen(engine, user)
    set_consent(engine, "no", "training", False)
    set_consent(engine, "visitor", "service", True)  # a real person, who was asked
    assert learnt_from(engine, tmp_path / "one") == {"generated"}


def test_where_consent_is_assumed_a_no_still_counts(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "assumed")
    for user in ("silent", "no", "served"):
        seen(engine, user)
    set_consent(engine, "no", "training", False)
    set_consent(engine, "served", "service", True)
    assert learnt_from(engine, tmp_path / "one") == {"silent", "served"}


def test_a_withdrawal_is_another_data_version_and_is_counted_from_then_on(engine):
    seen(engine, "u")
    set_consent(engine, "u", "training", True)
    mark = watermark(engine)
    assert withdrawn_since(engine, mark.consents, now_us()) == 0
    set_consent(engine, "passer-by", "training", False)
    assert withdrawn_since(engine, mark.consents, now_us()) == 0, "nobody of this data version"
    begun = now_us()
    for _ in range(2):
        set_consent(engine, "u", "training", False)
    assert withdrawn_since(engine, mark.consents, now_us() + 1) == 1
    assert withdrawn_since(engine, mark.consents, begun) == 0, "not before it happened"
    assert watermark(engine) != mark
    assert withdrawn_since(engine, watermark(engine).consents, now_us() + 1) == 0


def test_who_withdraws_the_service_is_out_of_all_that_was_stored(engine, tmp_path):
    add_items(engine, [Item(item_id="a", title="A"), Item(item_id="b", title="B")])
    for user in ("gone", "back", "here"):
        seen(engine, user)
        set_consents(engine, user, {"service": True, "training": True})
    append(engine, acts=[Event(event_id="b", user_id="here", item_id="b", kind="click", ts=3)])
    mark = watermark(engine)
    for user in ("gone", "back"):
        set_consent(engine, user, "service", False)
    assert withdrawn_since(engine, mark.consents, now_us() + 1) == 2
    assert popular(engine, 5, 4.0) == ["a", "b"]
    set_consent(engine, "here", "service", False)
    set_consent(engine, "back", "service", True)
    assert popular(engine, 5, 4.0) == ["a"]
    assert learnt_from(engine, tmp_path / "one") == {"back"}


def test_a_visitor_of_a_generated_market_was_never_learnt_from(engine):
    with engine.begin() as connection:
        remember(connection, "source", "market")
    set_consent(engine, "visitor", "service", True)
    add_users(engine, [User(user_id="visitor")])
    mark = watermark(engine)
    set_consent(engine, "visitor", "service", False)
    assert withdrawn_since(engine, mark.consents, now_us() + 1) == 0


def test_a_withdrawal_from_a_generated_log_is_counted_too(engine):
    with engine.begin() as connection:
        remember(connection, "source", "market")
    add_users(engine, [User(user_id="generated")])
    mark = watermark(engine)
    set_consent(engine, "generated", "training", False)
    assert withdrawn_since(engine, mark.consents, now_us() + 1) == 1
