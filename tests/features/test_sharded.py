"""The same bytes however the log is ordered, stored and divided, and the arrays that pandas makes."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks.pandas_features import build_on_pandas
from benchmarks.preprocessing import compare, write_log
from pipelines import preprocess
from recloop.features import log as reading
from recloop.features import steps
from recloop.features.build import build_features
from recloop.settings import load_params
from recloop.settings.params import FeatureParams, RewardParams, TargetEncodingParams, TextParams

REWARD = RewardParams(view=0.1, click=1, cart=0.3, purchase=4, dismiss=-0.7, rating_positive=4)
PARAMS = FeatureParams(
    history=5,
    session_gap_minutes=30,
    test_share=0.3,
    target_encoding=TargetEncodingParams(columns=("job",)),
    text=TextParams(columns=16, components=3),
    behaviour=4,
)


def changed(**changes) -> FeatureParams:
    return PARAMS.model_copy(update=changes)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """5,000 events, some in the same moment."""
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, 5_000)
    for name in ("impressions", "events"):
        rows = pl.read_parquet(folder / f"{name}.parquet")
        rows.with_columns(pl.col("ts").dt.truncate("2d")).write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def alone(log, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    build_features(log, out, PARAMS, REWARD)
    return out


def same(out: Path, alone: Path) -> None:
    files = {file.name for file in alone.iterdir()}
    assert files == {file.name for file in out.iterdir()}
    for name in files:
        assert (out / name).read_bytes() == (alone / name).read_bytes(), name


def test_the_stage_on_ray_leaves_the_same_bytes(log, tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "params.yaml").read_text()
    for name, workers in (("alone", 0), ("on_ray", 2)):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "valid").symlink_to(log)
        said = text.replace("num_workers: 0 ", f"num_workers: {workers} ", 1)
        (tmp_path / name / "params.yaml").write_text(said)
        monkeypatch.chdir(tmp_path / name)
        assert load_params().features.num_workers == workers
        preprocess.main()
    same(tmp_path / "on_ray" / "data" / "features", tmp_path / "alone" / "data" / "features")
    reports = [(tmp_path / name / "reports" / "features.json").read_text() for name in ("alone", "on_ray")]
    assert reports[0] == reports[1]


def test_how_much_is_read_and_written_at_once_changes_no_byte(log, alone, tmp_path, monkeypatch):
    for module, name, rows in ((reading, "BATCH", 333), (reading, "CHUNK", 100), (steps, "CHUNK", 77)):
        monkeypatch.setattr(module, name, rows)
    for workers in (0, 3):
        out = tmp_path / str(workers)
        build_features(log, out, changed(num_workers=workers), REWARD)
        same(out, alone)


def test_a_log_out_of_order_in_several_files_gives_the_same_bytes(log, alone, tmp_path):
    valid = tmp_path / "valid"
    for name in ("users", "items"):
        valid.mkdir(exist_ok=True)
        pl.read_parquet(log / f"{name}.parquet").write_parquet(valid / f"{name}.parquet")
    for name in ("impressions", "events"):
        (valid / f"{name}.parquet").mkdir()
        rows = pl.read_parquet(log / f"{name}.parquet").sample(fraction=1, shuffle=True, seed=3)
        for i, part in enumerate(rows.iter_slices(1_500)):
            part.write_parquet(valid / f"{name}.parquet" / f"{i}.parquet")
    build_features(valid, tmp_path / "out", changed(num_workers=2), REWARD)
    same(tmp_path / "out", alone)


def test_pandas_makes_the_same_arrays(tmp_path):
    valid, ours, theirs = (tmp_path / name for name in ("valid", "ours", "theirs"))
    valid.mkdir()
    write_log(valid, 5_000, seed=4)
    params, reward = FeatureParams(history=5, session_gap_minutes=30, test_share=0.3), REWARD
    build_features(valid, ours, params, reward)
    build_on_pandas(valid, theirs, params, reward)
    compare(ours, theirs)
