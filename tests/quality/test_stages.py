"""The stages snapshot and validate, from a store to clean rows, on made and on real data."""

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines import collect, snapshot, validate
from recloop.cli import app
from recloop.intake import import_into
from recloop.intake.movielens import read_movielens
from recloop.intake.open_bandit import read_open_bandit
from recloop.schema import Event, Impression, Item, User
from recloop.store import add_items, add_users, append, open_store
from recloop.store.parts import tree_hash
from recloop.store.snapshot import watermark

ROOT = Path(__file__).parents[2]
DATASETS = Path(os.environ.get("RECLOOP_DATASETS", ROOT.parent / "shared" / "datasets"))


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """The store of a fresh home, with the current directory beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECLOOP_HOME", str(tmp_path / "var"))
    monkeypatch.delenv("RECLOOP_STORE_URL", raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return open_store(f"sqlite:///{tmp_path}/var/store.db")


def fill(engine, requests: int, kind: str = "click") -> None:
    add_users(engine, [User(user_id="u", age=30)])
    add_items(engine, [Item(item_id="i", title="I")])
    common = [{"user_id": "u", "item_id": "i", "request_id": f"r{n}", "ts": n} for n in range(requests)]
    append(
        engine,
        [Impression(position=0, propensity=0.5, policy="p", **c) for c in common],
        [Event(event_id=f"e{n}", kind=kind, **c) for n, c in enumerate(common)],
    )


def rows(folder: str) -> dict[str, int]:
    files = sorted(Path(folder).glob("*.parquet"))
    return {file.stem: pq.read_table(file, partitioning=None).num_rows for file in files}


def test_rows_after_the_watermark_wait_for_the_next_version(engine):
    fill(engine, 3)
    watermark(engine).save(Path("data/watermark.json"))
    fill(engine, 5)
    snapshot.main()
    validate.main()
    whole = {"events": 3, "impressions": 3, "items": 1, "users": 1}
    assert rows("data/valid") == whole
    assert rows("data/snapshot") == whole | {"item_versions": 1}
    figures = json.loads(Path("reports/validation.json").read_text())
    assert (figures["success"], figures["events"]["rows"], figures["events"]["quarantined"]) == (1, 3, 0)
    assert Path("reports/data_docs/index.html").exists()


def test_the_same_watermark_gives_the_same_bytes(engine):
    fill(engine, 3)
    watermark(engine).save(Path("data/watermark.json"))
    snapshot.main()
    validate.main()
    first = {
        file: file.read_bytes()
        for part in ("snapshot", "valid")
        for file in Path("data", part).rglob("*")
        if file.is_file()
    }
    snapshot.main()
    validate.main()
    assert {file: file.read_bytes() for file in first} == first


def test_the_log_of_data_says_what_each_version_added(engine):
    said = []
    for requests in (3, 3, 5):
        fill(engine, requests)
        watermark(engine).save(Path("data/watermark.json"))
        snapshot.main()
        said.append(json.loads(CliRunner().invoke(app, ["data", "log", "--json"]).stdout)["versions"])
    assert [len(versions) for versions in said] == [1, 1, 2], "what did not change is no version"
    first, second = said[-1]
    assert first["added"] == {"users": 1, "items": 1, "impressions": 3, "events": 3, "item_versions": 1}
    assert second["added"] == {"users": 0, "items": 0, "impressions": 2, "events": 2, "item_versions": 0}
    assert (second["written"], second["parts"]) == (2, 3)
    assert second["version"] == tree_hash(Path("data/snapshot"))
    shown = CliRunner().invoke(app, ["data", "log"]).stdout
    assert second["version"][:8] in shown
    assert "+2" in shown


def test_a_stage_that_stops_says_why_and_leaves_the_figures(engine):
    fill(engine, 3)
    append(engine, acts=[Event(event_id="x", user_id="u", item_id="ghost", kind="click", ts=1)])
    watermark(engine).save(Path("data/watermark.json"))
    snapshot.main()
    with pytest.raises(SystemExit, match=r"events\.item_known fails for 1 rows(.|\n)*'item_id': 'ghost'"):
        validate.main()
    figures = json.loads(Path("reports/validation.json").read_text())
    assert figures["success"] == 0
    assert figures["events"]["expectations"]["item_known"] == 1
    assert rows("data/quarantine")["events"] == 1


def test_without_a_watermark_the_stage_says_what_makes_it(engine):
    with pytest.raises(SystemExit, match=r"watermark\.json is missing.*dvc repro collect"):
        snapshot.main()


def test_a_log_without_impressions_says_how_they_come_in(engine):
    append(engine, acts=[Event(event_id="x", user_id="u", item_id="i0", kind="click", ts=1)])
    with pytest.raises(SystemExit, match=r"recloop import impressions FILE(.|\n)*import organic FILE"):
        collect.main()


def test_another_home_is_noticed(engine, tmp_path, monkeypatch):
    fill(engine, 3)
    watermark(engine).save(Path("data/watermark.json"))
    monkeypatch.setenv("RECLOOP_HOME", str(tmp_path / "other"))
    with pytest.raises(SystemExit, match=r"speaks of 3 impressions.*other holds 0.*set RECLOOP_HOME"):
        snapshot.main()


@pytest.mark.parametrize(
    ("name", "read", "whole"),
    [
        (
            "ml-100k",
            read_movielens,
            {"events": 100_000, "impressions": 100_000, "items": 1682, "users": 943},
        ),
        (
            "open-bandit-small",
            read_open_bandit,
            {"events": 115, "impressions": 20_000, "items": 34, "users": 265},
        ),
    ],
)
def test_nothing_of_a_real_dataset_is_quarantined(name, read, whole, engine):
    folder = DATASETS / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: put the dataset there or set RECLOOP_DATASETS")
    import_into(engine, read(folder), progress=False)
    watermark(engine).save(Path("data/watermark.json"))
    snapshot.main()
    validate.main()
    assert rows("data/valid") == whole
    assert set(rows("data/quarantine").values()) == {0}
