"""The item database: what is there now, what was there when, and finding it; on both engines."""

import threading
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import text

from recloop.schema import Item
from recloop.store import (
    Put,
    add_items,
    find_items,
    item_search,
    items_as_of,
    items_at,
    open_store,
    popular,
    remove_items,
    search_items,
    versions_of,
)
from recloop.store.words import words_in


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def item(name="a", **fields):
    return Item(**{"item_id": name, "title": f"Offer {name}"} | fields)


def ids(found):
    return [one.item_id for one in found]


def test_only_a_change_makes_a_version(engine):
    assert add_items(engine, [item(price=1.0), item("b")], ts=10) == Put(new=2)
    assert add_items(engine, [item(price=1.0), item("b", price=2.0)], ts=20) == Put(changed=1, same=1)
    assert [version.ts for version in versions_of(engine, "a")] == [0]
    assert [(v.ts, v.item.price) for v in versions_of(engine, "b")] == [(0, None), (20, 2.0)]


def test_an_item_is_what_it_was_at_that_time(engine):
    add_items(engine, [item(price=1.0, created_at=100)], ts=500)
    add_items(engine, [item(price=2.0, available=False)], ts=600)
    moments = [99, 100, 599, 600, 10**15]
    prices = [[one.price for one in items_as_of(engine, moment)] for moment in moments]
    assert prices == [[], [1.0], [1.0], [2.0], [2.0]]
    assert [one and one.price for one in items_at(engine, [("a", m) for m in moments] + [("x", 600)])] == [
        None, 1.0, 1.0, 2.0, 2.0, None,
    ]  # fmt: skip
    assert items_as_of(engine, 700, ["a"])[0].created_at == 100, "what is not said is kept"


def test_versions_of_an_item_are_in_order_whatever_the_clock_says(engine):
    add_items(engine, [item(price=1.0)], ts=100)
    add_items(engine, [item(price=2.0)], ts=100)
    add_items(engine, [item(price=3.0)], ts=50)
    found = versions_of(engine, "a")
    assert [version.item.price for version in found] == [1.0, 2.0, 3.0]
    assert [version.ts for version in found] == [0, 100, 101]
    assert find_items(engine) == items_as_of(engine, 101)


def test_what_is_removed_is_found_no_more_but_what_it_was_is_known(engine):
    add_items(engine, [item(), item("b")], ts=1)
    assert remove_items(engine, ["a", "a", "nobody"], ts=5) == 1
    assert remove_items(engine, ["a"], ts=6) == 0
    assert ids(find_items(engine)) == ids(search_items(engine, "offer")) == ids(search_items(engine)) == ["b"]
    assert ids(items_as_of(engine, 4)) == ["a", "b"]
    assert ids(items_as_of(engine, 5)) == ["b"]
    assert items_at(engine, [("a", 4), ("a", 5)])[1] is None
    assert popular(engine, 5, 4.0) == []
    with engine.connect() as connection:  # for who reads the log, and for policies that serve
        kept = connection.execute(text("SELECT available, removed FROM items WHERE item_id = 'a'")).one()
    assert (bool(kept.available), bool(kept.removed)) == (False, True)
    assert add_items(engine, [item()], ts=7) == Put(changed=1)
    assert ids(search_items(engine, "offer a")) == ["a"]
    assert [version.removed for version in versions_of(engine, "a")] == [False, True, False]


def test_the_last_of_two_in_one_call_holds(engine):
    assert add_items(engine, [item(price=1.0), item(price=2.0)]) == Put(new=1)
    assert [one.price for one in find_items(engine)] == [2.0]
    assert len(versions_of(engine, "a")) == 1


def test_nothing_is_written_where_one_row_fails(engine):
    bad = item("b").model_copy(update={"title": None})
    with pytest.raises(Exception, match=r"NOT NULL|not-null"):
        add_items(engine, [item(), bad])
    assert find_items(engine) == versions_of(engine, "a") == search_items(engine, "offer") == []


def test_words_are_found_by_their_beginning_in_korean_and_english(engine):
    add_items(
        engine,
        [
            item("a", title="로고 디자인을 해 드립니다", category="design"),
            item("b", title="UI디자인", text="Figma 로 작업"),
            item("c", title="Straße ＬＯＧＯ", attributes={"skill": "피아노|레슨", "years": 3.0}),
        ],
    )
    for asked, found in {
        "디자인": ["a", "b"],
        "디자인 로고": ["a"],
        "DESIGN": ["a"],
        "ui": ["b"],
        "figma 작업": ["b"],
        "STRASSE logo": ["c"],
        "레슨": ["c"],
        "자인": [],
        "logo figma": [],
        "%": [],
        "_": [],
        "": [],
    }.items():
        assert ids(search_items(engine, asked)) == found, asked


def test_a_changed_text_is_found_by_its_new_words_alone(engine):
    add_items(engine, [item(title="piano lessons")])
    add_items(engine, [item(title="guitar lessons")])
    assert search_items(engine, "piano") == []
    assert ids(search_items(engine, "guitar lessons")) == ["a"]


@pytest.mark.parametrize("common", [1, 3, 10_000])
def test_pages_of_a_category_and_of_a_search_join_to_the_whole(engine, monkeypatch, common):
    monkeypatch.setattr(item_search, "COMMON", common)
    add_items(engine, [item(f"i{n:03}", title=f"offer logo{n}", category="ab"[n % 2]) for n in range(50)])
    for words, category in ((None, None), (None, "a"), ("off", None), ("off", "b"), ("log off", None)):
        whole = search_items(engine, words, category, limit=100)
        pages, after = [], ""
        while page := search_items(engine, words, category, after, 7):
            pages, after = pages + page, page[-1].item_id
        assert pages == whole
        assert len(whole) == (25 if category else 50)


WORDS = st.text(alphabet="abA디자인을é ㄱ_%-'\"", max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(titles=st.lists(WORDS, min_size=1, max_size=6), asked=WORDS, common=st.sampled_from([1, 3, 10_000]))
def test_a_search_finds_what_looking_at_every_item_finds(tmp_path_factory, titles, asked, common):
    engine = open_store(f"sqlite:///{tmp_path_factory.mktemp('s')}/s.db")
    add_items(engine, [item(str(n), title=f"t {title}") for n, title in enumerate(titles)])
    wanted = words_in(asked)
    expected = [
        str(n)
        for n, title in enumerate(titles)
        if wanted
        and all(any(has.startswith(word) for has in words_in(f"t {title} other")) for word in wanted)
    ]
    before, item_search.COMMON = item_search.COMMON, common
    try:
        assert ids(search_items(engine, asked)) == expected
    finally:
        item_search.COMMON = before
    engine.dispose()


def test_of_many_who_change_an_item_at_once_the_newest_version_is_what_is_there(engine):
    failed, gate = [], threading.Barrier(4)

    def change(number):
        gate.wait()
        try:
            for n in range(10):
                add_items(engine, [item("a", price=float(100 * number + n)), item("b", price=float(n))])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert find_items(engine) == items_as_of(engine, 2**62)
    assert len(versions_of(engine, "a")) == 40


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "ftp://host/x.png"),
        ("image", "/local/file.png"),
        ("image", "https://"),
        ("image", "https://me:secret@host/x.png"),
        ("image", "https://host/a b.png"),
        ("image", "javascript:alert(1)"),
        ("image", "https://host/" + "x" * 2048),
        ("image", "http://[::1"),
        ("text", "a\0b"),
        ("title", "a\0b"),
        ("category", "\0"),
        ("text", "x" * 8193),
        ("price", float("nan")),
        ("price", -1.0),
    ],
)
def test_what_cannot_stand_in_the_store_is_refused_by_its_field(field, value):
    with pytest.raises(ValidationError) as caught:
        item(**{field: value})
    assert [error["loc"][0] for error in caught.value.errors()] == [field]


def test_a_reference_and_a_text_come_back(engine):
    offer = item(image="https://cdn.example.com/a/%EB%A1%9C.png?w=1", text="여러 줄\n\n😀")
    add_items(engine, [offer])
    assert find_items(engine, ["a"]) == [offer]


def apart(text):
    """Hangul taken apart, as macOS and some exports write it."""
    return normalize("NFD", text)


def test_hangul_that_was_taken_apart_is_the_same_category_attribute_and_item(engine):
    fields = {"category": "디자인", "attributes": {"기술": "포토샵"}, "text": "카페 로고", "price": 3e9}
    add_items(engine, [item(title="로고 디자인", **fields)])
    again = {name: apart(value) for name, value in fields.items() if isinstance(value, str)}
    again |= {"title": apart("로고 디자인"), "attributes": {apart("기술"): apart("포토샵")}, "price": 3e9}
    assert add_items(engine, [item(**again)]) == Put(same=1)
    for asked in ("디자인", apart("디자인")):
        assert ids(search_items(engine, asked, asked)) == ids(search_items(engine, None, asked)) == ["a"]
    long = "브랜딩 패키지와 로고 디자인, 그리고 명함과 간판과 현수막까지"
    assert len(apart(long)) > 64 > len(long)
    assert item(category=apart(long)).category == long


def test_more_ids_than_a_statement_takes_are_asked_for_in_parts(engine):
    add_items(engine, [item("a"), item("z")], ts=1)
    most = {"sqlite": 260_000, "postgresql": 70_000}[engine.dialect.name]
    many = ["z", *(f"n{n}" for n in range(most)), "a"]
    assert ids(find_items(engine, many)) == ids(items_as_of(engine, 1, many)) == ["a", "z"]
