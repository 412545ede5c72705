"""After an erasure nothing of the person is left in the databases, and no number is given away again."""

import gzip
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, func, inspect, select, text

from recloop.schema import Event, Impression, User, now_us
from recloop.store import (
    Exposure,
    Refused,
    StoreError,
    add_users,
    append,
    find_user,
    history,
    open_store,
    set_consents,
    write,
)
from recloop.store.blots import blot
from recloop.store.consent import PURPOSES, withdrawn_since, words_of
from recloop.store.erasure import begin, find_receipt, finish, pending, purge
from recloop.store.keys import KeyFile, LocalKeys
from recloop.store.names import whole
from recloop.store.personal import open_personal, seal_personal
from recloop.store.snapshot import watermark, write_snapshot
from recloop.store.tables import accesses, events, impressions, metadata
from recloop.store.traces import traces
from recloop.store.vault import Vault

WHO = "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d00"
OTHER = "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d01"


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


@pytest.fixture
def vault(new_store, tmp_path):
    return Vault(new_store(), LocalKeys(KeyFile(tmp_path / "keys")))


def live(engine, user, number):
    """Everything that the store can know of a person."""
    shown = Impression(
        request_id=f"r{number}",
        position=0,
        user_id=user,
        item_id="a",
        propensity=0.5,
        policy="p",
        ts=now_us(),
    )
    act = Event(event_id=f"e{number}", user_id=user, item_id="a", kind="click", ts=now_us())
    add_users(engine, [User(user_id=user, age=30, attributes={"job": "baker"})])
    refused = Refused("http", "event", "kind: wrong", {"user_id": user, "kind": "stare"})
    with engine.begin() as connection:
        write(connection, [shown], [act], [refused], [Exposure("x", user, "b", 1)])
    set_consents(engine, user, dict.fromkeys(PURPOSES, True))
    with engine.begin() as connection:
        connection.execute(accesses.insert(), {"who": "shop", "what": "export", "user_id": user, "ts": 1})


def left(engine, word):
    """Rows in which the word stands, by table; whatever the tables are."""
    found = {}
    with engine.connect() as connection:
        for name in inspect(connection).get_table_names():
            rows = connection.execute(text(f"SELECT * FROM {name}")).all()
            if count := sum(word in str(tuple(row)) for row in rows):
                found[name] = count
    return found


def test_nothing_of_the_person_is_left_and_others_keep_all(engine, vault, tmp_path):
    for number, user in enumerate((OTHER, WHO)):
        live(engine, user, number)
        seal_personal(engine, vault, user, {"email": f"{user}@example.com"})
    tables = {"users", "impressions", "events", "exposures", "consents", "persons", "quarantine", "accesses"}
    assert set(left(engine, WHO)) == tables
    others = left(engine, OTHER)
    started = begin(engine, vault, WHO)
    assert started.done is None
    assert begin(engine, vault, WHO).receipt == started.receipt, "asked again, it is the same erasure"
    assert pending(engine) == [(started.receipt, WHO)]
    assert set(left(engine, WHO)) == {"consents", "accesses", "erasures"}
    assert not any(word.granted for word in words_of(engine, [WHO])[WHO].values())
    append(engine, acts=[Event(event_id="late", user_id=WHO, item_id="a", kind="click", ts=now_us())])
    done = finish(engine, vault, started.receipt, WHO)
    assert left(engine, WHO) == left(vault.engine, WHO) == {}
    assert left(engine, OTHER) == others
    assert open_personal(engine, vault, OTHER) == {"email": f"{OTHER}@example.com"}
    assert vault.key(WHO) is None
    assert done == find_receipt(engine, started.receipt)
    assert done.done >= done.begun
    assert {name: done.counts[name] for name in ("events", "users", "keys", "persons", "quarantine")} == {
        "events": 2, "users": 1, "keys": 1, "persons": 1, "quarantine": 1,
    }  # fmt: skip
    assert pending(engine) == []
    with engine.connect() as connection:
        kept = select(accesses.c.user_id).order_by(accesses.c.id)
        assert connection.execute(kept).scalars().all() == [OTHER, done.receipt]
    if engine.dialect.name == "sqlite":
        assert traces([WHO], tmp_path.glob("s*.db*")) == []
        assert traces([OTHER], tmp_path.glob("s*.db*"))
    with pytest.raises(StoreError, match="no receipt nothing"):
        find_receipt(engine, "nothing")


def test_numbers_are_not_given_away_again_and_the_empty_row_is_nobody_s(engine, vault, tmp_path):
    live(engine, OTHER, 1)
    live(engine, WHO, 2)
    before = watermark(engine)
    finish(engine, vault, begin(engine, vault, WHO).receipt, WHO)
    after = watermark(engine)
    assert (after.impressions, after.events) == (before.impressions, before.events)
    assert after.consents > before.consents
    assert after != before
    assert withdrawn_since(engine, before.consents, now_us() + 1) == 1
    live(engine, OTHER, 3)
    with engine.connect() as connection:
        assert connection.execute(select(func.max(events.c.seq))).scalar() > before.events
    write_snapshot(engine, watermark(engine), tmp_path / "now")
    for name in ("impressions", "events"):
        assert set(pq.read_table(tmp_path / "now" / f"{name}.parquet")["user_id"].to_pylist()) == {OTHER}
    assert history(engine, "erased", 5, 4.0) == []


def test_a_short_name_is_not_taken_for_a_part_of_another(engine, vault):
    for number, user in enumerate(("u1", "u10", "u1-2", "x.u1")):
        live(engine, user, number)
    purge(engine, "u1")
    with engine.connect() as connection:
        bodies = connection.execute(select(metadata.tables["quarantine"].c.body)).scalars().all()
        assert {json.loads(body)["user_id"] for body in bodies} == {"u10", "u1-2", "x.u1"}
        kept = set(connection.execute(select(impressions.c.user_id)).scalars())
    assert kept == {"u10", "u1-2", "x.u1"}
    assert find_user(engine, "u1") is None


@pytest.mark.parametrize(
    "text",
    [
        "x\tu:1\ty",
        "first line\nu:1",
        json.dumps({"user_id": "u:1", "more": json.dumps("\tu:1")}),
        '{"user_id": "\\u0075:1"',
        '{"text": "\\\\u0075:1"',
        "GET /items/7?uid=u%3A1&act=stare",
    ],
)
def test_a_refused_row_that_names_the_person_in_escapes_goes_too(engine, text):
    bodies = [{"text": text}, {"text": text.replace("1", "10")}, {"text": "100 % 서울"}]
    append(engine, refused=[Refused("http", "body", "body: no JSON", body) for body in bodies])
    assert purge(engine, "u:1") == {"quarantine": 1}
    with engine.connect() as connection:
        kept = connection.execute(select(metadata.tables["quarantine"].c.body)).scalars().all()
    assert sorted(map(json.loads, kept), key=str) == sorted(bodies[1:], key=str)


def test_what_nobody_could_read_goes_by_the_account_s_name_as_well(engine, vault):
    pseudonym = vault.pseudonym("kim.lee", make=True)
    body = {"text": '[{"user_id": "kim.lee", "value": NaN}]'}
    append(engine, refused=[Refused("http", "body", "body: no JSON", body)])
    started = begin(engine, vault, pseudonym)
    assert started.counts["quarantine"] == 1
    append(engine, refused=[Refused("http", "body", "body: no JSON", body)])  # a gateway had it in hand
    assert finish(engine, vault, started.receipt, pseudonym).counts["quarantine"] == 2
    assert left(engine, "kim.lee") == left(vault.engine, "kim.lee") == {}


def test_a_store_of_an_older_version_is_purged_too(tmp_path, vault):
    engine = create_engine(f"sqlite:///{tmp_path}/old.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE users (user_id TEXT, age INTEGER)"))
        connection.execute(text(f"INSERT INTO users VALUES ('{WHO}', 1), ('{OTHER}', 2)"))
    assert purge(engine, WHO) == {"users": 1}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("u1", True), ("who: u1, again", True), ('{"user_id": "u1"}', True), ("it was u1.", True),
        ("u1\nu2", True),
        ("u10", False), ("au1", False), ("u1-2", False), ("x.u1", False), ("u1.5", False), ("U1", False),
    ],
)  # fmt: skip
def test_a_word_is_found_as_a_whole(content, found):
    assert bool(whole("u1").search(content.encode())) == found


def test_traces_are_found_in_every_kind_of_file(tmp_path):
    row = {"user_id": [WHO, OTHER], "n": [1, 2]}
    pq.write_table(pa.table(row), tmp_path / "a.parquet", compression="zstd")
    for name, values in {"list": [[[WHO]]], "word": pa.array([WHO]).dictionary_encode(),
                         "struct": [{"x": WHO}], "bytes": [WHO.encode()]}.items():  # fmt: skip
        pq.write_table(pa.table({"n": [1], name: values}), tmp_path / f"{name}.parquet")
    (tmp_path / "deep").mkdir()
    pq.write_table(pa.table({"n": [1]}), tmp_path / "deep" / "clean.parquet")
    np.savez_compressed(tmp_path / "b.npz", ids=np.array([WHO]))
    (tmp_path / "c.gz").write_bytes(gzip.compress(WHO.encode()))
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x", WHO)
    (tmp_path / "deep" / "e.log").write_text(f'{{"who": "{WHO}"}}\n{OTHER}\n')
    (tmp_path / "f.bin").write_bytes(b"\0\1" + WHO.encode() + b"7")
    engine = create_engine(f"sqlite:///{tmp_path}/g.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x TEXT)"))
        connection.execute(text(f"INSERT INTO t VALUES ('about {WHO}')"))
    (tmp_path / "empty").touch()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    found = {trace.path.name: trace.within for trace in traces([WHO], [tmp_path])}
    odd = {f"{name}.parquet" for name in ("list", "word", "struct", "bytes", "torn")}
    assert set(found) == {"a.parquet", "b.npz", "c.gz", "d.zip", "e.log", "f.bin", "g.db", *odd}
    assert found["a.parquet"] == "column user_id"
    assert found["g.db"] == "table t"
    assert found["torn.parquet"].startswith("cannot be read"), "what cannot be read is not called clean"
    assert traces(["u1"], [tmp_path / "deep" / "clean.parquet"]) == []


def test_a_log_loses_the_word_and_keeps_its_length(tmp_path):
    log = tmp_path / "a.log"
    log.write_text(f"one {WHO}\ntwo {OTHER}\n{WHO}")
    with log.open("a") as appender:
        assert blot(log, [WHO])
        appender.write("\nthree")
    assert log.read_text() == f"one {'x' * len(WHO)}\ntwo {OTHER}\n{'x' * len(WHO)}\nthree"
    (tmp_path / "b").write_bytes(b"\0" + WHO.encode())
    assert not blot(tmp_path / "b", [WHO])


def test_a_reader_of_an_older_state_holds_up_neither_writers_nor_the_erasure(tmp_path, vault, monkeypatch):
    monkeypatch.setattr("recloop.store.compact.TRIES", 2)
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    live(engine, WHO, 1)
    with engine.connect() as reader:
        reader.exec_driver_sql("BEGIN")
        reader.execute(select(func.count()).select_from(events)).scalar()
        started = begin(engine, vault, WHO)
        assert append(engine, acts=[Event(event_id="x", user_id=OTHER, item_id="a", kind="view", ts=1)]) == 1
        assert traces([WHO], tmp_path.glob("store.db*")), "the reader still sees it"
    finish(engine, vault, started.receipt, WHO)
    assert traces([WHO], tmp_path.glob("store.db*")) == []
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 15_000
