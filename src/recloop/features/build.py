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
SHARD_ROWS = 3_000_000  # impressions of the people whose requests are joined at once

# One row per request, by split, person and time; an act counts for the request that it names.
REQUESTS = """
with acts as (
    select request_id, item_id, min(ts) as first, sum(case kind
        when 'view' then $view when 'click' then $click when 'cart' then $cart
        when 'purchase' then $purchase when 'dismiss' then $dismiss
        when 'rating' then case when value >= $rating_positive then $click else 0 end end) as worth,
        bool_or(kind in ('click', 'cart', 'purchase')
            or (kind = 'rating' and value >= $rating_positive)) as good
    from events join people using (user_id) where shard = $shard and request_id is not null
    group by request_id, item_id
), requests as (
    select i.request_id, any_value(i.user_id) as user_id, epoch_us(min(i.ts)) as ts,
        any_value(i.device) as device,
        list(struct_pack(item := coalesce(c.item, $pad), propensity := coalesce(i.propensity, 'nan'::double),
            position := i.position) order by i.position) as slate,
        arg_min(c.item, a.first) filter (where a.good) as clicked,
        coalesce(sum(a.worth), 0) as reward
    from impressions i join people p on p.user_id = i.user_id and p.shard = $shard
        left join acts a on a.request_id = i.request_id and a.item_id = i.item_id
        left join catalogue c on c.item_id = i.item_id
    group by i.request_id
)
select p.test, p.person, r.* exclude (user_id, request_id)
from requests r join people p using (user_id) order by p.test, p.person, r.ts, r.request_id
"""
ACTS = """
select p.test, p.person, c.item, epoch_us(e.ts) as ts
from events e join people p using (user_id) join catalogue c using (item_id)
where kind = 'click' or (kind = 'rating' and value >= $rating_positive)
order by p.test, p.person, e.ts, e.event_id
"""


class NoDataError(ValueError):
    """The clean snapshot holds too little to learn from."""


@dataclass(frozen=True)
class _Log:
    """What people did, by split, person (index within the split) and time.

    Attributes:
        people: user_id, test, person; who was shown anything, in the order of their ids.
        requests: test, person, ts, device, slate (item index, propensity, position), clicked, reward.
        acts: test, person, item, ts; the positive ones, whichever request they answer.
    """

    people: pl.DataFrame
    requests: pl.DataFrame
    acts: pl.DataFrame

    def split(self, test: bool) -> "_Log":
        """The part of one split."""
        return _Log(
            *(frame.filter(pl.col("test") == test) for frame in (self.people, self.requests, self.acts))
        )


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
    if items.is_empty():
        raise NoDataError("the snapshot has no items: add some to the store, then advance the watermark")
    log = _read_log(valid, items, params, reward)
    people = _people(users)
    held_out = set(log.split(True).people["user_id"])
    spec = fit_spec([p for u, p in people.items() if u not in held_out], items, log.requests, params, reward)
    out.mkdir(parents=True, exist_ok=True)
    spec.save(out / "spec.json")
    figures: dict[str, int | float] = {"items": len(spec.item_ids), "profile_size": spec.profile_size}
    for name in ("train", "test"):
        part = log.split(name == "test")
        if part.requests.is_empty():
            raise NoDataError(f"no requests in the {name} split: more people are needed than {len(people)}")
        acts = Acts(*(part.acts[column].to_numpy() for column in ("person", "item", "ts")))
        acts.save(out / f"{name}_acts.npz")
        steps = _steps(part, acts, people, spec, params)
        steps.save(out / f"{name}.npz")
        figures[f"{name}_requests"] = len(steps)
        if name == "train":
            figures["train_sessions"] = int(steps.session[-1]) + 1
            _catalogue(items, acts).save(out / "items.npz")
    (out / "items.json").write_text(json.dumps(_records(items), ensure_ascii=False) + "\n")
    return figures | {"mean_reward": float(log.requests["reward"].to_numpy().mean())}


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


def _read_log(valid: Path, items: pl.DataFrame, params: FeatureParams, reward: RewardParams) -> _Log:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for table in ("impressions", "events"):
            found = valid / f"{table}.parquet"  # one file, or a folder of them as in a snapshot
            file = str(found / "*" if found.is_dir() else found).replace("'", "''")
            connection.execute(f"create view {table} as select * from read_parquet('{file}')")
        rows = connection.execute("select count(*) from impressions").fetchall()[0][0]
        asked = _frame(connection, "select distinct user_id from impressions order by user_id", {})
        people = _numbered(asked, params.test_share, shards := -(-rows // SHARD_ROWS))
        connection.register("people", people.to_arrow())
        catalogue = items.select("item_id", item=pl.int_range(pl.len()))
        connection.register("catalogue", catalogue.to_arrow())
        values = {**reward.model_dump(), "pad": len(items)}
        parts = [_frame(connection, REQUESTS, {**values, "shard": shard}) for shard in range(max(1, shards))]
        acts = _frame(connection, ACTS, {"rating_positive": reward.rating_positive})
    return _Log(people, pl.concat(parts), acts)


def _numbered(asked: pl.DataFrame, test_share: float, shards: int) -> pl.DataFrame:
    """People, who are in order, with their split, their index in it, and their shard, a stretch of them."""
    held_out = pl.Series([_share(user_id) < test_share for user_id in asked["user_id"]], dtype=pl.Boolean)
    return asked.with_columns(test=held_out).with_columns(
        person=pl.int_range(pl.len()).over("test"), shard=pl.int_range(pl.len()) * shards // pl.len()
    )


def _frame(connection: duckdb.DuckDBPyConnection, query: str, values: dict[str, float]) -> pl.DataFrame:
    frame = pl.from_arrow(connection.sql(query, params=values).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def _share(user_id: str) -> float:
    """A number in [0, 1) that depends on the id alone, so that nobody ever changes sides."""
    return int.from_bytes(hashlib.sha256(f"split/{user_id}".encode()).digest()[:8]) / 2**64


def _people(users: pl.DataFrame) -> dict[str, User]:
    read = {text: json.loads(text or "{}") for text in users["attributes"].unique()}
    columns = [users[name].to_list() for name in ("user_id", "age", "sex", "region", "attributes")]
    return {
        user_id: User.model_construct(user_id=user_id, age=age, sex=sex, region=region, attributes=read[text])
        for user_id, age, sex, region, text in zip(*columns, strict=True)
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


def _steps(log: _Log, acts: Acts, people: dict[str, User], spec: FeatureSpec, params: FeatureParams) -> Steps:
    requests, pad = log.requests, len(spec.item_ids)
    user, ts = requests["person"].to_numpy(), requests["ts"].to_numpy()
    lengths, shown = requests["slate"].list.len().to_numpy(), requests["slate"].explode().struct
    slate = _padded(shown.field("item"), lengths, pad, np.int64)
    first = np.append(True, user[1:] != user[:-1])
    gap_us = int(params.session_gap_minutes * 60e6)
    starts = first | np.append(True, np.diff(ts) > gap_us)
    hit = slate == requests["clicked"].fill_null(-1).to_numpy()[:, None]
    return Steps(
        user=user,
        session=np.cumsum(starts) - 1,
        ts=ts,
        profile=spec.profiles(people.get(i) for i in log.people["user_id"])[user],
        context=spec.contexts(requests["device"].to_list(), ts),
        history=_history(acts, user, ts, spec),
        slate=slate,
        propensity=_padded(shown.field("propensity"), lengths, np.nan, np.float64),
        position=_padded(shown.field("position"), lengths, -1, np.int64),
        clicked=np.where(hit.any(1), hit.argmax(1), -1),
        reward=requests["reward"].to_numpy().astype(np.float32),
        done=np.append(starts[1:], True),
    )


def _padded(values: pl.Series, lengths: np.ndarray, fill: float, dtype: type) -> np.ndarray:
    """(R, K): the values row by row, of which each row has so many."""
    matrix: np.ndarray = np.full((len(lengths), int(lengths.max())), fill, dtype)
    matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = values.to_numpy()
    return matrix


def _history(acts: Acts, user: np.ndarray, ts: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """int64 (R, H): the newest acts before each request, found by one binary search over (user, time)."""
    pad = len(spec.item_ids)
    first = min(ts.min(), acts.ts.min(initial=ts.min()))
    when, then = ts - first, acts.ts - first
    width = int(max(when.max(), then.max(initial=0))) + 1
    if width * (int(user.max()) + 1) >= 2**63:  # ranks of the moments are smaller than the moments
        moments = np.unique(np.concatenate([when, then]))
        when, then, width = np.searchsorted(moments, when), np.searchsorted(moments, then), len(moments)
    act_keys = acts.user * width + then
    end = np.searchsorted(act_keys, user * width + when, side="left")
    start = np.searchsorted(act_keys, user * width, side="left")
    at = end[:, None] - 1 - np.arange(spec.history)
    items = np.append(acts.item, pad)
    return np.where(at >= start[:, None], items[np.maximum(at, -1)], pad)
