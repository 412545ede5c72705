"""The Open Bandit Dataset as ZOZO publishes it: ``<policy>/<campaign>/<campaign>.csv``.

What the log says and what it does not:

- It names no person. Four hashed features of the visitor are given; everybody who shares them is
  one *person* here, a segment rather than an individual.
- One row is one shown item at position 1, 2 or 3. Which rows stood on the same page is not
  published, so each row is a request of its own whose slate is only partly known (``partial``).
- ``propensity_score`` is the marginal probability of the item at that position, not the one given
  the items above it. With one row per request the two play the same part: an estimator over single
  positions may use it, one over whole slates may not.
- The hashes of the item features are salted per folder: values differ between policies though they
  part the items alike. So only the parts are kept: ``group-0`` for the items that share the value of
  the first item, and so on.

Saito, Aihara, Matsutani and Narita, Open Bandit Dataset and Pipeline, arXiv 2008.07146.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recloop.intake.sheet import Sheet, read_sheet
from recloop.intake.source import ROWS_AT_ONCE, Batch, DatasetError, TableReport
from recloop.schema import Event, EventKind, Failure, Impression, Item, User
from recloop.store import Refused

NAME = "open-bandit"
POSITIONS = 3
HASH = 8  # characters of a hash that tell its few values apart
PERSON = [f"user_feature_{n}" for n in range(4)]
TIME = "%Y-%m-%d %H:%M:%S%.f%:z"


@dataclass
class OpenBandit:
    """Open Bandit folders that have been read and judged; see ``read_open_bandit``."""

    people: pl.DataFrame
    items: pl.DataFrame
    shown: pl.DataFrame
    refused: list[Refused]
    reports: dict[str, TableReport]
    name: str = NAME

    @property
    def size(self) -> int:
        """Segments, items, impressions and clicks."""
        return len(self.people) + len(self.items) + len(self.shown) + int(self.shown["click"].sum())

    def tables(self) -> Mapping[str, TableReport]:
        """Rows read, kept and quarantined: ``<policy>/<campaign>`` and its items."""
        return self.reports

    def batches(self) -> Iterator[Batch]:
        """First segments, items and refusals, then the impressions in the order of time."""
        yield Batch(
            users=[_user(row) for row in self.people.iter_rows(named=True)],
            items=[_item(row) for row in self.items.iter_rows(named=True)],
            refused=self.refused,
        )
        for part in self.shown.iter_slices(ROWS_AT_ONCE):
            rows = list(part.iter_rows(named=True))
            yield Batch(
                impressions=[_impression(row) for row in rows],
                events=[_click(row) for row in rows if row["click"]],
            )


def read_open_bandit(folder: Path) -> OpenBandit:
    """Read and judge every ``<policy>/<campaign>`` under a folder, or one policy's own folder.

    Raises:
        DatasetError: the folder or a file is missing, empty, truncated, or of another dataset.
    """
    logs = find_logs(folder)
    reports: dict[str, TableReport] = {}
    refused: list[Refused] = []
    items, shown = [], []
    for log in logs:
        campaign, policy = log.stem, log.parent.parent.name
        context = _read_items(log.parent / "item_context.csv")
        rows = _read_log(log)
        known = context.rows["item_id"].implode()
        strange = ~pl.col("item_id").is_in(known)
        rows.refuse(strange, "item_id: not among the items kept", Failure.REFERENCE)
        reports[f"{policy}/{campaign} items"] = context.report()
        reports[f"{policy}/{campaign}"] = rows.report()
        refused += context.refused + rows.refused
        item = pl.concat_str(pl.lit(f"{campaign}-"), "item_id")
        named = {"item": item, "campaign": pl.lit(campaign), "policy": pl.lit(policy)}
        items.append(context.rows.with_columns(**named))
        shown.append(rows.rows.with_columns(**named))
    log_rows = pl.concat(shown).sort("ts", "policy", "campaign", "line")
    return OpenBandit(
        people=log_rows.unique("person", keep="first", maintain_order=True),
        items=pl.concat(items).unique("item", keep="first", maintain_order=True),
        shown=log_rows,
        refused=refused,
        reports=reports,
    )


def find_logs(folder: Path) -> list[Path]:
    """The campaign logs under a folder, in alphabetical order.

    Raises:
        DatasetError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise DatasetError(
            f"no folder {folder}: give the folder that holds <policy>/<campaign>/<campaign>.csv"
        )
    root = folder.resolve()
    logs = [
        path
        for path in sorted([*root.glob("*/*.csv"), *root.glob("*/*/*.csv")])
        if path.stem == path.parent.name
    ]
    if not logs:
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
        raise DatasetError(
            f"{folder} holds no Open Bandit log: looked for <policy>/<campaign>/<campaign>.csv"
            f" (for example random/men/men.csv) and <campaign>/<campaign>.csv, found {found}"
        )
    return logs


def _read_items(path: Path) -> Sheet:
    columns = ["item_id", *(f"item_feature_{n}" for n in range(4))]
    sheet = read_sheet(path, NAME, "items", columns, ",", header={})
    sheet.identified("item_id")
    sheet.once("item_id")
    sheet.number("item_feature_0", -1e9, 1e9, pl.Float64)
    for name in columns[2:]:
        sheet.refuse(pl.col(name) == "", f"{name}: empty")
        group = pl.col("line").min().over(name).rank("dense") - 1
        sheet.rows = sheet.rows.with_columns(pl.concat_str(pl.lit("group-"), group).alias(name))
    return sheet


def _read_log(path: Path) -> Sheet:
    columns = ["timestamp", "item_id", "position", "click", "propensity_score", *PERSON]
    sheet = read_sheet(path, NAME, "impressions", columns, ",", header={})
    sheet.rows = sheet.rows.with_columns(
        ts=pl.col("timestamp").str.to_datetime(TIME, time_unit="us", strict=False).dt.epoch("us"),
        person=pl.concat_str(PERSON, separator="|").map_elements(_segment, return_dtype=pl.String),
        **{name: pl.col(name).str.slice(0, HASH) for name in PERSON},
    )
    sheet.refuse(pl.col("ts").is_null() | (pl.col("ts") < 0), "timestamp: no time with an offset from UTC")
    sheet.identified("item_id")
    sheet.number("position", 1, POSITIONS, pl.Int32)
    sheet.number("click", 0, 1, pl.Int8)
    sheet.number("propensity_score", 0, 1, pl.Float64)
    never = pl.col("propensity_score") == 0
    sheet.refuse(never, "propensity_score: 0, though the item was shown", Failure.RANGE)
    return sheet


def _segment(features: str) -> str:
    return "s" + hashlib.sha256(features.encode()).hexdigest()[:16]


def _user(row: dict) -> User:
    return User(user_id=row["person"], attributes={name: row[name] for name in PERSON})


def _item(row: dict) -> Item:
    groups = {f"item_feature_{n}": row[f"item_feature_{n}"] for n in (1, 2, 3)}
    return Item(
        item_id=row["item"],
        title=f"{row['campaign']} item {row['item_id']}",
        category=row["item_feature_1"],
        attributes={"item_feature_0": row["item_feature_0"], **groups},
    )


def _impression(row: dict) -> Impression:
    return Impression(
        request_id=_request(row),
        position=row["position"] - 1,
        user_id=row["person"],
        item_id=row["item"],
        propensity=row["propensity_score"],
        policy=row["policy"],
        partial=True,
        ts=row["ts"],
    )


def _click(row: dict) -> Event:
    return Event(
        event_id=f"c-{_request(row)}",
        user_id=row["person"],
        item_id=row["item"],
        kind=EventKind.CLICK,
        request_id=_request(row),
        ts=row["ts"],
    )


def _request(row: dict) -> str:
    return f"{row['policy']}-{row['campaign']}-{row['line'] - 2}"
