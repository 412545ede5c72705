"""Where each published form of MovieLens keeps what: every layout gives the same three sheets.

ratings: ``user``, ``item``, ``rating``, ``ts`` (seconds); items: ``item``, ``title`` (with its year),
``year``, ``genres`` (parted by ``|``); users: ``user``, ``age``, ``sex``, ``occupation``, ``zip``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recloop.intake.sheet import Sheet, read_sheet
from recloop.intake.source import DatasetError

NAME = "movielens"
# The order of the flags in u.item.
# fmt: off
GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller",
    "War", "Western",
]
# fmt: on
# The codes of ml-1m's README.
# fmt: off
OCCUPATIONS = [
    "other", "educator", "artist", "clerical", "student", "customer service", "doctor", "executive",
    "farmer", "homemaker", "K-12 student", "lawyer", "programmer", "retired", "sales", "scientist",
    "self-employed", "technician", "tradesman", "unemployed", "writer",
]
# fmt: on
YEAR_IN_TITLE = pl.col("title").str.extract(r"\((\d{4})\)\s*$").alias("year")


@dataclass(frozen=True)
class Layout:
    """How to read one form; ``users`` is None where nothing is published about people."""

    ratings: Callable[[], Sheet]
    items: Callable[[], Sheet]
    users: Callable[[], Sheet] | None


def find_layout(folder: Path) -> Layout:
    """The layout of a folder, told by the name of its ratings file.

    Raises:
        DatasetError: no such folder, or none of the known ratings files in it.
    """
    if not folder.is_dir():
        raise DatasetError(f"no folder {folder}: give the folder that holds MovieLens's files")
    if (folder / "u.data").exists():
        return _ml_100k(folder)
    if (folder / "ratings.dat").exists():
        return _ml_1m(folder)
    if (folder / "ratings.csv").exists():
        return _ml_csv(folder)
    atomic = sorted(folder.glob("*.inter"))
    if len(atomic) == 1:
        return _recbole(atomic[0])
    found = ", ".join(sorted(p.name for p in folder.iterdir())[:12]) or "nothing"
    raise DatasetError(
        f"{folder} holds no MovieLens: looked for u.data (ml-100k), ratings.dat (ml-1m), ratings.csv"
        f" (ml-20m and later) or one *.inter (RecBole), found {found}"
    )


def _ml_100k(folder: Path) -> Layout:
    def ratings() -> Sheet:
        return read_sheet(folder / "u.data", NAME, "ratings", ["user", "item", "rating", "ts"], "\t")

    def items() -> Sheet:
        columns = ["item", "title", "released", "video", "url", *GENRES]
        sheet = read_sheet(folder / "u.item", NAME, "items", columns, "|", encoding="latin-1")
        flags = pl.concat_list([pl.when(pl.col(g) == "1").then(pl.lit(g)) for g in GENRES])
        sheet.rows = sheet.rows.with_columns(YEAR_IN_TITLE, genres=flags.list.drop_nulls().list.join("|"))
        return sheet

    def users() -> Sheet:
        return read_sheet(folder / "u.user", NAME, "users", ["user", "age", "sex", "occupation", "zip"], "|")

    return Layout(ratings, items, users)


def _ml_1m(folder: Path) -> Layout:
    def ratings() -> Sheet:
        return read_sheet(folder / "ratings.dat", NAME, "ratings", ["user", "item", "rating", "ts"], "::")

    def items() -> Sheet:
        columns = ["item", "title", "genres"]
        sheet = read_sheet(folder / "movies.dat", NAME, "items", columns, "::", encoding="latin-1")
        sheet.rows = sheet.rows.with_columns(YEAR_IN_TITLE)
        return sheet

    def users() -> Sheet:
        """Ages are published as brackets: the lower edge stands for each, 17 for "under 18"."""
        columns = ["user", "sex", "age", "occupation", "zip"]
        sheet = read_sheet(folder / "users.dat", NAME, "users", columns, "::")
        names = {str(code): name for code, name in enumerate(OCCUPATIONS)}
        sheet.rows = sheet.rows.with_columns(
            pl.col("age").replace({"1": "17"}), pl.col("occupation").replace(names)
        )
        return sheet

    return Layout(ratings, items, users)


def _ml_csv(folder: Path) -> Layout:
    def ratings() -> Sheet:
        columns = ["userId", "movieId", "rating", "timestamp"]
        sheet = read_sheet(folder / "ratings.csv", NAME, "ratings", columns, ",", header=True)
        sheet.rows = sheet.rows.rename({"userId": "user", "movieId": "item", "timestamp": "ts"})
        return sheet

    def items() -> Sheet:
        columns = ["movieId", "title", "genres"]
        sheet = read_sheet(folder / "movies.csv", NAME, "items", columns, ",", header=True, quoted=True)
        sheet.rows = sheet.rows.rename({"movieId": "item"}).with_columns(YEAR_IN_TITLE)
        return sheet

    return Layout(ratings, items, None)


def _recbole(inter: Path) -> Layout:
    def ratings() -> Sheet:
        columns = ["user_id", "item_id", "rating", "timestamp"]
        sheet = read_sheet(inter, NAME, "ratings", columns, "\t", header=True)
        sheet.rows = sheet.rows.rename({"user_id": "user", "item_id": "item", "timestamp": "ts"})
        return sheet

    def items() -> Sheet:
        columns = ["item_id", "movie_title", "release_year", "class"]
        sheet = read_sheet(inter.with_suffix(".item"), NAME, "items", columns, "\t", header=True)
        year = pl.when(pl.col("release_year").str.contains(r"^\d{4}$")).then(pl.col("release_year"))
        title = (
            pl.when(year.is_null())
            .then("movie_title")
            .otherwise(pl.concat_str("movie_title", pl.lit(" ("), year, pl.lit(")")))
        )
        sheet.rows = sheet.rows.select(
            "line",
            "text",
            pl.col("item_id").alias("item"),
            title.alias("title"),
            year.alias("year"),
            pl.col("class").str.split(" ").list.join("|").alias("genres"),
        )
        return sheet

    def users() -> Sheet:
        columns = ["user_id", "age", "gender", "occupation", "zip_code"]
        sheet = read_sheet(inter.with_suffix(".user"), NAME, "users", columns, "\t", header=True)
        sheet.rows = sheet.rows.rename({"user_id": "user", "gender": "sex", "zip_code": "zip"})
        return sheet

    return Layout(ratings, items, users)
