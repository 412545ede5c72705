"""After an erasure a search of databases, DVC's cache and remote, MLflow, logs and backups finds nothing."""

import gzip
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo
from sqlalchemy import select
from typer.testing import CliRunner

from flows.erasure import complete, end_all, search
from recloop.cli import app
from recloop.registry import connect
from recloop.schema import Arrival, Event, Impression, Item, User, now_us
from recloop.settings import places
from recloop.store import add_items, add_users, append, open_store, set_consents
from recloop.store import erasure as databases
from recloop.store.consent import PURPOSES
from recloop.store.erasure import begin, find_receipt, finish
from recloop.store.others import mentioned
from recloop.store.person import note_access
from recloop.store.personal import seal_personal
from recloop.store.snapshot import Watermark, watermark
from recloop.store.tables import events
from recloop.store.vault import open_vault

ROOT = Path(__file__).parents[2]
WHO, OTHER = "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d00", "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d01"
X = "x" * len(WHO)
STAGES = """
stages:
  snapshot:
    cmd: PYTHONPATH={root}/src:{root} {python} -m pipelines.snapshot
    deps: [data/watermark.json]
    outs: [data/snapshot]
  preprocess:
    cmd: mkdir -p data/features && cp data/snapshot/users.parquet data/features/derived
    deps: [data/snapshot]
    outs: [data/features]
  train:
    cmd: mkdir -p models/policy && echo weights > models/policy/scorer.onnx
    deps: [data/features]
    outs: [models/policy]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two people in a store, two data versions on a remote, a run in MLflow, logs, an import, a backup."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("RECLOOP_HOME", str(folder / "var"))
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    monkeypatch.setattr(databases, "IN_HAND", 0)
    monkeypatch.setattr("flows.erasure.IN_HAND", 0)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (folder / "dvc.yaml").write_text(STAGES.format(root=ROOT, python=sys.executable))
    where = places()
    engine, vault = open_store(where.store), open_vault(where)
    add_items(engine, [Item(item_id="a", title="a")])
    for user in (WHO, OTHER):
        live(engine, vault, user)
    for words in (["init", "--no-scm"], ["remote", "add", "-d", "local", "../elsewhere"]):
        subprocess.run([sys.executable, "-m", "dvc", *words, "-q"], check=True)
    append(engine, acts=[naming(OTHER, WHO)])
    for _ in range(2):
        append(engine, acts=[act(WHO)])
        watermark(engine).save(Path("data/watermark.json"))
        with Repo(".") as repo:
            repo.reproduce()
            repo.push()
    connect(where)
    with mlflow.start_run():
        mlflow.log_metric("value", 1.0)
    (where.home / "logs").mkdir()
    (where.home / "logs" / "gateway.log").write_text(f"by hand: {WHO}\nby hand: {OTHER}\n")
    (where.home / "logs" / "gateway.log.1.gz").write_bytes(gzip.compress(f"of {WHO}\nof {OTHER}".encode()))
    (where.home / "inbox-done").mkdir()
    (where.home / "inbox-done" / "log.jsonl").write_text(json.dumps({"user_id": WHO}) + "\n")
    rows = pa.table({"user_id": [WHO, OTHER], "ts": [1, 2]})
    pq.write_table(rows, where.home / "inbox-done" / "log.parquet")
    assert CliRunner().invoke(app, ["store", "backup"]).exit_code == 0
    return where, engine, vault


def act(user):
    return Event(
        event_id=hashlib.sha256(f"{user}{now_us()}".encode()).hexdigest(), user_id=user, item_id="a",
        kind="click", ts=now_us(),
    )  # fmt: skip


def naming(user, whom):
    """An act whose further fields name somebody else."""
    extra = {"note": f"came with {whom}", "friends": [whom, user]}
    return Arrival.model_validate(act(user).model_dump() | {"received": now_us(), "extra": extra})


def extras(engine):
    with engine.connect() as connection:
        return connection.execute(select(events.c.extra).where(events.c.extra.is_not(None))).scalars().all()


def live(engine, vault, user):
    set_consents(engine, user, dict.fromkeys(PURPOSES, True))
    add_users(engine, [User(user_id=user, age=30)])
    shown = Impression(
        request_id=user[-8:], position=0, user_id=user, item_id="a", propensity=0.5, policy="p", ts=now_us()
    )
    append(engine, [shown], [act(user)])
    seal_personal(engine, vault, user, {"email": f"{user}@example.com"})
    note_access(engine, "shop", "store data", user)


def kinds(found, where):
    """In which of the places something was found."""
    names = {"store.db": "store", "vault.db": "vault", "gateway.log": "logs", "log.jsonl": "inbox"}
    names |= {"gateway.log.1.gz": "old logs", "log.parquet": "parquet"}
    places_ = {
        "features": "workspace",
        "cache": "cache",
        "elsewhere": "remote",
        "backups": "backups",
        "snapshot": "workspace",
    }
    return {
        names.get(t.path.name) or next((k for p, k in places_.items() if p in t.path.parts), str(t.path))
        for t in found
    } - {str(where.home / name) for name in ("store.db-wal", "vault.db-wal")}


def test_a_search_of_all_places_finds_nothing_any_more(project):
    where, engine, vault = project
    before = kinds(search(where, [WHO]), where)
    assert before >= {"store", "vault", "cache", "remote", "backups", "logs", "inbox", "workspace"}
    assert before >= {"old logs", "parquet"}
    others = kinds(search(where, [OTHER]), where)
    old = Watermark.load(Path("data/watermark.json"))
    started = begin(engine, vault, WHO)
    time.sleep(0.001)  # backups are named by the time
    assert CliRunner().invoke(app, ["store", "backup"]).exit_code == 0
    backups = sorted((where.home / "backups").glob("*.db"))
    os.utime(backups[0], (5, 5))
    done, left = complete(where, engine, vault, started.receipt, WHO)
    assert left == []
    assert search(where, [WHO]) == []
    assert done.done is not None
    assert (done.counts["files"], done.counts["mentions"]) == (4, 1)
    assert json.loads(extras(engine)[0]) == {"note": f"came with {X}", "friends": [X, OTHER]}
    for file in backups:
        with closing(sqlite3.connect(file)) as copy:
            said = [row[0] for row in copy.execute("SELECT extra FROM events WHERE extra IS NOT NULL")]
        assert said == extras(engine)
    kept = pq.read_table(where.home / "inbox-done" / "log.parquet").to_pylist()
    assert kept == [{"user_id": X, "ts": 1}, {"user_id": OTHER, "ts": 2}]
    assert backups[0].stat().st_mtime == 5, "it is deleted when it is old, however many are erased from it"
    assert kinds(search(where, [OTHER]), where) >= others - {"cache", "remote", "workspace"}
    assert Path("models/policy/scorer.onnx").exists(), "what serves is kept until the next one is learnt"
    assert Watermark.load(Path("data/watermark.json")) != old
    with Repo(".") as repo:
        repo.reproduce()
        repo.push()
    assert search(where, [WHO]) == []
    assert {"cache", "remote", "workspace"} <= kinds(search(where, [OTHER]), where), (
        "made anew for the others"
    )


def test_what_nobody_knows_how_to_clean_keeps_the_erasure_open(project):
    where, engine, vault = project
    stray = where.home / "mlartifacts" / "somebody.bin"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"\0" + WHO.encode())
    started = begin(engine, vault, WHO)
    done, left = complete(where, engine, vault, started.receipt, WHO)
    assert [trace.path for trace in left] == [stray]
    assert done.done is None
    stray.unlink()
    done, left = complete(where, engine, vault, started.receipt, WHO)
    assert left == []
    assert find_receipt(engine, started.receipt).done == done.done is not None


@pytest.mark.parametrize("url", ["sqlite", "postgresql"])
@pytest.mark.parametrize("who", [WHO, "kim", "12"])
def test_another_s_text_keeps_the_erasure_open_until_it_is_clean(tmp_path, monkeypatch, request, url, who):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.erasure.IN_HAND", 0)
    if url == "postgresql":
        postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv("RECLOOP_STORE_URL", postgres.new())
        monkeypatch.setenv("RECLOOP_VAULT_URL", postgres.new())
    where = places()
    engine, vault = open_store(where.store), open_vault(where)
    live(engine, vault, who)
    append(engine, acts=[naming(OTHER, who), naming(OTHER, f"{who[:-1]}9")])
    receipt = begin(engine, vault, who).receipt
    with monkeypatch.context() as patch:
        patch.setattr("flows.erasure.forget_mentions", lambda *_: 0)
        done, left = complete(where, engine, vault, receipt, who)
    assert done.done is None
    assert [(str(trace.path), trace.within) for trace in left] == [("database", "events.extra")]
    done, left = complete(where, engine, vault, receipt, who)
    assert (left, done.counts["mentions"]) == ([], 1)
    assert done.done is not None
    x = "x" * len(who)
    assert {"note": f"came with {x}", "friends": [x, OTHER]} in map(json.loads, extras(engine))
    assert mentioned(engine, [who]) == mentioned(vault.engine, [who]) == search(where, [who]) == []


def test_what_cannot_be_rewritten_keeps_it_open_and_the_command_says_what_to_do(project, monkeypatch):
    where, engine, vault = project
    torn = where.home / "inbox-done" / "torn.parquet"
    torn.write_bytes(b"PAR1 and no more")
    (where.home / "inbox-refused").mkdir()
    (where.home / "inbox-refused" / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + WHO.encode())
    damaged = where.home / "backups" / "store-1.db"
    damaged.write_bytes(b"SQLite format 3\0" + b"?" * 5000)
    begin(engine, vault, WHO)
    said = []
    assert end_all(said.append)
    text = "\n".join(said)
    assert f"left in {torn} (cannot be read (ArrowInvalid)): repair it or delete it" in text
    assert "a.7z (nobody can look into a file of 7z): put what is in it there without the person" in text
    assert f"left in {damaged} (cannot be read" in text
    for file in (torn, damaged, where.home / "inbox-refused" / "a.7z"):
        file.unlink()
    assert not any(end_all(said.append).values())
    assert said[-2].endswith(": nothing is left")
    assert search(where, [WHO]) == []


def test_what_prefect_keeps_does_not_name_the_person(project):
    where, engine, vault = project
    (where.home / "slots").mkdir()
    (where.home / "slots" / f"{WHO}.txt").write_text("kept")
    begin(engine, vault, WHO)
    said = []
    assert end_all(said.append, openly=False)
    assert f"{X}.txt (its name): take the name out" in said[0]
    assert WHO not in "".join(said)


def test_traces_that_are_found_after_the_end_open_it_again(project, monkeypatch):
    where, engine, vault = project
    receipt = begin(engine, vault, WHO).receipt
    stray = where.home / "late.txt"
    with monkeypatch.context() as patch:
        patch.setattr("flows.erasure.finish", lambda *words: stray.write_text(WHO) and finish(*words))
        done, left = complete(where, engine, vault, receipt, WHO)
    assert [trace.path for trace in left] == [stray]
    assert done.done is None
    stray.unlink()
    assert end_all(lambda _: None) == {receipt: []}
    assert find_receipt(engine, receipt).done is not None
    assert search(where, [WHO]) == []


def test_a_reader_of_an_older_state_keeps_it_open_until_it_ends(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.erasure.IN_HAND", 0)
    monkeypatch.setattr("recloop.store.compact.TRIES", 2)
    where = places()
    engine, vault = open_store(where.store), open_vault(where)
    live(engine, vault, WHO)
    append(engine, acts=[naming(OTHER, WHO)])
    receipt = begin(engine, vault, WHO).receipt
    with engine.connect() as reader:
        reader.exec_driver_sql("BEGIN")
        reader.execute(select(events)).all()
        done, left = complete(where, engine, vault, receipt, WHO)
        assert [trace.path.name for trace in left] == ["store.db", "store.db-wal"]
        assert done.done is None
    done, left = complete(where, engine, vault, receipt, WHO)
    assert (left, search(where, [WHO])) == ([], [])
    assert done.done is not None


def test_a_person_whose_id_is_an_everyday_word_is_erased_and_the_word_stays_elsewhere(project):
    where, engine, vault = project
    live(engine, vault, "design")
    add_items(engine, [Item(item_id="b", title="logo design", category="design")])
    Path("models/policy/items.json").write_text('["logo design"]')
    (where.home / "bentoml").mkdir(exist_ok=True)
    (where.home / "bentoml" / "tables.py").write_text("design = 1")
    lock, started = Path("dvc.lock").read_text(), begin(engine, vault, "design")
    done, left = complete(where, engine, vault, started.receipt, "design")
    assert left == []
    assert done.done is not None
    assert Path("dvc.lock").read_text() == lock, "no data version holds the person"
    assert Path("models/policy/items.json").read_text() == '["logo design"]'
    watermark(engine).save(Path("data/watermark.json"))


def test_where_no_data_version_was_ever_made_the_rest_is_erased(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flows.erasure.IN_HAND", 0)
    where = places()
    engine, vault = open_store(where.store), open_vault(where)
    live(engine, vault, WHO)
    started = begin(engine, vault, WHO)
    done, left = complete(where, engine, vault, started.receipt, WHO)
    assert left == []
    assert done.done is not None
    assert search(where, [WHO]) == []


def test_data_versions_without_the_person_are_kept(project):
    where, engine, vault = project
    live(engine, vault, "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d02")
    lock = Path("dvc.lock").read_text()
    started = begin(engine, vault, "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d02")
    assert complete(where, engine, vault, started.receipt, "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d02")[1] == []
    assert Path("dvc.lock").read_text() == lock
    assert "cache" in kinds(search(where, [OTHER]), where)


@pytest.mark.slow
def test_the_command_erases_everywhere_and_prints_the_receipt(project, monkeypatch):
    where, _, _ = project
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}/src:{ROOT}")
    done = CliRunner().invoke(app, ["person", "erase", WHO, "--json"])
    assert done.exit_code == 0, done.output
    receipt = json.loads(done.stdout)
    assert receipt["done"] is not None
    assert receipt["counts"]["persons"] == receipt["counts"]["keys"] == 1
    assert search(where, [WHO]) == []
    again = CliRunner().invoke(app, ["person", "receipt", receipt["receipt"], "--json"])
    assert json.loads(again.stdout) == receipt
