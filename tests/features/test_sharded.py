"""The same bytes however the log is ordered, stored and divided, and the arrays that pandas makes."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks.pandas_features import build_on_pandas
from benchmarks.preprocessing import compare, write_log
from recloop.agents.cluster import cluster
from recloop.agents.shards import in_tasks
from recloop.features.build import build_features
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


def test_shards_of_people_on_ray_give_the_same_bytes(log, alone, tmp_path):
    with cluster(workers=1):
        build_features(log, tmp_path, changed(num_workers=3), REWARD, in_tasks)
    same(tmp_path, alone)


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
