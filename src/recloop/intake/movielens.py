"""MovieLens as GroupLens publishes it, and as RecBole's atomic files.

A rating becomes an organic impression (a person met the item; no policy chose it, so there is no
propensity) and the event that answers it. Of the zip code only the first digit is kept as the
region: with age and sex it is still a quasi-identifier, so it stays as coarse as it can be.

Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recloop.intake.movielens_layouts import NAME, find_layout
from recloop.intake.sheet import Sheet
from recloop.intake.source import ROWS_AT_ONCE, Batch, TableReport
from recloop.schema import Event, EventKind, Failure, Impression, Item, User
from recloop.store import Refused

LATEST = 4_102_444_800  # the year 2100 in seconds: above it, a time is in another unit


@dataclass
class MovieLens:
    """A MovieLens folder that has been read and judged; see ``read_movielens``."""

    users: pl.DataFrame
    items: pl.DataFrame
    ratings: pl.DataFrame
    refused: list[Refused]
    reports: dict[str, TableReport]
    name: str = NAME

    @property
    def size(self) -> int:
        """Users, items, and an impression and an event per rating."""
        return len(self.users) + len(self.items) + 2 * len(self.ratings)

    def tables(self) -> Mapping[str, TableReport]:
        """Rows read, kept and quarantined of users (where published), items and ratings."""
        return self.reports

    def batches(self) -> Iterator[Batch]:
        """First people, items and refusals, then the ratings in the order of time."""
        yield Batch(
            users=[_user(row) for row in self.users.iter_rows(named=True)],
            items=[_item(row) for row in self.items.iter_rows(named=True)],
            refused=self.refused,
        )
        for part in self.ratings.iter_slices(ROWS_AT_ONCE):
            impressions, events = [], []
            for user, item, rating, ts in part.iter_rows():
                key, ts = f"{user}-{item}-{ts}", ts * 1_000_000
                user_id, item_id = f"u{user}", f"i{item}"
                impressions.append(
                    Impression(
                        request_id=f"r{key}",
                        position=0,
                        user_id=user_id,
                        item_id=item_id,
                        propensity=None,
                        policy="organic",
                        ts=ts,
                    )
                )
                events.append(
                    Event(
                        event_id=f"e{key}",
                        user_id=user_id,
                        item_id=item_id,
                        kind=EventKind.RATING,
                        value=rating,
                        request_id=f"r{key}",
                        ts=ts,
                    )
                )
            yield Batch(impressions=impressions, events=events)


def read_movielens(folder: Path) -> MovieLens:
    """Read and judge a folder: ml-100k, ml-1m, ml-20m and later ones, or RecBole's atomic files.

    Raises:
        DatasetError: the folder or a file is missing, empty, truncated, or not a MovieLens file.
    """
    layout = find_layout(folder)
    ratings, items = layout.ratings(), layout.items()
    users = layout.users() if layout.users else None
    _judge_items(items)
    _judge_ratings(ratings)
    strange = ~pl.col("item").is_in(items.rows["item"].implode())
    ratings.refuse(strange, "item: not among the items kept", Failure.REFERENCE)
    if users:
        _judge_users(users)
        strange = ~pl.col("user").is_in(users.rows["user"].implode())
        ratings.refuse(strange, "user: not among the people kept", Failure.REFERENCE)
    sheets = {sheet.table: sheet for sheet in (users, items, ratings) if sheet}
    reports = {name: sheet.report() for name, sheet in sheets.items()}
    acts = ratings.rows.select("user", "item", "rating", "ts").sort("ts", "user", "item")
    people = users.rows if users else acts.select("user").unique(maintain_order=True)
    return MovieLens(
        users=_with_first_time(people, acts, "user"),
        items=_with_first_time(items.rows, acts, "item"),
        ratings=acts,
        refused=[row for sheet in sheets.values() for row in sheet.refused],
        reports=reports,
    )


def _judge_items(sheet: Sheet) -> None:
    sheet.identified("item")
    sheet.once("item")
    sheet.refuse(~pl.col("title").str.len_chars().is_between(1, 500), "title: empty or above 500 characters")
    first = pl.col("genres").str.split("|").list.first().str.len_chars()
    sheet.refuse((pl.col("genres").str.len_chars() > 128) | (first > 64), "genres: too long")
    year = pl.col("year").cast(pl.Int32, strict=False)
    sheet.rows = sheet.rows.with_columns(pl.when(year.is_between(1870, 2100)).then(year).alias("year"))


def _judge_users(sheet: Sheet) -> None:
    sheet.identified("user")
    sheet.once("user")
    sheet.number("age", 0, 120, pl.Int32)
    sheet.refuse(~pl.col("sex").is_in(["M", "F"]), "sex: neither M nor F")
    sheet.refuse(pl.col("occupation").str.len_chars() > 128, "occupation: above 128 characters")


def _judge_ratings(sheet: Sheet) -> None:
    sheet.identified("user", "item")
    sheet.number("rating", 0.5, 5, pl.Float64)
    sheet.number("ts", 0, LATEST, pl.Float64)
    sheet.rows = sheet.rows.with_columns(pl.col("ts").cast(pl.Int64))
    sheet.once("user", "item", "ts")


def _with_first_time(rows: pl.DataFrame, acts: pl.DataFrame, key: str) -> pl.DataFrame:
    first = acts.group_by(key).agg(first=pl.col("ts").min() * 1_000_000)
    return rows.join(first, on=key, how="left", maintain_order="left").with_columns(
        pl.col("first").fill_null(0)
    )


def _user(row: dict) -> User:
    zip_code = row.get("zip")
    region = None
    if zip_code:
        region = zip_code[0] if zip_code[0].isdigit() else "other"
    return User(
        user_id=f"u{row['user']}",
        age=row.get("age"),
        sex=row.get("sex"),
        region=region,
        attributes={"occupation": row["occupation"]} if row.get("occupation") else {},
        created_at=row["first"],
    )


def _item(row: dict) -> Item:
    attributes: dict[str, str | float] = {"genres": row["genres"]}
    if row["year"] is not None:
        attributes["year"] = float(row["year"])
    return Item(
        item_id=f"i{row['item']}",
        title=row["title"],
        category=row["genres"].split("|")[0],
        attributes=attributes,
        created_at=row["first"],
    )
