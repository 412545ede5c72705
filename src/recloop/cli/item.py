"""Items: what is offered, searched, changed and taken away; and what each was before."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlalchemy import Engine

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.intake import DatasetError
from recloop.intake.items import import_items, reason_of
from recloop.schema import Item, now_us
from recloop.settings import places
from recloop.store import add_items, find_items, open_store, remove_items, search_items, versions_of

item = typer.Typer(no_args_is_help=True, help="The catalogue: what is offered, and what it was before.")
SHOWN = ["item_id", "title", "category", "price", "available"]
Id = Annotated[str, typer.Argument(help="The item's id.")]
Category = Annotated[str | None, typer.Option(help="Only of this category.")]
After = Annotated[str, typer.Option(help="Go on after this id.")]
Limit = Annotated[int, typer.Option(min=1, help="So many at most.")]


@item.command("list")
def list_(category: Category = None, after: After = "", limit: Limit = 20, json_: AsJson = False) -> None:
    """Items in the order of their ids."""
    _show(search_items(open_store(places().store), None, category, after, limit), json_)


@item.command()
def search(
    words: Annotated[str, typer.Argument(help="All of them must be there, or begin a word that is.")],
    category: Category = None,
    after: After = "",
    limit: Limit = 20,
    json_: AsJson = False,
) -> None:
    """Items by words of title, category, text and attributes."""
    _show(search_items(open_store(places().store), words, category, after, limit), json_)


@item.command()
def show(item_id: Id) -> None:
    """One item, as JSON."""
    as_json(_one(item_id).model_dump())


@item.command()
def put(
    item_id: Id,
    title: Annotated[str | None, typer.Option(help="A new item needs one.")] = None,
    category: Annotated[str | None, typer.Option()] = None,
    price: Annotated[float | None, typer.Option()] = None,
    available: Annotated[bool | None, typer.Option("--available/--sold-out")] = None,
    text: Annotated[str | None, typer.Option(help="A description.")] = None,
    image: Annotated[str | None, typer.Option(help="A picture's http(s) address; not fetched.")] = None,
    attributes: Annotated[str | None, typer.Option(help="A JSON object of words and numbers.")] = None,
) -> None:
    """Add an item, or change what is given of one; a removed one comes back as it was."""
    given: dict[str, object] = {
        "title": title, "category": category, "price": price, "available": available, "text": text,
        "image": image,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    engine = open_store(places().store)
    try:
        if attributes is not None:
            given["attributes"] = json.loads(attributes)
        offer = Item.model_validate(_before(engine, item_id) | given)
    except ValidationError as error:
        stop(reason_of(error))
    except ValueError as error:
        stop(f"attributes: no JSON object: {error}")
    done = add_items(engine, [offer], born=now_us())
    print(f"{item_id} is " + ("new" if done.new else "changed" if done.changed else "as it was"))


@item.command()
def remove(item_ids: Annotated[list[str], typer.Argument(help="Ids.")]) -> None:
    """Take items out of the catalogue. The log and their versions stay."""
    gone = remove_items(open_store(places().store), item_ids)
    print(f"{gone} of {len(set(item_ids))} items were there and are removed")
    if not gone:
        raise typer.Exit(1)


@item.command()
def versions(item_id: Id, json_: AsJson = False) -> None:
    """What an item was, from when on; oldest first."""
    found = versions_of(open_store(places().store), item_id)
    if not found:
        stop(_unknown(item_id))
    rows = [{"from": _moment(v.ts), "removed": v.removed, **v.item.model_dump()} for v in found]
    if json_:
        as_json(rows)
    else:
        as_table(rows, ["from", *SHOWN[1:], "removed"], item_id)


@item.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file with the fields of items.")],
    json_: AsJson = False,
) -> None:
    """Put many items; rows that are none are quarantined with their reason."""
    try:
        report = import_items(open_store(places().store), file, progress=not json_)
    except DatasetError as error:
        stop(str(error))
    put, refused = report.put, report.reasons
    if json_:
        as_json({"read": report.read, **asdict(put), "refused": refused})
        return
    print(f"{report.read:,} rows: {put.new:,} new, {put.changed:,} changed, {put.same:,} the same")
    for why, count in refused.most_common(10):
        print(f"  {count:,} quarantined: {why}")


def _before(engine: Engine, item_id: str) -> dict[str, object]:
    """What there is of the item, or was before it was removed."""
    offered = [version.item for version in versions_of(engine, item_id) if not version.removed]
    found = find_items(engine, [item_id]) or offered[-1:]
    return found[0].model_dump() if found else {"item_id": item_id}


def _one(item_id: str) -> Item:
    found = find_items(open_store(places().store), [item_id])
    if not found:
        stop(_unknown(item_id))
    return found[0]


def _unknown(item_id: str) -> str:
    return f"there is no item {item_id!r}: `recloop item search` finds ids by words"


def _moment(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1e6, UTC).isoformat(timespec="milliseconds")


def _show(found: list[Item], json_: bool) -> None:
    if json_:
        as_json([one.model_dump() for one in found])
    else:
        as_table([one.model_dump() for one in found], SHOWN)
