"""RetailRocket as it is published: ``events.csv`` and ``item_properties_part*.csv``.

Views, carts and purchases of an online shop whose names are all hashed. Nobody says what was recommended, so
that each act is an organic impression, without a propensity. Of an item's properties the newest category and
availability are kept. Purchases have no price: their value is 1.

RetailRocket recommender system dataset, Kaggle.
"""

from pathlib import Path

import polars as pl

from recloop.intake.acts import ORGANIC, ActTable, first_times
from recloop.intake.sheet import Sheet, read_sheet
from recloop.intake.source import DatasetError, TableReport
from recloop.schema import Failure, Item, User
from recloop.store import Refused

NAME = "retail-rocket"
KINDS = {"view": "view", "addtocart": "cart", "transaction": "purchase"}
LATEST = 4_102_444_800_000  # the year 2100 in ms: above it, a time is in another unit
COLUMNS = ["timestamp", "visitorid", "event", "itemid", "transactionid"]


def find_events(folder: Path) -> Path:
    """The file of events.

    Raises:
        DatasetError: there is none, or it is of something else.
    """
    path = folder / "events.csv"
    if not path.is_file():
        raise DatasetError(f"{folder} holds no RetailRocket: looked for events.csv")
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline().strip()
    if header != ",".join(COLUMNS):
        raise DatasetError(f"{path} is no RetailRocket: its header is {header[:80]!r}")
    return path


def read_retail_rocket(folder: Path) -> ActTable:
    """Read and judge a folder.

    Raises:
        DatasetError: a file is missing, empty, truncated or of another dataset.
    """
    sheet = read_sheet(find_events(folder), NAME, "events", COLUMNS, ",", header={})
    sheet.identified("visitorid", "itemid")
    sheet.number("timestamp", 0, LATEST, pl.Int64)
    sheet.refuse(~pl.col("event").is_in(list(KINDS)), f"event: none of {', '.join(KINDS)}")
    bought = (pl.col("event") == "transaction") & (pl.col("transactionid") == "")
    sheet.refuse(bought, "transactionid: a transaction without one")
    sheet.once("timestamp", "visitorid", "event", "itemid", "transactionid")
    acts = sheet.rows.select(
        pl.concat_str(pl.lit("rr-"), pl.col("line") - 2).alias("key"),
        pl.concat_str(pl.lit("v"), "visitorid").alias("user"),
        pl.concat_str(pl.lit("i"), "itemid").alias("item"),
        (pl.col("timestamp") * 1000).alias("ts"),
        pl.lit(ORGANIC).alias("policy"),
        *[pl.when(pl.col("event") == word).then(1.0).alias(kind) for word, kind in KINDS.items()],
    )
    reports, refused = {"events": sheet.report()}, list(sheet.refused)
    known = _properties(folder, reports, refused)
    return ActTable(
        name=NAME,
        users=[User(user_id=user, created_at=ts) for user, ts in sorted(first_times(acts, "user").items())],
        items=[_item(item, ts, known) for item, ts in sorted(first_times(acts, "item").items())],
        acts=acts,
        refused=refused,
        reports=reports,
    )


def _properties(
    folder: Path, reports: dict[str, TableReport], refused: list[Refused]
) -> dict[tuple[str, str], str]:
    """The newest value of category and availability, by item and property."""
    parts = []
    for path in sorted(folder.glob("item_properties*.csv")):
        columns = ["timestamp", "itemid", "property", "value"]
        sheet: Sheet = read_sheet(path, NAME, "items", columns, ",", header={})
        sheet.rows = sheet.rows.filter(pl.col("property").is_in(["categoryid", "available"]))
        sheet.identified("itemid")
        sheet.number("timestamp", 0, LATEST, pl.Int64)
        sheet.refuse(
            (pl.col("property") == "available") & ~pl.col("value").is_in(["0", "1"]),
            "value: availability is 0 or 1",
            Failure.RANGE,
        )
        sheet.refuse(~pl.col("value").str.len_chars().is_between(1, 64), "value: empty or too long")
        reports[path.stem] = TableReport.of(sheet.read, sheet.refused)
        refused += sheet.refused
        parts.append(sheet.rows)
    if not parts:
        return {}
    newest = pl.concat(parts).sort("timestamp").unique(["itemid", "property"], keep="last")
    return {
        (item, name): value for item, name, value in newest.select("itemid", "property", "value").iter_rows()
    }


def _item(item: str, ts: int, known: dict[tuple[str, str], str]) -> Item:
    category = known.get((item[1:], "categoryid"))
    return Item(
        item_id=item,
        title=f"item {item[1:]}",
        category=f"category {category}" if category else "other",
        available=known.get((item[1:], "available"), "1") == "1",
        created_at=ts,
    )
