"""A name in the rows of others goes, whatever it looks like there; these rows, and other people, stay."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, insert, select

from recloop.schema import Arrival, Impression, Item, User
from recloop.store import add_items, add_users, append, open_store
from recloop.store.erasure import purge_backup
from recloop.store.names import blotted_json, forms, mentions, telling, whole
from recloop.store.others import Place, forget_mentions, mentioned
from recloop.store.tables import events, facts, impressions, item_versions, items, users

WHO, OTHER = "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d00", "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d01"


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def act(number, **more):
    fields = {"event_id": f"e{number}", "user_id": OTHER, "item_id": "a", "kind": "click", "ts": 1}
    return Arrival.model_validate(fields | {"received": 1} | more)


def extras(engine):
    query = select(events.c.extra).order_by(events.c.seq)
    with engine.connect() as connection:
        return [text and json.loads(text) for text in connection.execute(query).scalars()]


def test_an_event_of_another_loses_the_name_and_nothing_else(engine):
    said = [
        {"note": f"thanks, {WHO}!", "more": 1.5},
        {"friends": [WHO, OTHER, {"id": WHO}], WHO: "a key"},
        {"raw": json.dumps({"who": WHO, "text": f"\t{WHO}"}), "joined": f"ref_{WHO}_7"},
        {"note": OTHER, "left": f"{WHO[:-1]}"},
        {},
    ]
    append(engine, acts=[act(n, extra=extra) for n, extra in enumerate(said)])
    assert mentioned(engine, [WHO], own=False) == [Place("events", "extra")]
    assert forget_mentions(engine, [WHO]) == 3
    x = "x" * len(WHO)
    assert extras(engine) == [
        {"note": f"thanks, {x}!", "more": 1.5},
        {"friends": [x, OTHER, {"id": x}], x: "a key"},
        {"raw": json.dumps({"who": x, "text": f"\t{x}"}), "joined": f"ref_{x}_7"},
        {"note": OTHER, "left": f"{WHO[:-1]}"},
        None,
    ]
    assert mentioned(engine, [WHO], own=False) == []
    assert forget_mentions(engine, [WHO]) == 0, "again it finds nothing to do"
    with engine.connect() as connection:
        assert set(connection.execute(select(events.c.user_id)).scalars()) == {OTHER}


def test_a_short_name_goes_as_a_word_of_its_own_from_free_text_and_from_nothing_that_is_used(engine):
    add_users(engine, [User(user_id=OTHER, attributes={"job": "kim", "rank": 12})])
    add_items(engine, [Item(item_id="kim", title="kim's kimono", attributes={"by": "kim"})])
    said = {"a": "Kim is kimono", "b": "for kim, 12 times", "c": 12, "d": 120, "e": "kim.lee", "f": True}
    append(engine, acts=[act(1, extra=said, item_id="kim")])
    assert mentioned(engine, ["kim", "12"], own=False) == [Place("events", "extra")]
    assert forget_mentions(engine, ["kim", "12"]) == 1
    clean = {"a": "Kim is kimono", "b": "for xxx, xx times", "c": "xx", "d": 120, "e": "kim.lee", "f": True}
    assert extras(engine) == [clean]
    with engine.connect() as connection:
        assert connection.execute(select(items.c.title)).scalar_one() == "kim's kimono"
        assert json.loads(connection.execute(select(users.c.attributes)).scalar_one())["job"] == "kim"
    assert mentioned(engine, ["kim", "12"], own=False) == []


@pytest.mark.parametrize("who", [WHO, "user_12345", "kakao:12345"])
def test_a_telling_name_goes_from_all_text_that_comes_from_outside(engine, who):
    add_users(engine, [User(user_id=OTHER, region=f"near {who}", attributes={"invited_by": who, "n": 3})])
    offer = Item(item_id="a", title=f"By {who}", text=f"Ask {who}", attributes={"seller": who, "n": 4})
    add_items(engine, [offer])
    add_items(engine, [offer.model_copy(update={"price": 5.0})])
    shown = Impression(
        request_id=who, position=0, user_id=OTHER, item_id="a", propensity=0.5, policy="p",
        device=f"of {who}"[:32], ts=1,
    )  # fmt: skip
    own = {"request_id": who, "event_id": who}
    append(engine, [shown, shown.model_copy(update={"position": 1})], [act(1, **own)])
    places = {("users", "region"), ("items", "title"), ("item_versions", "text"), ("events", "event_id")}
    assert set(mentioned(engine, [who], own=False)) > places
    assert forget_mentions(engine, [who]) > 12
    assert mentioned(engine, [who], own=False) == []
    x = "x" * len(who)
    with engine.connect() as connection:
        (row,) = connection.execute(select(users)).all()
        assert (row.region, json.loads(row.attributes)) == (f"near {x}", {"invited_by": x, "n": 3.0})
        for table in (items, item_versions):
            for row in connection.execute(select(table)).all():
                assert (row.title, row.text, row.item_id) == (f"By {x}", f"Ask {x}", "a")
                assert json.loads(row.attributes) == {"seller": x, "n": 4.0}
        requests = set(connection.execute(select(impressions.c.request_id)).scalars())
        assert requests == {connection.execute(select(events.c.request_id)).scalar_one()}, "they refer still"
        assert connection.execute(select(impressions.c.position)).scalars().all() == [0, 1]


def test_what_is_used_is_not_changed_but_found(engine):
    who = "user_12345"
    add_items(engine, [Item(item_id=who, title="a", category=who)])
    with engine.begin() as connection:
        connection.execute(insert(facts), {"name": "note", "value": f"of {who}"})
    assert forget_mentions(engine, [who]) == 0
    places = {("items", "item_id"), ("items", "category"), ("facts", "value")}
    assert set(mentioned(engine, [who], own=False)) >= places


def test_a_row_that_was_changed_meanwhile_is_not_overwritten(engine):
    append(engine, acts=[act(1, extra={"a": WHO}), act(2, extra={"a": WHO})])

    @event.listens_for(engine, "begin")
    def another_writes(connection):
        if not calls:
            return
        calls.pop()
        connection.exec_driver_sql(f"UPDATE events SET extra = '{{\"b\": \"{WHO}\"}}' WHERE event_id = 'e1'")

    calls = []
    event.listen(engine, "before_cursor_execute", lambda c, cu, statement, *_: calls.append(1)
                 if statement.startswith("SELECT events.seq") else None)  # fmt: skip
    assert forget_mentions(engine, [WHO]) == 1
    assert extras(engine)[0] == {"b": WHO}
    assert forget_mentions(engine, [WHO]) == 1
    assert extras(engine) == [{"b": "x" * len(WHO)}, {"a": "x" * len(WHO)}]


def test_only_rows_that_may_name_the_person_are_read(engine):
    append(engine, acts=[act(n, extra={"note": f"서울 {n} %, 12:30"}) for n in range(300)])
    append(engine, acts=[act(300, extra={"note": WHO})])
    read = []

    def noted(text, names):
        read.append(text)
        return mentions(text, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recloop.store.others.mentions", noted)
        assert forget_mentions(engine, [WHO]) == 1
    assert set(read) == {json.dumps({"note": WHO}), "e300"}


def test_a_backup_loses_it_too(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    append(engine, acts=[act(1, extra={"note": f"of {WHO} and kim"})])
    engine.dispose()
    purge_backup(tmp_path / "store.db", "1f", WHO, ["kim"])
    content = (tmp_path / "store.db").read_bytes()
    assert WHO.encode() not in content
    assert b"kim" not in content
    assert OTHER.encode() in content


words = st.text(alphabet="ab1 .:-_\\n\t\"%{}'가", max_size=12)
values = st.recursive(
    words | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(words, values, max_size=3), st.sampled_from(["a", "b1", "1", "a:b", WHO]), st.data())
def test_whatever_is_said_no_name_is_left_and_an_object_stays_one(said, name, data):
    for key in [*said]:
        if data.draw(st.booleans()):
            said[key] = data.draw(words) + data.draw(st.sampled_from([name, json.dumps(name), f"\\{name}"]))
    clean = blotted_json(json.dumps(said), [name])
    assert isinstance(json.loads(clean), dict)
    assert not mentions(clean, [name])
    if not mentions(json.dumps(said), [name]):
        assert clean == json.dumps(said)


def test_keys_that_become_the_same_are_all_kept():
    clean = blotted_json(json.dumps({"xxx": 1, "kim": 2, "lee": 3}), ["kim", "lee"])
    assert json.loads(clean) == {"xxx": 1, "xxxx": 2, "xxxxx": 3}


def test_an_object_that_is_deeper_than_can_be_read_is_emptied():
    deep = '{"a":' * 5000 + '"kim"' + "}" * 5000
    assert blotted_json(deep, ["kim"]) == "{}"
    assert blotted_json(deep, ["lee"]) == deep
    assert blotted_json("no JSON, kim", ["kim"]) == "{}"


@pytest.mark.parametrize("name", ["kim", "design", "12", "full-stack-developer", "1760104536", "u1"])
def test_an_everyday_word_tells_nothing(name):
    assert not telling(name)


@pytest.mark.parametrize("name", [WHO, "user_12345", "kakao:12345", "12345678901234567890"])
def test_other_ids_do(name):
    assert telling(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("GET /?uid=kakao%3A12&x=1", "kakao:12"), ("GET /?uid=kakao%3a12", "kakao:12"),
        ('{"who": "\\uae40\\ubbfc"}', "김민"), ("a%2Fkim", "kim"), ('"first\\nkim"', "kim"),
        ("\\uae40kim", "kim"), (f"xx{WHO}yy", WHO),
    ],
)  # fmt: skip
def test_a_name_is_found_as_json_and_addresses_write_it(text, name):
    assert whole(name).search(text.encode())
    assert name in forms(name)
