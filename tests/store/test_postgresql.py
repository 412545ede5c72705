"""What PostgreSQL brings: numbers before commits, deadlocks, lost connections, a server that is killed."""

import subprocess
import sys
import threading

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import OperationalError

from recloop.schema import Item
from recloop.store import (
    StoreError,
    add_items,
    append,
    open_store,
    snapshot,
    write,
)
from recloop.store.engine import MANY, in_transaction, insert_new
from recloop.store.snapshot import watermark, write_snapshot
from recloop.store.tables import events, impressions, items, persons, users
from tests.postgres import Absent, Cluster
from tests.store.test_store import CHILD, click, impression


@pytest.fixture
def engine(postgres):
    return open_store(postgres.new())


def seen(engine, mark):
    """Rows up to a mark, now."""
    with engine.connect() as connection:
        return [
            connection.execute(select(func.count()).select_from(t).where(t.c.seq <= last)).scalar()
            for t, last in ((impressions, mark.impressions), (events, mark.events))
        ]


def run_all(work):
    failed = []

    def safely(one):
        try:
            one()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=safely, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def test_a_mark_waits_for_a_smaller_number_that_is_not_committed_yet(engine, monkeypatch):
    monkeypatch.setattr(snapshot, "TRIES", 1)
    with engine.connect() as slow:
        write(slow, acts=[click(1)])
        append(engine, acts=[click(2)])  # has the greater number, and is there at once
        with pytest.raises(StoreError, match="one long transaction"):
            watermark(engine)
        slow.commit()
    assert watermark(engine).events == 2
    with engine.connect() as slow:  # who gives up leaves a gap, and nobody waits for it
        write(slow, acts=[click(3)])
        slow.rollback()
    append(engine, acts=[click(4)])
    assert watermark(engine).events == 4


def test_nothing_appears_below_a_mark(new_store):
    engine, over = open_store(new_store()), threading.Event()
    marks = []

    def tell(start):
        def work():
            for n in range(start, start + 1000):
                append(engine, [impression(n)], [click(n)])
                if n >= start + 60 and over.is_set():
                    return

        return work

    def look():
        try:
            while len(marks) < 20:
                mark = watermark(engine)
                marks.append((mark, seen(engine, mark)))
        finally:
            over.set()

    assert run_all([look, *(tell(1000 * t) for t in range(4))]) == []
    assert [seen(engine, mark) for mark, _ in marks] == [count for _, count in marks]


def test_a_snapshot_has_the_same_bytes_on_both(engine, tmp_path):
    other = open_store(f"sqlite:///{tmp_path}/s.db")
    for number, store in enumerate((engine, other)):
        add_items(store, [Item(item_id=i, title=i, price=0.1) for i in ("b", "A", "a1", "a-1", "_")])
        append(store, [impression(n, f"{'uU'[n % 2]}{n}") for n in range(50)], [click(n) for n in range(9)])
        write_snapshot(store, watermark(store), tmp_path / str(number))
    assert watermark(engine) == watermark(other)
    for file in (tmp_path / "0").rglob("*.parquet"):
        if file.is_file():
            name = file.relative_to(tmp_path / "0")
            assert file.read_bytes() == (tmp_path / "1" / name).read_bytes(), name


SLOWLY = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END';
CREATE TRIGGER slowly BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION wait();
"""


def test_who_meets_the_same_people_in_another_order_waits_and_does_not_fail(engine):
    with engine.begin() as connection:
        connection.execute(text(SLOWLY))
    broken, meet = [], threading.Barrier(4)
    event.listen(engine, "handle_error", lambda context: broken.append(str(context.original_exception)))

    def tell(t):
        def work():
            order = range(8) if t % 2 else range(7, -1, -1)
            meet.wait(100)
            append(engine, [impression(100 * t + p, f"p{p}") for p in order])

        return work

    assert run_all([tell(t) for t in range(4)]) == []
    assert broken == [], "no deadlock had to be broken either"
    assert watermark(engine).impressions == 4 * 8


def test_a_deadlock_that_the_server_broke_is_tried_again(engine):
    add_items(engine, [Item(item_id=i, title="t") for i in "ab"])
    meet, tries = threading.Barrier(2), []

    def change(first, second):
        def act(connection):
            tries.append(first)
            change = items.update().values(title=items.c.title + first)
            connection.execute(change.where(items.c.item_id == first))
            if len(tries) <= 2:
                meet.wait(100)
            connection.execute(change.where(items.c.item_id == second))

        return lambda: in_transaction(engine, act)

    assert run_all([change("a", "b"), change("b", "a")]) == []
    assert len(tries) >= 3, "who was broken may meet the other again, which waits in the same queue"
    with engine.connect() as connection:
        assert set(connection.execute(select(func.length(items.c.title))).scalars()) == {3}


@pytest.fixture
def end_all(engine, postgres):
    """Ends all connections to the store."""
    other = open_store(postgres.new())
    query = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = :name"

    def end():
        with other.connect() as connection:
            gone = connection.execute(text(query), {"name": engine.url.database}).scalars().all()
        assert gone
        assert all(gone), "ended, not only told to"

    return end


def test_a_connection_that_the_server_has_closed_is_replaced(engine, end_all):
    append(engine, acts=[click(1)])
    end_all()
    assert watermark(engine).events == 1
    append(engine, acts=[click(2)])
    assert watermark(engine).events == 2


def test_a_connection_that_has_something_to_say_is_kept(engine):
    with engine.connect() as connection:
        own = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        connection.execute(text("LISTEN news"))
        connection.commit()
    with open_store(engine.url.render_as_string(hide_password=False)).connect() as other:
        other.execute(text("NOTIFY news"))
        other.commit()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() == own


def test_what_a_lost_connection_undid_is_done_again(engine, end_all):
    tries = []

    def act(connection):
        tries.append(write(connection, acts=[click(1)]))
        if len(tries) == 1:
            end_all()
        return write(connection, acts=[click(2)])

    assert in_transaction(engine, act) == 1
    assert tries == [1, 1], "the first was undone"
    with engine.connect() as connection:
        assert set(connection.execute(select(events.c.event_id)).scalars()) == {"e1", "e2"}


def test_who_loses_the_connection_at_the_end_is_told_since_nobody_knows_what_became_of_it(engine, end_all):
    tries = []
    event.listen(engine, "commit", lambda _: end_all(), once=True)
    with pytest.raises(OperationalError):
        in_transaction(engine, lambda connection: tries.append(write(connection, acts=[click(1)])))
    assert tries == [1]


def test_what_is_acknowledged_survives_a_server_that_is_killed():
    try:
        cluster = Cluster("-c listen_addresses=")
    except Absent as error:
        pytest.skip(str(error))
    try:
        url = cluster.new()
        child = subprocess.Popen([sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True,
                                 stderr=subprocess.DEVNULL)  # fmt: skip
        told = [int(child.stdout.readline()) for _ in range(100)]
        cluster.kill()
        told += [int(line) for line in child.stdout.read().split()]
        child.wait()
        cluster.start()
        with open_store(url).connect() as connection:
            kept = set(connection.execute(select(events.c.event_id)).scalars())
        assert {f"e{n}" for n in told} <= kept
    finally:
        cluster.stop()


ODD = ("", " ", "\x1e", "\x1f", "a\x1fb", "\\", "\\N", "NULL", "{a,b}", "'", '"', "한글", "\n", None)


@pytest.mark.parametrize("odd", [ODD, [text for text in ODD if not text or text.isprintable()]])
def test_many_rows_come_back_as_they_went_in_whatever_they_hold(engine, odd):
    rows = [
        {"user_id": f"u{n}", "age": n or None, "sex": None, "region": region, "attributes": "{}",
         "created_at": 2**62 - n}
        for n, region in enumerate(odd * (MANY // len(odd) + 1))
    ]  # fmt: skip
    again = [row | {"region": "other"} for row in rows[::2]]
    with engine.begin() as connection:
        new = insert_new(connection, users, rows + again, [users.c.user_id])
        assert new == {(row["user_id"],) for row in rows}
        assert insert_new(connection, users, again, [users.c.user_id]) == set()
        found = connection.execute(select(users)).mappings()
        assert {row["user_id"]: dict(row) for row in found} == {row["user_id"]: row for row in rows}


def test_many_rows_keep_numbers_and_truth_values_to_the_bit(engine):
    values = [0.1, 1 / 3, 1e300, -0.0, 5e-324, 2.0**53] * 4
    shown = [
        {"request_id": f"r{n}", "position": n, "user_id": "u", "item_id": "i", "propensity": value,
         "policy": "p", "slot": "", "device": "d", "partial": n % 2 == 0, "ts": n, "traffic": None}
        for n, value in enumerate(values)
    ]  # fmt: skip
    with engine.begin() as connection:
        insert_new(connection, impressions, shown, [impressions.c.request_id])
        found = connection.execute(select(impressions).order_by(impressions.c.position)).mappings()
        kept = [{name: row[name] for name in shown[0]} for row in found]
    assert repr(kept) == repr(shown)


def test_many_rows_keep_their_bytes(engine):
    rows = [
        {"user_id": f"u{n}", "field": "f", "key_id": "k", "sealed": bytes([n, 0, 0x1F])} for n in range(MANY)
    ]
    with engine.begin() as connection:
        insert_new(connection, persons, rows, [persons.c.user_id])
        found = connection.execute(select(persons.c.user_id, persons.c.sealed)).all()
    assert {name: bytes(sealed) for name, sealed in found} == {r["user_id"]: r["sealed"] for r in rows}


def test_free_text_that_postgresql_cannot_hold_is_kept_without_it(new_store):
    engine = open_store(new_store())
    assert append(engine, [impression(1).model_copy(update={"device": "a\0b"})]) == 1
    with engine.connect() as connection:
        assert connection.execute(select(impressions.c.device)).scalar_one() == "a\ufffdb"
        assert connection.execute(select(users.c.user_id)).scalar_one() == "u"


@pytest.mark.parametrize(
    "url", ["postgresql://me:hush@127.0.0.1:1/x", "postgresql://me:hush@/x?host=/no/where"]
)
def test_a_server_that_does_not_answer_is_named_without_the_password(url):
    with pytest.raises(StoreError, match="Check that the server runs") as told:
        open_store(url)
    assert "hush" not in str(told.value)
