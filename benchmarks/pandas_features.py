"""The peer of ``benchmarks.preprocessing``: the same arrays as ``build_features`` writes, made with pandas.

As one would write it: merges, group-bys and sorts; nothing is done row by row in Python but what the
specification says of a person.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from recloop.features import Acts, Catalogue, Steps
from recloop.features.build import _records, _share
from recloop.features.fit import fit_spec
from recloop.features.people import People
from recloop.schema import User
from recloop.settings.params import FeatureParams, RewardParams


def build_on_pandas(valid: Path, out: Path, params: FeatureParams, reward: RewardParams) -> None:
    """Write what ``build_features`` writes."""
    users, items, shown, events = (
        pd.read_parquet(valid / f"{name}.parquet") for name in ("users", "items", "impressions", "events")
    )
    items = items.sort_values("item_id", ignore_index=True)
    index = pd.Series(items.index, items["item_id"])
    requests = _requests(shown, events, reward)
    good = events[_positive(events, reward, ("click",))].merge(index.rename("item"), on="item_id")
    good = good.sort_values(["user_id", "ts", "event_id"])
    held_out = {user for user in requests["user_id"].unique() if _share(user) < params.test_share}
    people = {
        row["user_id"]: User.model_construct(**{**row, "attributes": json.loads(row["attributes"])})
        for row in users.drop(columns="created_at").to_dict("records")
    }
    devices = set(requests.loc[~requests["user_id"].isin(held_out), "device"])
    fitted = People.of([p for u, p in people.items() if u not in held_out])
    records = _records(pl.read_parquet(valid / "items.parquet").sort("item_id"))
    spec = fit_spec(fitted, devices, records, params, reward)
    out.mkdir(parents=True, exist_ok=True)
    spec.save(out / "spec.json")
    for name in ("train", "test"):
        part = requests[requests["user_id"].isin(held_out) == (name == "test")]
        ids = pd.Index(part["user_id"].unique())
        acts = good[good["user_id"].isin(ids)]
        acts = Acts(
            ids.get_indexer(acts["user_id"]), acts["item"].to_numpy(), acts["ts"].astype("int64").to_numpy()
        )
        acts.save(out / f"{name}_acts.npz")
        _steps(part, ids, acts, shown, index, people, spec, params).save(out / f"{name}.npz")
        if name == "train":
            popularity = np.bincount(acts.item, minlength=len(items)).astype(np.float32)
            features, groups = spec.items.matrix(records)
            Catalogue(features, popularity, items["available"].to_numpy(), groups).save(out / "items.npz")
    (out / "items.json").write_text(json.dumps(records, ensure_ascii=False) + "\n")


def _positive(events: pd.DataFrame, reward: RewardParams, kinds: tuple[str, ...]) -> pd.Series:
    stars = (events["kind"] == "rating") & (events["value"] >= reward.rating_positive)
    return events["kind"].isin(kinds) | stars


def _requests(shown: pd.DataFrame, events: pd.DataFrame, reward: RewardParams) -> pd.DataFrame:
    """One row per request, by person and time: user_id, ts, device, reward, clicked (item_id)."""
    worth = {kind: getattr(reward, kind) for kind in ("view", "click", "cart", "purchase", "dismiss")}
    stars = (events["kind"] == "rating") & (events["value"] >= reward.rating_positive)
    acts = events.assign(
        worth=events["kind"].map(worth).fillna(0.0) + stars * reward.click,
        good=_positive(events, reward, ("click", "cart", "purchase")),
    )
    acts = acts.groupby(["request_id", "item_id"], as_index=False).agg(
        first=("ts", "min"), worth=("worth", "sum"), good=("good", "max")
    )
    joined = shown.merge(acts, on=["request_id", "item_id"], how="left")
    found = joined.groupby("request_id").agg(
        user_id=("user_id", "first"), ts=("ts", "min"), device=("device", "first"), reward=("worth", "sum")
    )
    good = joined[joined["good"].eq(True)].sort_values("first")
    found["clicked"] = good.groupby("request_id")["item_id"].first()
    found["ts"] = found["ts"].astype("int64")
    return found.reset_index().sort_values(["user_id", "ts", "request_id"], ignore_index=True)


def _steps(requests, ids, acts, shown, index, people, spec, params) -> Steps:
    pad = len(index)
    user, ts = ids.get_indexer(requests["user_id"]), requests["ts"].to_numpy()
    row = pd.Series(np.arange(len(requests)), requests["request_id"])
    rows = shown[shown["request_id"].isin(row.index)].sort_values(["request_id", "position"])
    at = rows["request_id"].map(row).to_numpy()
    place = rows.groupby("request_id").cumcount().to_numpy()
    shape = (len(requests), place.max() + 1)
    slate, position = np.full(shape, pad), np.full(shape, -1)
    propensity = np.full(shape, np.nan)
    slate[at, place] = rows["item_id"].map(index).to_numpy()
    position[at, place], propensity[at, place] = rows["position"], rows["propensity"]
    first = np.append(True, user[1:] != user[:-1])
    starts = first | np.append(True, np.diff(ts) > params.session_gap_minutes * 60e6)
    hit = slate == requests["clicked"].map(index).fillna(-1).to_numpy()[:, None]
    return Steps(
        user=user,
        session=np.cumsum(starts) - 1,
        ts=ts,
        profile=np.stack([spec.profile(people.get(i)) for i in ids])[user],
        context=spec.contexts(requests["device"].to_list(), ts),
        history=_history(user, ts, acts, spec),
        slate=slate,
        propensity=propensity,
        position=position,
        clicked=np.where(hit.any(1), hit.argmax(1), -1),
        reward=requests["reward"].to_numpy().astype(np.float32),
        done=np.append(starts[1:], True),
    )


def _history(user, ts, acts, spec) -> np.ndarray:
    """The newest acts before each request: how many there were by then, then as many shifts of them."""
    past = pd.DataFrame({"user": acts.user, "ts": acts.ts, "item": acts.item})
    past["before"] = np.arange(1, len(past) + 1)
    asked = pd.DataFrame({"user": user, "ts": ts, "row": np.arange(len(user))}).sort_values("ts")
    found = pd.merge_asof(
        asked, past.sort_values("ts", kind="stable"), on="ts", by="user", allow_exact_matches=False
    ).sort_values("row")
    begins = np.searchsorted(acts.user, user)
    at = found["before"].fillna(0).to_numpy().astype(np.int64)[:, None] - 1 - np.arange(spec.history)
    items = np.append(acts.item, len(spec.item_ids))
    return np.where(at >= begins[:, None], items[np.maximum(at, -1)], len(spec.item_ids))
