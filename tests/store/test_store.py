"""The store keeps what it acknowledged, once, and shows no personal data on the disk."""

import asyncio
import signal
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select, text

from recloop.schema import Event, Impression, Item, User
from recloop.schema.arrow import TABLES
from recloop.store import (
    Busy,
    Outcome,
    Refused,
    StoreError,
    Writer,
    add_items,
    add_users,
    append,
    find_items,
    find_user,
    history,
    open_store,
    popular,
)
from recloop.store.engine import MANY
from recloop.store.log import Rows, write, write_all
from recloop.store.parts import tree_hash
from recloop.store.snapshot import watermark, write_snapshot
from recloop.store.tables import events, quarantine

ALONE = {"sqlite": "delete from events", "postgresql": "lock table events"}  # nobody else can write


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request, tmp_path_factory):
    """One for many examples, which leave nothing in it."""
    if request.param == "sqlite":
        return open_store(f"sqlite:///{tmp_path_factory.mktemp('s')}/s.db")
    return open_store(request.getfixturevalue("postgres").new())


def click(number, user="u", item="a", kind="click", value=1.0):
    return Event(event_id=f"e{number}", user_id=user, item_id=item, kind=kind, value=value, ts=number)


def impression(number, user="u"):
    return Impression(
        request_id=f"r{number}", position=0, user_id=user, item_id="a", propensity=0.5, policy="p", ts=number
    )


def test_repeats_are_left_out(engine):
    assert append(engine, [impression(1)], [click(1)]) == 2
    assert append(engine, [impression(1), impression(2)], [click(1)]) == 1


def test_history_is_newest_first_and_counts_good_acts_only(engine):
    append(
        engine,
        acts=[
            click(1, item="a"),
            click(2, item="b", kind="rating", value=5),
            click(3, item="c", kind="view"),
            click(4, item="d", kind="rating", value=2),
            click(5, item="e"),
        ],
    )
    assert history(engine, "u", 10, 4.0) == ["e", "b", "a"]
    assert history(engine, "u", 1, 4.0) == ["e"]
    assert history(engine, "nobody", 5, 4.0) == []


def test_of_acts_of_one_moment_the_greatest_id_is_first_as_in_training(engine):
    append(engine, acts=[click(n, item=f"i{n}").model_copy(update={"ts": 5}) for n in (2, 3, 1)])
    assert history(engine, "u", 10, 4.0) == ["i3", "i2", "i1"]


def test_popular_leaves_out_what_is_sold_out(engine):
    add_items(engine, [Item(item_id=i, title=i, available=i != "b") for i in "abc"])
    append(engine, acts=[click(n, item=i) for n, i in enumerate("bbbaac")])
    assert popular(engine, 5, 4.0) == ["a", "c"]


def test_records_come_back_as_they_went_in(engine):
    user = User(user_id="u", age=30, sex="X", region="Seoul", attributes={"job": "x", "n": 1.5}, created_at=3)
    item = Item(
        item_id="i", title="로고 <b>디자인</b>", category="design", price=9.5, attributes={"t": "a|b"}
    )
    add_users(engine, [user])
    add_items(engine, [item])
    assert find_user(engine, "u") == user
    assert find_items(engine) == [item]
    assert find_user(engine, "v") is None


def test_a_person_first_seen_in_an_impression_is_known_from_then_on(engine):
    append(engine, [impression(1, "new")])
    assert find_user(engine, "new") == User(user_id="new", created_at=1)


def test_a_snapshot_has_the_contract_s_schema_and_stops_at_the_watermark(engine, tmp_path):
    add_items(engine, [Item(item_id="a", title="a")])
    append(engine, [impression(n) for n in range(5)], [click(1)])
    mark = watermark(engine)
    mark.save(tmp_path / "w.json")
    append(engine, [impression(9)], [click(9)])
    assert write_snapshot(engine, mark, tmp_path / "one").rows["impressions"] == 5
    write_snapshot(engine, type(mark).load(tmp_path / "w.json"), tmp_path / "two")
    for name, schema in TABLES.items():
        assert pq.read_table(tmp_path / "one" / f"{name}.parquet", partitioning=None).schema.equals(schema)
    one, two = (tree_hash(tmp_path / folder) for folder in ("one", "two"))
    assert one == two, "the same watermark gives the same bytes"


def test_a_changed_price_is_a_new_version(engine):
    add_items(engine, [Item(item_id="a", title="a", price=1.0)])
    before = watermark(engine)
    add_items(engine, [Item(item_id="a", title="a", price=2.0)])
    assert watermark(engine).catalogue != before.catalogue


def test_concurrent_writers_lose_nothing(engine):
    with Writer(engine) as writer:

        async def work(start):
            for n in range(start, start + 50):
                await asyncio.wait_for(writer.submit([impression(n)], [click(n)]), 100)

        threads = [threading.Thread(target=asyncio.run, args=(work(100 * t),)) for t in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    mark = watermark(engine)
    assert (mark.impressions, mark.events) == (400, 400)


def test_one_bad_batch_does_not_fail_its_neighbours(engine):
    bad = Refused("test", "event", "x" * 10, None)
    object.__setattr__(bad, "reason", None)  # the database refuses NULL

    async def three(writer):
        given = [{"acts": [click(1)]}, {"refused": [bad]}, {"acts": [click(2)]}]
        written = asyncio.gather(*[writer.submit(**rows) for rows in given], return_exceptions=True)
        return await asyncio.wait_for(written, 100)

    with Writer(engine) as writer:
        one, refused, two = asyncio.run(three(writer))
    assert (one.new, two.new) == (1, 1)
    with pytest.raises(Exception, match=r"NOT NULL|not-null"):
        raise refused


def test_of_acts_alone_each_caller_hears_what_became_of_theirs(engine):
    other = click(1).model_copy(update={"item_id": "b"})

    async def tell(writer):
        given = [[click(1)], [click(2), click(2)], [other]]
        with engine.begin() as connection:
            connection.execute(text(ALONE[engine.dialect.name]))
            first = writer.submit(acts=[click(9)])
            await asyncio.to_thread(until_taken, writer)
            told = [writer.submit(acts=acts) for acts in given]
        await asyncio.wait_for(first, 100)
        return [taken.acts for taken in await asyncio.wait_for(asyncio.gather(*told), 100)]

    with Writer(engine) as writer:
        told = asyncio.run(tell(writer))
    assert told == [[Outcome.NEW], [Outcome.NEW, Outcome.REPEATED], [Outcome.CONFLICT]]
    with engine.connect() as connection:
        assert connection.execute(select(quarantine.c.reason)).scalars().all() == [
            "event_id: e1 is known with another item_id"
        ]


def test_who_gives_up_before_the_turn_comes_gets_nothing_written_and_the_others_do(engine):
    async def four(writer):
        with engine.begin() as connection:
            connection.execute(text(ALONE[engine.dialect.name]))
            first = writer.submit(acts=[click(1)])
            await asyncio.to_thread(until_taken, writer)
            waiting = [writer.submit(acts=[click(n)]) for n in (2, 3, 4)]
            waiting[1].cancel()
        return await asyncio.wait_for(asyncio.gather(first, waiting[0], waiting[2]), 100)

    with Writer(engine) as writer:
        assert [taken.new for taken in asyncio.run(four(writer))] == [1, 1, 1]
    with engine.connect() as connection:
        assert set(connection.execute(select(events.c.event_id)).scalars()) == {"e1", "e2", "e4"}


def until_taken(writer):
    while not writer._jobs.empty():
        time.sleep(0.01)


def test_a_loop_that_has_ended_stops_no_writer(engine):
    async def leave(writer):
        writer.submit(acts=[click(1)])

    async def wait(writer):
        return await asyncio.wait_for(writer.submit(acts=[click(2)]), 100)

    with Writer(engine) as writer:
        with engine.begin() as connection:
            connection.execute(text(ALONE[engine.dialect.name]))
            asyncio.run(leave(writer))
        assert asyncio.run(wait(writer)).new == 1
    assert watermark(engine).events == 2


def test_of_callers_who_bring_the_same_row_at_once_the_first_is_told_that_it_was_new(engine):
    with engine.begin() as connection:
        callers = [Rows([impression(1)], [click(1)]), Rows([impression(1)], [click(1), click(2)]), Rows()]
        assert [taken.new for taken in write_all(connection, callers)] == [2, 1, 0]
    assert append(engine, [impression(1), impression(1)], [click(3), click(3)]) == 1


@given(known=st.sets(st.integers(0, 39)), told=st.lists(st.integers(0, 39), min_size=MANY, max_size=40))
def test_of_many_rows_each_is_told_whether_it_was_new(store, known, told):
    with store.connect() as connection:
        write(connection, acts=[click(n) for n in known])
        [taken] = write_all(connection, [Rows(acts=[click(n) for n in told])])
        kept = connection.execute(select(events.c.event_id)).scalars().all()
        connection.rollback()
    expected = [
        Outcome.REPEATED if n in known | {*told[:place]} else Outcome.NEW for place, n in enumerate(told)
    ]
    assert taken.acts == expected
    assert sorted(kept) == sorted(f"e{n}" for n in known | {*told})
    with store.connect() as connection:
        assert not connection.execute(select(events.c.event_id)).all(), "nothing was committed on the way"


def test_a_full_queue_says_so(engine):
    async def flood(writer):
        for n in range(600):
            writer.submit(acts=[click(n)])

    with Writer(engine, capacity=1) as writer, engine.begin() as connection:
        connection.execute(text(ALONE[engine.dialect.name]))
        with pytest.raises(Busy):
            asyncio.run(flood(writer))


def test_what_cannot_be_opened_says_what_to_check(tmp_path):
    with pytest.raises(StoreError, match=r"mysql is no store of recloop's\. It is sqlite:"):
        open_store("mysql://user:word@host/name")
    (tmp_path / "s.db").write_bytes(b"this is not a database, but it is long enough" * 100)
    with pytest.raises(StoreError, match="the file is a database"):
        open_store(f"sqlite:///{tmp_path}/s.db")


CHILD = """
import asyncio, sys
from recloop.schema import Event
from recloop.store import Writer, open_store
async def tell(writer):
    for n in range(100_000):
        await writer.submit(acts=[Event(event_id=f"e{n}", user_id="u", item_id="a", kind="click", ts=n)])
        print(n, flush=True)
with Writer(open_store(sys.argv[1])) as writer:
    asyncio.run(tell(writer))
"""


def test_an_acknowledged_event_survives_kill_9(store_url):
    url = store_url
    child = subprocess.Popen([sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    acknowledged = [int(child.stdout.readline()) for _ in range(200)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout.read().split()]
    child.wait()
    assert watermark(open_store(url)).events >= len(acknowledged)


def test_a_region_that_postgresql_could_not_hold_is_refused_by_its_name():
    with pytest.raises(ValidationError, match="region"):
        User(user_id="u", region="a\0b")
