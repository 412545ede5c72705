"""Every store that was ever made is brought to this version with its data; no other is touched."""

import shutil
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from recloop.schema import Event, Impression, Item, User
from recloop.store import (
    Refused,
    StoreError,
    append,
    find_items,
    find_user,
    items_as_of,
    open_store,
    recall,
    search_items,
    upgrade_store,
    versions,
)
from recloop.store.snapshot import watermark
from recloop.store.tables import metadata

LATER = {  # tables that a store from before there were migrations lacks, by what had come when it was made
    "the first store": {"alerts", "experiments", "claims", "exposures", "leases"},
    "with alerts": {"experiments", "claims", "exposures", "leases"},
    "with experiments": {"leases"},
    "with leases": set(),
}
ACT = Event(event_id="e1", user_id="u", item_id="a", kind="click", ts=3)
ROWS = {
    "facts": {"name": "source", "value": "own"},
    "users": {"user_id": "u", "age": 30, "sex": "F", "region": "서울", "attributes": "{}", "created_at": 1},
    "items": {"item_id": "a", "title": "로고", "category": "c", "price": 1.5, "available": True,
              "attributes": "{}", "created_at": 2},
    "impressions": {"request_id": "r1", "position": 0, "user_id": "u", "item_id": "a", "propensity": 0.5,
                    "policy": "p", "slot": "blue", "device": "phone", "partial": False, "ts": 3},
    "events": ACT.model_dump(mode="json"),
    "consents": {"user_id": "u", "purpose": "training", "granted": True, "ts": 4},
    "rollouts": {"challenger": "new", "champion": "old", "state": "canary", "open": True, "ts": 5},
    "alerts": {"name": "a", "severity": "page", "summary": "s", "figures": "{}", "ts": 6},
    "exposures": {"experiment": "x", "user_id": "u", "arm": "b", "ts": 7},
    "quarantine": {"source": "http", "kind": "event", "failure": "schema", "reason": "kind: none",
                   "body": '{"kind": "stare"}', "ts": 8},
    "leases": {"name": "rollout", "holder": "", "token": 4, "beat": 2, "term": 3, "expires": 0},
}  # fmt: skip
SINCE_0006 = {  # what comes with an item
    "item_versions": {"item_id": "a", "ts": 2, "title": "로고", "category": "c", "price": 1.5,
                      "available": True, "attributes": "{}", "created_at": 2, "removed": False},
    "item_words": [{"item_id": "a", "word": "로고"}, {"item_id": "a", "word": "c"}],
}  # fmt: skip


def migrated(url, target):
    """A store at an older version, with a row in every table that matters."""
    engine = create_engine(url)
    versions.upgrade(engine, target)
    fill(engine)
    return engine


def fill(engine):
    with engine.begin() as connection:
        for name, row in ROWS.items():
            if inspect(connection).has_table(name):
                columns = {c["name"] for c in inspect(connection).get_columns(name)}
                table = sa.table(name, *(sa.column(key) for key in row if key in columns))
                connection.execute(table.insert(), {k: v for k, v in row.items() if k in columns})
        for name, rows in SINCE_0006.items():
            if inspect(connection).has_table(name):
                connection.execute(metadata.tables[name].insert(), rows)


def before_migrations(url, lacks):
    frozen = ScriptDirectory.from_config(versions.configuration()).get_revision("0001").module.metadata
    engine = create_engine(url)
    frozen.create_all(engine, [table for table in frozen.sorted_tables if table.name not in lacks])
    with engine.begin() as connection:
        if "alerts" in lacks:  # and without the column that came with them
            connection.execute(text("DROP TABLE rollouts"))
            names = "id INTEGER NOT NULL PRIMARY KEY, challenger VARCHAR(64) NOT NULL, champion VARCHAR(64)"
            columns = f"{names}, state VARCHAR(16) NOT NULL, ts BIGINT NOT NULL"
            connection.execute(text(f"CREATE TABLE rollouts ({columns})"))
        connection.execute(text("INSERT INTO facts VALUES ('schema', '1')"))
    fill(engine)
    return engine


def differences(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)


def rows_of(engine, name):
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()]


def check_whole(engine):
    assert differences(engine) == []
    assert find_user(engine, "u") == User(user_id="u", age=30, sex="F", region="서울", created_at=1)
    assert [item.title for item in find_items(engine)] == ["로고"]
    assert [item.title for item in items_as_of(engine, 2)] == ["로고"], "it holds from when it was created"
    assert items_as_of(engine, 1) == []
    assert [item.item_id for item in search_items(engine, "로 c")] == ["a"]
    assert recall(engine, "source") == "own"
    assert append(engine, [Impression(**ROWS["impressions"])], [ACT]) == 0, "what was there is a repeat"
    assert append(engine, acts=[ACT.model_copy(update={"event_id": "e2"})]) == 1
    assert [row["challenger"] for row in rows_of(engine, "rollouts") if row["open"]] == ["new"]
    append(engine, refused=[Refused("http", "event", "kind: none", {"kind": "stare"})])
    assert [row["seen"] for row in rows_of(engine, "quarantine")] == [2], "what was held is known again"


def test_migrations_make_the_tables_that_the_code_has(store_url):
    engine = open_store(store_url)
    assert differences(engine) == []
    assert versions.read(engine) == versions.HEAD
    scripts = ScriptDirectory.from_config(versions.configuration())
    assert scripts.get_current_head() == versions.HEAD
    names = [script.revision for script in scripts.walk_revisions()][::-1]
    assert names == [f"{n:04}" for n in range(1, len(names) + 1)], "their order is that of their names"


@pytest.mark.parametrize("made", LATER)
def test_a_store_from_before_migrations_is_brought_up_on_opening(tmp_path, made):
    url = f"sqlite:///{tmp_path}/s.db"
    before_migrations(url, LATER[made]).dispose()
    engine = open_store(url)
    check_whole(engine)
    kept = set(ROWS) - LATER[made]
    assert all(rows_of(engine, name) for name in kept)
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:  # one rollout is open at most
        connection.execute(metadata.tables["rollouts"].insert(), ROWS["rollouts"])


@pytest.mark.parametrize("version", [f"{n:04}" for n in range(1, int(versions.HEAD))])
def test_an_older_store_waits_for_the_command_and_keeps_its_data(store_url, version):
    old = migrated(store_url, version)
    before = {name: rows_of(old, name) for name in ROWS}
    with pytest.raises(StoreError, match="recloop store upgrade"):
        open_store(store_url)
    assert versions.read(old) == version, "opening changed nothing"
    assert upgrade_store(store_url) == (version, versions.HEAD)
    assert upgrade_store(store_url) == (versions.HEAD, versions.HEAD)
    engine = open_store(store_url)
    after = {name: rows_of(engine, name) for name in ROWS}
    kept = {
        name: [{key: new[key] for key in old} for new, old in zip(after[name], rows, strict=True)]
        for name, rows in before.items()
    }
    assert kept == before
    check_whole(engine)


def test_what_was_held_more_than_once_stays_and_the_first_is_counted_on(store_url):
    old = create_engine(store_url)
    versions.upgrade(old, "0007")
    held = [ROWS["quarantine"] | {"ts": n, "kind": kind} for n, kind in enumerate(["event"] * 1100 + ["log"])]
    with old.begin() as connection:
        connection.execute(sa.table("quarantine", *map(sa.column, held[0])).insert(), held)
    upgrade_store(store_url)
    engine = open_store(store_url)
    append(engine, refused=[Refused("http", "event", "kind: none", {"kind": "stare"})] * 2)
    rows = sorted(rows_of(engine, "quarantine"), key=lambda row: row["id"])
    assert [(row["ts"], row["kind"]) for row in rows] == [(row["ts"], row["kind"]) for row in held]
    assert [row["seen"] for row in rows] == [3] + [1] * 1100


def test_a_newer_store_is_refused_and_stays_as_it_is(store_url):
    engine = open_store(store_url)
    fill(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for act in (open_store, upgrade_store):
        with pytest.raises(StoreError, match="a newer program made"):
            act(store_url)
    assert versions.read(engine) == "9999"
    assert rows_of(engine, "users") == [ROWS["users"]]


def test_an_upgrade_that_fails_changes_nothing(store_url, tmp_path, monkeypatch):
    folder = tmp_path / "migrations"
    shutil.copytree(Path(versions.__file__).with_name("migrations"), folder)
    (folder / "versions" / "v0009.py").write_text(
        "from alembic import op\nrevision, down_revision = '0009', '" + versions.HEAD + "'\n"
        "def upgrade():\n"
        "    op.execute('CREATE TABLE half (n INTEGER)')\n"
        "    op.execute('DELETE FROM users')\n"
        "    op.execute('SELECT * FROM nowhere')\n"
    )
    engine = open_store(store_url)
    fill(engine)
    whole = versions.configuration()
    whole.set_main_option("script_location", str(folder))
    monkeypatch.setattr(versions, "configuration", lambda: whole)
    with pytest.raises(StoreError, match="cannot upgrade"):
        upgrade_store(store_url)
    assert versions.read(engine) == versions.HEAD
    assert rows_of(engine, "users") == [ROWS["users"]]
    assert not inspect(engine).has_table("half")


def test_of_many_who_open_an_empty_store_at_once_each_gets_it(new_store):
    failed, gate = [], threading.Barrier(6)

    def act(number, url):
        gate.wait()
        try:
            append(open_store(url), acts=[ACT.model_copy(update={"event_id": f"e{number}"})])
        except Exception as error:
            failed.append(error)

    for _ in range(4):
        url = new_store()
        threads = [threading.Thread(target=act, args=(n, url)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert watermark(open_store(url)).events == 6


def test_alembic_s_own_command_finds_nothing_to_do(store_url):
    engine = open_store(store_url)
    config = versions.configuration()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.check(config)


def test_names_are_sorted_by_their_bytes(store_url):
    engine = open_store(store_url)
    with engine.begin() as connection:
        for name in ("b", "A", "_x", "a", "Z.1", "a-1", "a1"):
            row = Item(item_id=name, title=name).model_dump() | {"attributes": "{}"}
            connection.execute(metadata.tables["items"].insert(), row)
    found = [item.item_id for item in find_items(engine)]
    assert found == sorted(found)
    if engine.dialect.name == "postgresql":
        query = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' AND"
        with engine.connect() as connection:
            left = f"{query} data_type = 'character varying' AND collation_name IS DISTINCT FROM 'C'"
            assert connection.execute(text(f"{left} AND table_name <> 'alembic_version'")).scalar() == 0
            assert connection.execute(text("SELECT 'B' > 'a'")).scalar(), "the server sorts by language"
