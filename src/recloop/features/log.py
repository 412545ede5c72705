"""The log as arrays, by person and time: Polars turns ids into numbers, numpy puts rows into slates.

People are taken in shards, a stretch of them each, wherever a shard is computed; its rows follow those of the
shard before, so that how many there are changes no byte.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from recloop.settings.params import RewardParams

CHUNK = 20_000  # acts that look for their place in a slate at once
NEVER = np.iinfo(np.int64).max
KINDS = ("view", "click", "cart", "purchase", "dismiss", "rating")
CLICK, RATING = KINDS.index("click"), KINDS.index("rating")
GOOD = np.isin(KINDS, ("click", "cart", "purchase"))


class _Rows:
    row: np.ndarray

    def of(self, first: int, end: int) -> Self:
        """What the people from row ``first`` to before ``end`` did, counted from ``first`` on."""
        part = slice(*np.searchsorted(self.row, (first, end)))
        columns = {field.name: getattr(self, field.name)[part] for field in fields(self)}  # type: ignore[arg-type]
        return type(self)(**columns | {"row": columns["row"] - first})


@dataclass(frozen=True)
class Positive(_Rows):
    """M positive acts by row of the person, time and id.

    Attributes:
        row: int32 (M,), row of the person.
        item: int32 (M,).
        ts: int64 (M,), µs since 1970, UTC.
    """

    row: np.ndarray
    item: np.ndarray
    ts: np.ndarray


@dataclass(frozen=True)
class Requests(_Rows):
    """R requests by row of the person, time and id; K positions at most, N items.

    Attributes:
        row: int32 (R,), row of the person.
        ts: int64 (R,), µs since 1970, UTC.
        device: int32 (R,), index into the log's devices.
        slate: int32 (R, K), item indices padded with N.
        propensity: float64 (R, K), NaN where unknown or padding.
        position: int32 (R, K), logged positions, -1 where padding.
        clicked: int64 (R,), place in the slate of the good item that was acted on first, -1 for none.
        reward: float64 (R,), the worth of all acts that name the request and an item of its slate.
    """

    row: np.ndarray
    ts: np.ndarray
    device: np.ndarray
    slate: np.ndarray
    propensity: np.ndarray
    position: np.ndarray
    clicked: np.ndarray
    reward: np.ndarray


@dataclass(frozen=True)
class Reader:
    """Computes the shard of some people, in any process that sees the files.

    Attributes:
        valid: the clean snapshot.
        items: item ids in index order.
        devices: in order.
        reward: what acts are worth.
    """

    valid: Path
    items: pl.Series
    devices: pl.Series
    reward: RewardParams

    def __call__(self, people: pl.DataFrame) -> tuple[Requests, Positive]:
        """``people``: their ``user_id`` and ``row``, which ascends."""
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(self._acts, people)
            requests, places = self._requests(people)
            acts, positive = reading.result()
        clicked, reward = self._feedback(requests["slate"], _places(acts.pop("request_id"), places), **acts)
        return Requests(**requests, clicked=clicked, reward=reward), positive

    def _requests(self, people: pl.DataFrame) -> tuple[dict[str, np.ndarray], pl.DataFrame]:
        """The arrays that say what was shown; and the ``place`` of each ``request_id`` in them."""
        item = _place("item_id", self.items).fill_null(len(self.items))
        device = _place("device", self.devices)
        shown = self._rows("impressions", people, "request_id", "position", "propensity", item, device)
        if (begins := _begins(shown)) is None:
            begins = _begins(shown := shown.sort("request_id", "position"))
            assert begins is not None
        ids = shown["request_id"].gather(begins)
        columns = {name: shown[name].to_numpy() for name in shown.columns if name != "request_id"}
        del shown
        row = people["row"].to_numpy()[columns.pop("user_id")[begins]]
        device, ts = columns.pop("device")[begins], columns.pop("ts")
        first = np.minimum.reduceat(ts, begins)
        if (order := _order(row, first)) is None:
            order = np.lexsort((ids.rank("ordinal").to_numpy(), first, row))
        lengths = np.diff(begins, append=len(ts))
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        shape = (len(order), int(lengths.max()))
        at = np.repeat(place * np.int64(shape[1]) - begins, lengths) + np.arange(len(ts))
        arrays = {
            "row": row[order],
            "ts": first[order],
            "device": device[order],
            "slate": _spread(shape, at, columns["item_id"], len(self.items)),
            "propensity": _spread(shape, at, columns["propensity"], np.nan),
            "position": _spread(shape, at, columns["position"], -1),
        }
        return arrays, pl.DataFrame({"request_id": ids, "place": place})

    def _rows(self, table: str, people: pl.DataFrame, *columns: str | pl.Expr) -> pl.DataFrame:
        """Of these people, ``user_id`` being a place; words become numbers before rows are gathered."""
        user = _place("user_id", people["user_id"])
        found = scan(self.valid, table).select(user, *columns, pl.col("ts").dt.epoch("us"))
        return found.drop_nulls("user_id").collect(engine="streaming")

    def _acts(self, people: pl.DataFrame) -> tuple[dict[str, Any], Positive]:
        """``request_id``, ``item``, ``kind`` and ``ts`` of all acts; and the positive ones in order."""
        pleased = (pl.col("kind") == "rating") & (pl.col("value") >= self.reward.rating_positive)
        kind = pl.when(pleased).then(CLICK).otherwise(_place("kind", pl.Series(KINDS)))
        item = _place("item_id", self.items).fill_null(-1)
        acts = self._rows(
            "events", people, "request_id", item, kind.fill_null(RATING).cast(pl.Int8).alias("kind")
        )
        items, kinds, ts = (acts[name].to_numpy() for name in ("item_id", "kind", "ts"))
        wanted = np.flatnonzero((kinds == CLICK) & (items >= 0))
        row = people["row"].to_numpy()[acts["user_id"].to_numpy()[wanted]]
        if (order := _order(row, ts[wanted])) is None:
            ids = self._rows("events", people, "event_id")["event_id"].gather(wanted)
            order = np.lexsort((ids.rank("ordinal").to_numpy(), ts[wanted], row))
        wanted = wanted[order]
        positive = Positive(row[order], items[wanted], ts[wanted])
        return {"request_id": acts["request_id"], "item": items, "kind": kinds, "ts": ts}, positive

    def _feedback(
        self, slate: np.ndarray, request: np.ndarray, item: np.ndarray, kind: np.ndarray, ts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each act finds its place in the slate; one without counts for nothing."""
        place, cells = np.full(len(request), -1, np.int32), slate.ravel()
        for start in range(0, len(request), CHUNK):
            part = slice(start, start + CHUNK)
            first, found = request[part] * np.int64(slate.shape[1]), place[part]
            for i in reversed(range(slate.shape[1])):
                found[cells[first + i] == item[part]] = i
        named = (request >= 0) & (item >= 0) & (place >= 0)
        if not named.all():
            request, kind, ts, place = (array[named] for array in (request, kind, ts, place))
        reward = np.zeros(len(slate))  # acts are counted, then weighed, so that their order is no matter
        for each, worth in ((name, getattr(self.reward, name)) for name in KINDS[:RATING]):
            if worth:
                reward += worth * np.bincount(request[kind == KINDS.index(each)], minlength=len(slate))
        cell = request * np.int64(slate.shape[1]) + place
        met, good = np.full(slate.size, NEVER), np.zeros(slate.size, bool)
        np.minimum.at(met, cell, ts)
        good[cell[GOOD[kind]]] = True
        met[~good] = NEVER
        clicked = met.reshape(slate.shape).argmin(1)
        return np.where(good.reshape(slate.shape).any(1), clicked, -1), reward


def join(parts: Iterable[tuple[Requests, Positive]], pad: int) -> tuple[Requests, Positive]:
    """The rows of one shard after those of another; slates as wide as the widest, padded with ``pad``."""
    requests, acts = zip(*parts, strict=True)
    if len(requests) == 1:
        return requests[0], acts[0]
    width = max(part.slate.shape[1] for part in requests)
    fills = {"slate": pad, "propensity": np.nan, "position": -1}

    def stack(parts: tuple, name: str) -> np.ndarray:
        arrays = [getattr(part, name) for part in parts]
        if name in fills:
            arrays = [
                np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=fills[name]) for a in arrays
            ]
        return np.concatenate(arrays)

    return (
        Requests(*(stack(requests, field.name) for field in fields(Requests))),
        Positive(*(stack(acts, field.name) for field in fields(Positive))),
    )


def scan(valid: Path, table: str) -> pl.LazyFrame:
    """A log of the snapshot, which is one file or a folder of them."""
    found = valid / f"{table}.parquet"
    return pl.scan_parquet(found / "*" if found.is_dir() else found, glob=found.is_dir())


def _place(column: str, known: pl.Series) -> pl.Expr:
    """The place of each value in ``known``, null for none."""
    return pl.col(column).cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int32)


def _places(ids: pl.Series, places: pl.DataFrame) -> np.ndarray:
    """int32: the place of each request, -1 for none; neighbours with the same id are looked up once."""
    starts = ids.ne_missing(ids.shift(1)).to_numpy()
    asked = pl.DataFrame({"request_id": ids.filter(pl.Series(starts))})
    found = asked.join(places, on="request_id", how="left", maintain_order="left")["place"]
    numbers = np.append(np.int32(-1), found.fill_null(-1).to_numpy())  # nulls that begin the log are no start
    return numbers[np.cumsum(starts, dtype=np.int32)]


def _spread(shape: tuple[int, int], at: np.ndarray, values: np.ndarray, fill: float) -> np.ndarray:
    matrix = np.full(shape, fill, values.dtype)
    matrix.ravel()[at] = values
    return matrix


def _begins(shown: pl.DataFrame) -> np.ndarray | None:
    """Where each request begins; None if its rows are apart or out of order."""
    ids, position = shown["request_id"], shown["position"].to_numpy()
    starts = (ids != ids.shift(1)).fill_null(True).to_numpy()
    begins = np.flatnonzero(starts)
    apart = ids.gather(begins).n_unique() < len(begins)
    return None if apart or (np.diff(position)[~starts[1:]] < 0).any() else begins


def _order(row: np.ndarray, ts: np.ndarray) -> np.ndarray | None:
    """By row and time; None where two are equal in both."""
    if not len(row):
        return np.zeros(0, np.int64)
    since = ts - ts.min()
    width = int(since.max()) + 1
    if width * (int(row.max()) + 1) < 2**63:
        keys = row * np.int64(width) + since
        order = np.argsort(keys)
        return None if (np.diff(keys[order]) == 0).any() else order
    order = np.lexsort((ts, row))
    return None if ((np.diff(row[order]) == 0) & (np.diff(ts[order]) == 0)).any() else order
