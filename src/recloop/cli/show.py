"""How commands answer: a table for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
console = Console()


def as_json(content: object) -> None:
    """Print JSON."""
    print(json.dumps(content, indent=1, ensure_ascii=False, default=str))


def as_table(rows: Iterable[Mapping], columns: list[str], title: str = "") -> None:
    """Print rows as a table; a missing value stays empty."""
    table = Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in columns))
    console.print(table)


def stop(message: str) -> NoReturn:
    """End with a message on standard error and exit status 1."""
    Console(stderr=True).print(message, style="red", markup=False, highlight=False)
    raise typer.Exit(1)
