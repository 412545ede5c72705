"""The log as arrays, by person and time: Polars turns ids into numbers, numpy puts rows into slates.

People are taken in shards, a stretch of them each, wherever a shard is computed; its rows follow those of the
shard before, so that how many there are changes no byte.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from recloop.settings.params import RewardParams

BATCH = 1_000_000  # rows that are read at once
CHUNK = 20_000  # acts that look for their place in a slate at once
NEVER = np.iinfo(np.int64).max
KINDS = ("view", "click", "cart", "purchase", "dismiss", "rating")
CLICK, RATING = KINDS.index("click"), KINDS.index("rating")
GOOD = np.isin(KINDS, ("click", "cart", "purchase")).astype(np.uint8)


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
            shown, ids, order = self._requests(people)
            named, acts, positive = reading.result()
            ordered = {name: beside.submit(array.take, order, 0) for name, array in shown.items()}
            acts["request"] = _places(named, acts.pop("starts"), ids)
            done = self._feedback(shown["slate"], **acts)
        requests = {name: taken.result() for name, taken in ordered.items()}
        return Requests(**requests, **{name: array.take(order) for name, array in done.items()}), positive

    def _requests(self, people: pl.DataFrame) -> tuple[dict[str, np.ndarray], pl.Series, np.ndarray]:
        """What was shown, as the log has it, since neighbours are used together; ids; and their order."""
        item = _place("item_id", self.items).fill_null(len(self.items))
        device = _place("device", self.devices)
        ids, rows = self._rows("impressions", people, "position", "propensity", item, device)
        hashes, position = np.sort(ids.hash().to_numpy()), rows["position"]
        back = (position[1:] < position[:-1]) & ~rows["starts"][1:]
        if back.any() or (hashes[1:] == hashes[:-1]).any():  # requests out of order or, it seems, apart
            number = ids.rank("dense").to_numpy()[np.cumsum(rows["starts"]) - 1]
            together = np.lexsort((position, number))
            rows = {name: array[together] for name, array in rows.items()}
            ids, rows["starts"] = ids.unique().sort(), np.diff(number[together], prepend=0) > 0
        begins = np.flatnonzero(rows["starts"])
        row, ts = rows["row"][begins], np.minimum.reduceat(rows["ts"], begins)
        if (order := _order(row, ts)) is None:
            order = np.lexsort((ids.rank("ordinal").to_numpy(), ts, row))
        fills = {"item_id": len(self.items), "propensity": np.nan, "position": -1}
        slate, propensity, position = (_spread(begins, rows[name], fill) for name, fill in fills.items())
        shown = {"slate": slate, "propensity": propensity, "position": position}
        return {"row": row, "ts": ts, "device": rows["device"][begins]} | shown, ids, order

    def _rows(
        self, table: str, people: pl.DataFrame, *columns: str | pl.Expr
    ) -> tuple[pl.Series, dict[str, np.ndarray]]:
        """The ``request_id`` of each run of these people's rows; and ``starts``, ``row``, ``ts``, columns."""
        found, user = scan(self.valid, table), _place("user_id", people["user_id"]).fill_null(-1)
        numbers = np.append(people["row"].to_numpy(), np.int32(-1))
        count = found.select(pl.len()).collect().item()
        ids, end, last = [], 0, None
        arrays: dict[str, np.ndarray] = {}
        for first in range(0, count or 1, BATCH):
            some = found.slice(first, BATCH)
            rows = some.select("user_id", "request_id", *columns, pl.col("ts").dt.epoch("us")).collect()
            runs = rows["user_id"].rle().struct.unnest()  # of neighbours that are equal one is looked up
            places = runs.select(user_id="value").select(user).to_series().to_numpy()
            row = numbers.take(places).repeat(runs["len"].to_numpy())
            if (row < 0).any():
                rows, row = rows.filter(pl.Series(row >= 0)), row[row >= 0]
            asked = rows["request_id"]
            starts = (asked != asked.shift(1, fill_value=last)).fill_null(True)
            ids.append(asked.filter(starts))
            last = asked[-1] if len(asked) else last
            rows = rows.drop("user_id", "request_id").with_columns(starts=starts, row=row)
            for column in rows:
                values = column.to_numpy()
                array = arrays.setdefault(column.name, np.empty(count, values.dtype))
                array[end : end + len(values)] = values
            end += len(rows)
        return pl.concat(ids), {name: array[:end] for name, array in arrays.items()}

    def _acts(self, people: pl.DataFrame) -> tuple[pl.Series, dict[str, np.ndarray], Positive]:
        """As ``_rows`` has them, but ``row``; and the positive ones in order."""
        pleased = (pl.col("kind") == "rating") & (pl.col("value") >= self.reward.rating_positive)
        kind = pl.when(pleased).then(CLICK).otherwise(_place("kind", pl.Series(KINDS)))
        kind = kind.fill_null(RATING).cast(pl.Int8).alias("kind")
        ids, acts = self._rows("events", people, _place("item_id", self.items).fill_null(-1), kind)
        wanted = np.flatnonzero((acts["kind"] == CLICK) & (acts["item_id"] >= 0))
        row, item, ts = (acts[name].take(wanted) for name in ("row", "item_id", "ts"))
        if (order := _order(row, ts)) is None:
            theirs = pl.col("user_id").is_in(people["user_id"].implode())
            names = scan(self.valid, "events").filter(theirs).select("event_id").collect()["event_id"]
            order = np.lexsort((names.gather(wanted).rank("ordinal").to_numpy(), ts, row))
        del acts["row"]
        return ids, acts, Positive(row.take(order), item.take(order), ts.take(order))

    def _feedback(
        self, slate: np.ndarray, request: np.ndarray, item_id: np.ndarray, kind: np.ndarray, ts: np.ndarray
    ) -> dict[str, np.ndarray]:
        """``clicked`` and ``reward``: each act finds its place in the slate, or counts for nothing."""
        requests, width = slate.shape
        met, good = np.full(slate.size, NEVER), np.zeros(slate.size, np.uint8)
        counts = np.zeros((len(KINDS), requests), np.int64)  # then weighed, so that their order is no matter
        for start in range(0, len(request), CHUNK):
            part = slice(start, start + CHUNK)
            asked, acted, when = request[part].astype(np.int64), kind[part], ts[part]
            shown, place = slate.take(asked, 0), np.full(len(asked), -1)
            for i in reversed(range(width)):
                place = np.where(shown[:, i] == item_id[part], i, place)
            named = (asked >= 0) & (item_id[part] >= 0) & (place >= 0)
            if not named.all():
                asked, acted, when, place = (array[named] for array in (asked, acted, when, place))
            cell = asked * width + place
            np.minimum.at(met, cell, when)
            np.maximum.at(good, cell, GOOD.take(acted))
            np.add.at(counts.ravel(), acted * np.int64(requests) + asked, 1)
        reward = np.zeros(requests)
        for name, count in zip(KINDS[:RATING], counts, strict=False):
            reward += getattr(self.reward, name) * count
        np.copyto(met, NEVER, where=good == 0)
        clicked = met.reshape(slate.shape).argmin(1)
        clicked[good.take(np.arange(requests) * width + clicked) == 0] = -1
        return {"clicked": clicked, "reward": reward}


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


def _places(ids: pl.Series, starts: np.ndarray, known: pl.Series) -> np.ndarray:
    """int32: the place of each row's request, -1 for none."""
    places = pl.DataFrame({"id": known, "place": np.arange(len(known), dtype=np.int32)})
    found = pl.DataFrame({"id": ids}).join(places, on="id", how="left", maintain_order="left")["place"]
    return found.fill_null(-1).to_numpy().repeat(np.diff(np.flatnonzero(starts), append=len(starts)))


def _spread(begins: np.ndarray, values: np.ndarray, fill: float) -> np.ndarray:
    """A row per request, as wide as the longest."""
    lengths = np.diff(begins, append=len(values))
    if lengths.min() == (width := lengths.max()):
        return values.reshape(-1, width)
    matrix = np.full((len(begins), width), fill, values.dtype)
    matrix[np.arange(width) < lengths[:, None]] = values
    return matrix


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
