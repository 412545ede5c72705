"""From a clean snapshot to features: join, sessions, history, split; fitted on the train split only."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from recloop.features.items import item_features
from recloop.features.spec import FeatureSpec, Scale
from recloop.features.steps import Acts, Catalogue, Steps
from recloop.schema import User
from recloop.settings.params import FeatureParams, RewardParams

MOST_VALUES = 24

# One row per request; an act counts for the request that it names.
REQUESTS = """
with acts as (
    select request_id, item_id, min(ts) as first, sum(case kind
        when 'view' then $view when 'click' then $click when 'cart' then $cart
        when 'purchase' then $purchase when 'dismiss' then $dismiss
        when 'rating' then case when value >= $rating_positive then $click else 0 end end) as worth,
        bool_or(kind in ('click', 'cart', 'purchase')
            or (kind = 'rating' and value >= $rating_positive)) as good
    from events where request_id is not null
    group by request_id, item_id
)
select i.request_id, any_value(i.user_id) as user_id, epoch_us(min(i.ts)) as ts,
    any_value(i.device) as device,
    list(i.item_id order by i.position) as slate,
    list(coalesce(i.propensity, 'nan'::double) order by i.position) as propensity,
    list(i.position order by i.position) as position,
    arg_min(i.item_id, a.first) filter (where a.good) as clicked,
    coalesce(sum(a.worth), 0) as reward
from impressions i left join acts a on a.request_id = i.request_id and a.item_id = i.item_id
group by i.request_id order by user_id, ts, i.request_id
"""


class NoDataError(ValueError):
    """The clean snapshot holds too little to learn from."""


@dataclass(frozen=True)
class _Log:
    requests: pl.DataFrame
    acts: pl.DataFrame  # positive acts: user_id, item_id, ts


def build_features(
    valid: Path, out: Path, params: FeatureParams, reward: RewardParams
) -> dict[str, int | float]:
    """Write ``spec.json``, ``items.npz``, ``items.json`` and per split ``train.npz``, ``train_acts.npz``.

    Returns key figures.

    Raises:
        NoDataError: no items, or a split without requests.
    """
    users = pl.read_parquet(valid / "users.parquet").sort("user_id")
    items = pl.read_parquet(valid / "items.parquet").sort("item_id")
    log = _read_log(valid, reward)
    if items.is_empty():
        raise NoDataError("the snapshot has no items: add some to the store, then advance the watermark")
    held_out = {u for u in log.requests["user_id"].unique() if _share(u) < params.test_share}
    people = _people(users)
    spec = fit_spec([p for u, p in people.items() if u not in held_out], items, log.requests, params, reward)
    out.mkdir(parents=True, exist_ok=True)
    spec.save(out / "spec.json")
    splits = {}
    for name in ("train", "test"):
        is_test = pl.col("user_id").is_in(list(held_out))
        mask = is_test if name == "test" else ~is_test
        part = _Log(log.requests.filter(mask), log.acts.filter(mask))
        if part.requests.is_empty():
            raise NoDataError(f"no requests in the {name} split: more people are needed than {len(people)}")
        splits[name] = _steps(part, people, spec, params)
        splits[name].save(out / f"{name}.npz")
        acts = _acts(part, spec)
        acts.save(out / f"{name}_acts.npz")
        if name == "train":
            _catalogue(items, acts).save(out / "items.npz")
    (out / "items.json").write_text(json.dumps(_records(items), ensure_ascii=False) + "\n")
    return {
        "items": len(spec.item_ids),
        "profile_size": spec.profile_size,
        "train_requests": len(splits["train"]),
        "test_requests": len(splits["test"]),
        "train_sessions": int(splits["train"].session[-1]) + 1,
        "mean_reward": float(np.concatenate([s.reward for s in splits.values()]).mean()),
    }


def fit_spec(
    people: list[User],
    items: pl.DataFrame,
    requests: pl.DataFrame,
    params: FeatureParams,
    reward: RewardParams,
) -> FeatureSpec:
    """The specification that these people, items and requests call for."""
    columns: dict[str, list] = {"sex": [p.sex for p in people], "region": [p.region for p in people]}
    for name in sorted({name for p in people for name in p.attributes}):
        columns[name] = [p.attributes.get(name) for p in people]
    categories, scales = {}, {}
    for name, values in columns.items():
        numbers = [v for v in values if isinstance(v, int | float)]
        words = [v for v in values if isinstance(v, str)]
        if words:
            counts = pl.Series(name, words).value_counts(sort=True)
            most = sorted(counts.iter_rows(), key=lambda row: (-row[1], row[0]))[:MOST_VALUES]
            categories[name] = tuple(sorted(word for word, _ in most))
        elif numbers:
            scales[name] = Scale(mean=float(np.mean(numbers)), std=float(np.std(numbers)) or 1.0)
    return FeatureSpec(
        item_ids=tuple(items["item_id"]),
        categories=categories,
        scales=scales,
        devices=tuple(sorted(requests["device"].unique()))[:MOST_VALUES],
        history=params.history,
        rating_positive=reward.rating_positive,
    )


def _read_log(valid: Path, reward: RewardParams) -> _Log:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for table in ("impressions", "events"):
            file = str(valid / f"{table}.parquet").replace("'", "''")
            connection.execute(f"create view {table} as select * from read_parquet('{file}')")
        requests = _frame(connection, REQUESTS, reward.model_dump())
        acts = _frame(
            connection,
            "select user_id, item_id, epoch_us(ts) as ts from events where kind = 'click'"
            " or (kind = 'rating' and value >= $rating_positive) order by user_id, ts, event_id",
            {"rating_positive": reward.rating_positive},
        )
    return _Log(requests, acts)


def _frame(connection: duckdb.DuckDBPyConnection, query: str, values: dict[str, float]) -> pl.DataFrame:
    frame = pl.from_arrow(connection.sql(query, params=values).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def _share(user_id: str) -> float:
    """A number in [0, 1) that depends on the id alone, so that nobody ever changes sides."""
    return int.from_bytes(hashlib.sha256(f"split/{user_id}".encode()).digest()[:8]) / 2**64


def _people(users: pl.DataFrame) -> dict[str, User]:
    columns = ["user_id", "age", "sex", "region", "attributes"]
    return {
        row["user_id"]: User.model_construct(**{**row, "attributes": json.loads(row["attributes"] or "{}")})
        for row in users.select(columns).iter_rows(named=True)
    }


def _records(items: pl.DataFrame) -> list[dict]:
    """Rows as ``schema.Item`` takes them."""
    moments = items.with_columns(pl.col("created_at").dt.epoch("us").fill_null(0))
    return [
        row | {"attributes": json.loads(row["attributes"] or "{}")} for row in moments.iter_rows(named=True)
    ]


def _catalogue(items: pl.DataFrame, acts: Acts) -> Catalogue:
    popularity = np.bincount(acts.item, minlength=len(items)).astype(np.float32)
    features, groups = item_features(items)
    return Catalogue(features, popularity, items["available"].to_numpy(), groups)


def _steps(log: _Log, people: dict[str, User], spec: FeatureSpec, params: FeatureParams) -> Steps:
    requests = log.requests
    ids, user = np.unique(_ids(requests["user_id"]), return_inverse=True)
    ts = requests["ts"].to_numpy()
    pad = len(spec.item_ids)
    slate = _padded(requests["slate"].list.eval(_indices(spec)), pad, np.int64)
    first = np.append(True, user[1:] != user[:-1])
    gap_us = int(params.session_gap_minutes * 60e6)
    starts = first | np.append(True, np.diff(ts) > gap_us)
    wanted = requests["clicked"].replace_strict(spec.index, default=-1, return_dtype=pl.Int64).fill_null(-1)
    hit = slate == wanted.to_numpy()[:, None]
    return Steps(
        user=user.astype(np.int64),
        session=np.cumsum(starts) - 1,
        ts=ts,
        profile=spec.profiles(people.get(i) for i in ids)[user],
        context=spec.contexts(requests["device"].to_list(), ts),
        history=_history(_acts(log, spec, ids), user, ts, spec),
        slate=slate,
        propensity=_padded(requests["propensity"], np.nan, np.float64),
        position=_padded(requests["position"], -1, np.int64),
        clicked=np.where(hit.any(1), hit.argmax(1), -1),
        reward=requests["reward"].to_numpy().astype(np.float32),
        done=np.append(starts[1:], True),
    )


def _indices(spec: FeatureSpec) -> pl.Expr:
    return pl.element().replace_strict(spec.index, default=len(spec.item_ids), return_dtype=pl.Int64)


def _padded(lists: pl.Series, fill: float, dtype: type) -> np.ndarray:
    lengths = lists.list.len().to_numpy()
    matrix: np.ndarray = np.full((len(lists), int(lengths.max())), fill, dtype)
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = lists.explode().to_numpy()
    return matrix


def _ids(column: pl.Series) -> np.ndarray:
    return column.to_numpy().astype(str)


def _acts(log: _Log, spec: FeatureSpec, ids: np.ndarray | None = None) -> Acts:
    """Acts of the split's people on known items; ``ids`` are the people's, in the order of their index."""
    ids = np.unique(_ids(log.requests["user_id"])) if ids is None else ids
    known = log.acts.filter(
        pl.col("user_id").is_in(ids.tolist()), pl.col("item_id").is_in(list(spec.item_ids))
    )
    items = known["item_id"].replace_strict(spec.index, return_dtype=pl.Int64).to_numpy()
    return Acts(np.searchsorted(ids, _ids(known["user_id"])), items, known["ts"].to_numpy())


def _history(acts: Acts, user: np.ndarray, ts: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """int64 (R, H): the newest acts before each request, found by one binary search over (user, time)."""
    pad = len(spec.item_ids)
    moments = np.unique(np.concatenate([ts, acts.ts]))
    width = len(moments) + 1
    act_keys = acts.user * width + np.searchsorted(moments, acts.ts)
    end = np.searchsorted(act_keys, user * width + np.searchsorted(moments, ts), side="left")
    start = np.searchsorted(act_keys, user * width, side="left")
    at = end[:, None] - 1 - np.arange(spec.history)
    items = np.append(acts.item, pad)
    return np.where(at >= start[:, None], items[np.maximum(at, -1)], pad)
