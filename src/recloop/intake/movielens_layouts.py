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
        header = {"userId": "user", "movieId": "item", "timestamp": "ts"}
        columns = ["user", "item", "rating", "ts"]
        return read_sheet(folder / "ratings.csv", NAME, "ratings", columns, ",", header)

    def items() -> Sheet:
        columns, header = ["item", "title", "genres"], {"movieId": "item"}
        sheet = read_sheet(folder / "movies.csv", NAME, "items", columns, ",", header, quoted=True)
        sheet.rows = sheet.rows.with_columns(YEAR_IN_TITLE)
        return sheet

    return Layout(ratings, items, None)


def _recbole(inter: Path) -> Layout:
    def ratings() -> Sheet:
        header = {"user_id": "user", "item_id": "item", "timestamp": "ts"}
        return read_sheet(inter, NAME, "ratings", ["user", "item", "rating", "ts"], "\t", header)

    def items() -> Sheet:
        """The genres stand under ``class`` (ml-100k) or ``genre`` (ml-1m), parted by blanks."""
        columns = ["item", "title", "year", "genres"]
        header = {"item_id": "item", "movie_title": "title", "release_year": "year"}
        header |= {"genre": "genres", "class": "genres"}
        sheet = read_sheet(inter.with_suffix(".item"), NAME, "items", columns, "\t", header)
        year = pl.when(pl.col("year").str.contains(r"^\d{4}$")).then("year")
        dated = pl.concat_str("title", pl.lit(" ("), year, pl.lit(")"))
        sheet.rows = sheet.rows.with_columns(
            title=pl.coalesce(dated, "title"), year=year, genres=pl.col("genres").str.replace_all(" ", "|")
        )
        return sheet

    def users() -> Sheet:
        columns = ["user", "age", "sex", "occupation", "zip"]
        header = {"user_id": "user", "gender": "sex", "zip_code": "zip"}
        return read_sheet(inter.with_suffix(".user"), NAME, "users", columns, "\t", header)

    return Layout(ratings, items, users)
