"""KuaiRand and KuaiRec: what people of a short-video app watched, and for how long.

- **KuaiRand** (``log_standard_*.csv``, ``log_random_*.csv``): a row is a video that a policy put into a
  feed. A click, a "hate" (a dismissal) and the seconds of play are events. The policies are named by their
  scenario (``tab``); ``random`` are videos that were put in at random. Which rows were one slate, and the
  propensities, are not published: each row is a request of its own, partly known. Likes, follows, comments
  and shares have no kind here and are left out. Gao et al., CIKM 2022, doi 10.1145/3511808.3557624.
- **KuaiRec** (``big_matrix.csv``, ``small_matrix.csv``): a row is a video that a person watched, organic
  here. Watching it more than twice over is the click, as its authors define interest. Gao et al., CIKM
  2022, arXiv 2202.10842.
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recloop.intake.acts import ORGANIC, ActTable, first_times
from recloop.intake.sheet import Sheet, read_sheet
from recloop.intake.source import DatasetError, TableReport
from recloop.schema import Item, User
from recloop.store import Refused

LATEST = 4_102_444_800  # the year 2100 in seconds
LONGEST = 86_400_000  # ms of play
TWICE = 2.0  # times a video's length, above which a person is interested
DEGREES = ["user_active_degree", "follow_user_num_range", "fans_user_num_range", "register_days_range"]


def find_logs(folder: Path) -> tuple[str, list[Path]]:
    """The dataset's name and its logs, in the folder or its ``data``.

    Raises:
        DatasetError: there are none.
    """
    for root in (folder, folder / "data"):
        if logs := sorted([*root.glob("log_standard_*.csv"), *root.glob("log_random_*.csv")]):
            return "kuai-rand", logs
        if logs := [
            root / name for name in ("big_matrix.csv", "small_matrix.csv") if (root / name).is_file()
        ]:
            return "kuai-rec", logs
    raise DatasetError(
        f"{folder} holds no KuaiRand or KuaiRec: looked for log_standard_*.csv, log_random_*.csv,"
        " big_matrix.csv and small_matrix.csv, also in data"
    )


def read_kuai(folder: Path) -> ActTable:
    """Read and judge a folder of either.

    Raises:
        DatasetError: a file is missing, empty, truncated or of another dataset.
    """
    name, logs = find_logs(folder)
    sheets = [(_rand if name == "kuai-rand" else _rec)(path) for path in logs]
    acts = pl.concat([_keyed(sheet) for sheet in sheets])
    reports = {sheet.path.stem: sheet.report() for sheet in sheets}
    refused = [row for sheet in sheets for row in sheet.refused]
    root = logs[0].parent
    people = dict(_side(root, name, "user_features*.csv", "user_id", DEGREES, reports, refused))
    pattern, columns = ("video_features_basic*.csv", ["video_type", "tag"])
    if name == "kuai-rec":
        pattern, columns = "item_categories.csv", ["feat"]
    videos = dict(_side(root, name, pattern, "video_id", columns, reports, refused))
    return ActTable(
        name=name,
        users=[
            User(user_id=user, attributes=people.get(user[1:], {}), created_at=ts)
            for user, ts in sorted(first_times(acts, "user").items())
        ],
        items=[_video(item, ts, videos) for item, ts in sorted(first_times(acts, "item").items())],
        acts=acts,
        refused=refused,
        reports=reports,
    )


def _rand(path: Path) -> Sheet:
    columns = ["user_id", "video_id", "time_ms", "is_click", "is_hate", "play_time_ms", "is_rand", "tab"]
    sheet = read_sheet(path, "kuai-rand", path.stem[:16], columns, ",", header={})
    sheet.identified("user_id", "video_id", "tab")
    sheet.number("time_ms", 0, LATEST * 1000, pl.Int64)
    for flag in ("is_click", "is_hate", "is_rand"):
        sheet.number(flag, 0, 1, pl.Int8)
    sheet.number("play_time_ms", 0, LONGEST, pl.Float64)
    sheet.rows = sheet.rows.with_columns(
        ts=pl.col("time_ms") * 1000,
        policy=pl.when(pl.col("is_rand") == 1)
        .then(pl.lit("random"))
        .otherwise(pl.concat_str(pl.lit("tab-"), "tab")),
        click=pl.when(pl.col("is_click") == 1).then(1.0),
        dismiss=pl.when(pl.col("is_hate") == 1).then(1.0),
        dwell=_seconds("play_time_ms"),
    )
    return sheet


def _rec(path: Path) -> Sheet:
    columns = ["user_id", "video_id", "play_duration", "timestamp", "watch_ratio"]
    sheet = read_sheet(path, "kuai-rec", path.stem[:16], columns, ",", header={})
    sheet.identified("user_id", "video_id")
    sheet.number("timestamp", 0, LATEST, pl.Float64)
    sheet.number("play_duration", 0, LONGEST, pl.Float64)
    sheet.number("watch_ratio", 0, 1e6, pl.Float64)
    sheet.rows = sheet.rows.with_columns(
        ts=(pl.col("timestamp") * 1e6).round().cast(pl.Int64),
        policy=pl.lit(ORGANIC),
        click=pl.when(pl.col("watch_ratio") > TWICE).then(1.0),
        dismiss=pl.lit(None, pl.Float64),
        dwell=_seconds("play_duration"),
    )
    return sheet


def _seconds(column: str) -> pl.Expr:
    return pl.when(pl.col(column) > 0).then((pl.col(column) / 1000).round(3))


def _keyed(sheet: Sheet) -> pl.DataFrame:
    stem = sheet.path.stem.replace("_", "-")[-32:]
    return sheet.rows.select(
        pl.concat_str(pl.lit(f"{stem}-"), pl.col("line") - 2).alias("key"),
        pl.concat_str(pl.lit("u"), "user_id").alias("user"),
        pl.concat_str(pl.lit("v"), "video_id").alias("item"),
        *("ts", "policy", "click", "dismiss", "dwell"),
    )


def _side(
    root: Path,
    name: str,
    pattern: str,
    key: str,
    columns: list[str],
    reports: dict[str, TableReport],
    refused: list[Refused],
) -> Iterator[tuple[str, dict[str, str | float]]]:
    """What is published of people or videos, by their id: words of up to 128 characters."""
    for path in sorted(root.glob(pattern)):
        sheet = read_sheet(path, name, path.stem[:16], [key, *columns], ",", header={}, quoted=True)
        sheet.identified(key)
        sheet.once(key)
        for column in columns:
            sheet.refuse(pl.col(column).str.len_chars() > 128, f"{column}: above 128 characters")
        reports[path.stem] = TableReport.of(sheet.read, sheet.refused)
        refused += sheet.refused
        for row in sheet.rows.iter_rows(named=True):
            yield row[key], {column: row[column] for column in columns if row[column]}


def _video(item: str, ts: int, known: dict[str, dict[str, str | float]]) -> Item:
    attributes = dict(known.get(item[1:], {}))
    tags = str(attributes.pop("tag", attributes.pop("feat", ""))).strip("[]").replace(" ", "")
    if tags:
        attributes["tags"] = tags.replace(",", "|")
    return Item(
        item_id=item,
        title=f"video {item[1:]}",
        category=f"tag {tags.split(',')[0]}"[:64] if tags else "other",
        attributes=attributes,
        created_at=ts,
    )
