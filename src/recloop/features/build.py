"""From a clean snapshot to features: join, sessions, history, split; fitted on the train split only."""

import hashlib
import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recloop.features import log
from recloop.features.factors import behaviour
from recloop.features.fit import fit_encodings, fit_spec, read_people
from recloop.features.log import Positive, Reader, Requests
from recloop.features.people import People
from recloop.features.select import describe, judge_columns
from recloop.features.spec import FeatureSpec
from recloop.features.steps import Acts, Catalogue, write_steps
from recloop.schema import composed
from recloop.settings.params import FeatureParams, RewardParams

SHARD_ROWS = 12_000_000  # impressions of the people whose requests are joined at once
Spread = Callable[[Reader, list[pl.DataFrame]], Iterable[tuple[Requests, Positive]]]


class NoDataError(ValueError):
    """The clean snapshot holds too little to learn from."""


def build_features(
    valid: Path, out: Path, params: FeatureParams, reward: RewardParams, spread: Spread = map
) -> dict[str, Any]:
    """Write ``spec.json``, ``items.npz``, ``items.json`` and per split ``train.npz``, ``train_acts.npz``.

    ``spread`` computes the shards, like ``map``, wherever it likes. Returns key figures.

    Raises:
        NoDataError: no items, or a split without requests.
    """
    users = pl.read_parquet(valid / "users.parquet").sort("user_id")
    items = pl.read_parquet(valid / "items.parquet").sort("item_id")
    if items.is_empty():
        raise NoDataError("the snapshot has no items: add some to the store, then advance the watermark")
    shown = log.scan(valid, "impressions")
    rows = shown.select(pl.len()).collect().item()
    devices = shown.select(pl.col("device").unique()).collect()["device"].sort()
    asked = shown.select(pl.col("user_id").unique()).collect().sort("user_id")
    held_out = pl.Series(
        [_share(user_id) < params.test_share for user_id in asked["user_id"]], dtype=pl.Boolean
    )
    people = pl.concat([asked.filter(~held_out), asked.filter(held_out)]).with_columns(
        row=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    train = len(people) - int(held_out.sum())
    for name, count in (("train", train), ("test", len(people) - train)):
        if not count:
            raise NoDataError(f"no requests in the {name} split: more people are needed than {len(people)}")
    shards = min(max(1, -(-rows // SHARD_ROWS), params.num_workers), len(people))
    ends = [len(people) * i // shards for i in range(shards + 1)]
    parts = [people[start:end] for start, end in pairwise(ends)]
    reader = Reader(valid, items["item_id"], devices, reward)
    requests, acts = log.join(spread(reader, parts), len(items))
    everyone = pl.concat(
        [
            people.drop("row").join(users, on="user_id", how="left", maintain_order="left"),
            users.join(people, on="user_id", how="anti"),
        ],
        how="diagonal",
    ).with_row_index("row")
    told = read_people(everyone)
    learnt = everyone.filter(~pl.col("row").is_between(train, len(people) - 1)).sort("user_id")["row"]
    spec, about = _fit(
        told, learnt.to_numpy(), train, requests, devices, records := _records(items), params, reward
    )
    out.mkdir(parents=True, exist_ok=True)
    spec.save(out / "spec.json")
    profiles = spec.matrix(told)
    figures: dict[str, Any] = {"items": len(spec.item_ids), "profile_size": spec.profile_size}
    for name, first, end in (("train", 0, train), ("test", train, len(people))):
        liked = acts.of(first, end)
        mine = Acts(liked.row.astype(np.int64), liked.item.astype(np.int64), liked.ts)
        mine.save(out / f"{name}_acts.npz")
        part = requests.of(first, end)
        session, done = _sessions(part, params)
        steps = _steps(part, mine, profiles[first:end], devices.to_list(), spec, session, done)
        write_steps(out / f"{name}.npz", len(session), steps)
        figures[f"{name}_requests"] = len(session)
        if name == "train":
            figures["train_sessions"] = int(session[-1]) + 1
            catalogue = _catalogue(records, spec, mine, params)
            catalogue.save(out / "items.npz")
    (out / "items.json").write_text(json.dumps(records, ensure_ascii=False) + "\n")
    return figures | {"mean_reward": float(requests.reward.mean())} | about


def _fit(
    people: People,
    learnt: np.ndarray,
    train: int,
    requests: Requests,
    devices: pl.Series,
    items: list[dict],
    params: FeatureParams,
    reward: RewardParams,
) -> tuple[FeatureSpec, dict[str, Any]]:
    """From the rows ``learnt`` of people, of whom the first ``train`` were shown something; with a report."""
    shown = requests.of(0, train)
    count, worth, acted = (
        np.bincount(shown.row, weights, minlength=train)
        for weights in (None, shown.reward, shown.clicked >= 0)
    )
    judged = people.take(np.arange(train))
    columns = judge_columns(judged, count, acted, params.selection)
    left_out = {name for name, verdict in columns.items() if not verdict["kept"]}
    used = set(devices.gather(np.unique(shown.device)))
    spec = fit_spec(people.take(learnt).without(left_out), used, items, params, reward)
    spec = spec.model_copy(update={"encodings": fit_encodings(judged, count, worth, params)})
    return spec, {"columns": columns, "cleaning": describe(people.take(learnt), spec)}


def _share(user_id: str) -> float:
    """A number in [0, 1) that depends on the id alone, so that nobody ever changes sides."""
    return int.from_bytes(hashlib.sha256(f"split/{user_id}".encode()).digest()[:8]) / 2**64


def _records(items: pl.DataFrame) -> list[dict]:
    """Rows as ``schema.Item`` takes and spells them."""
    moments = items.with_columns(pl.col("created_at").dt.epoch("us").fill_null(0))
    return [
        composed(row | {"attributes": json.loads(row["attributes"] or "{}")})
        for row in moments.iter_rows(named=True)
    ]


def _catalogue(items: list[dict], spec: FeatureSpec, acts: Acts, params: FeatureParams) -> Catalogue:
    popularity = np.bincount(acts.item, minlength=len(items)).astype(np.float32)
    assert spec.items is not None
    features, groups = spec.items.matrix(items)
    if params.behaviour:
        liked = behaviour(acts.user, acts.item, len(items), params.behaviour)
        features = np.concatenate([features, liked], 1)
        groups = np.append(groups, np.full(params.behaviour, "behaviour"))
    return Catalogue(features, popularity, np.array([item["available"] for item in items]), groups)


def _sessions(log: Requests, params: FeatureParams) -> tuple[np.ndarray, np.ndarray]:
    """``session`` and ``done`` of ``Steps``."""
    first = np.append(True, log.row[1:] != log.row[:-1])
    starts = first | np.append(True, np.diff(log.ts) > int(params.session_gap_minutes * 60e6))
    return np.cumsum(starts) - 1, np.append(starts[1:], True)


def _steps(
    log: Requests,
    acts: Acts,
    profiles: np.ndarray,
    devices: list[str],
    spec: FeatureSpec,
    session: np.ndarray,
    done: np.ndarray,
) -> dict[str, Callable[[slice], np.ndarray]]:
    """The arrays of ``Steps``, in its order: what some rows of them are."""
    width = int((log.position >= 0).any(0).sum())
    return {
        "user": lambda part: log.row[part].astype(np.int64),
        "session": lambda part: session[part],
        "ts": lambda part: log.ts[part],
        "profile": lambda part: profiles[log.row[part]],
        "context": lambda part: spec.contexts(devices, log.ts[part], log.device[part]),
        "history": _history(acts, log.row, log.ts, spec),
        "slate": lambda part: log.slate[part, :width].astype(np.int64),
        "propensity": lambda part: log.propensity[part, :width],
        "position": lambda part: log.position[part, :width].astype(np.int64),
        "clicked": lambda part: log.clicked[part],
        "reward": lambda part: log.reward[part].astype(np.float32),
        "done": lambda part: done[part],
    }


def _history(
    acts: Acts, user: np.ndarray, ts: np.ndarray, spec: FeatureSpec
) -> Callable[[slice], np.ndarray]:
    """int64 (R, H): the newest acts before each request, found by one binary search over (user, time)."""
    first = min(ts.min(), acts.ts.min(initial=ts.min()))
    when, then = ts - first, acts.ts - first
    width = int(max(when.max(), then.max(initial=0))) + 1
    if width * (int(user.max()) + 1) >= 2**63:  # ranks of the moments are smaller than the moments
        moments = np.unique(np.concatenate([when, then]))
        when, then, width = np.searchsorted(moments, when), np.searchsorted(moments, then), len(moments)
    keys, items = acts.user * np.int64(width) + then, np.append(acts.item, len(spec.item_ids))

    def some(part: slice) -> np.ndarray:
        begin = user[part].astype(np.int64) * width
        start, end = np.searchsorted(keys, begin), np.searchsorted(keys, begin + when[part])
        at = end[:, None] - np.arange(1, spec.history + 1)
        return items[np.where(at >= start[:, None], at, -1)]

    return some
