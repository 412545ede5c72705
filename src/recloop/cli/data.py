"""Data: import tables and datasets, advance the watermark."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.cli.sources import take_in
from recloop.intake import DatasetError
from recloop.intake.match import link, merged, read_rows
from recloop.intake.readers import READERS
from recloop.intake.relink import relink as rename
from recloop.schema import Event
from recloop.schema.versions import VERSION, added, breaking
from recloop.settings import load_params, places
from recloop.store import open_store
from recloop.store.data_versions import DataVersion, data_versions
from recloop.store.snapshot import Watermark, count_rows, watermark
from recloop.store.tables import events, impressions

MARK = Path("data/watermark.json")
SHOWN = 20  # conflicts
data = typer.Typer(no_args_is_help=True, help="The log: how far it has come, and new data versions.")


def import_dataset(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(READERS)}.")],
    path: Annotated[Path, typer.Argument(help="The file, or the dataset's folder as it is published.")],
    json_: AsJson = False,
) -> None:
    """Read a table of one's own (people, impressions, events), a log or a public dataset into the store."""
    if kind not in READERS:
        stop(f"{kind!r} is nothing that is known. Known: {', '.join(READERS)}")
    try:
        source = READERS[kind](path)
    except DatasetError as error:
        stop(str(error))
    take_in(source, json_)


@data.command()
def mark(json_: AsJson = False) -> None:
    """Advance the watermark: the next `dvc repro` sees everything that is in the store now."""
    engine = open_store(places().store)
    now = watermark(engine)
    before = Watermark.load(MARK) if MARK.exists() else None
    now.save(MARK)
    past = before.impressions if before and before.source == now.source else 0
    new = count_rows(engine, impressions, past, now.impressions)
    if json_:
        as_json({"watermark": asdict(now), "new_impressions": new})
    else:
        print(f"{new} new impressions; now run `dvc repro`")


@data.command()
def schema(
    against: Annotated[Path | None, typer.Option(help="A sender's JSON Schema of an act.")] = None,
    json_: AsJson = False,
) -> None:
    """The JSON Schema of an act; or what a sender's takes that is refused here, field by field."""
    ours = Event.model_json_schema() | {"version": ".".join(map(str, VERSION))}
    if against is None:
        as_json(ours)
        return
    try:
        theirs = json.loads(against.read_text())
        more = added(ours, theirs)
        shared = {name: field for name, field in theirs["properties"].items() if name not in more}
        broken = breaking(theirs | {"properties": shared}, ours)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        stop(f"{against} is no JSON Schema of an object: {error}")
    if json_:
        as_json({"breaks": broken, "kept as extra": more})
    elif not broken:
        print(f"all of it is taken; kept as extra: {', '.join(more) or 'nothing'}")
    if broken:
        stop("\n".join(broken))


@data.command()
def match(
    what: Annotated[str, typer.Argument(help="people or items")],
    files: Annotated[list[Path], typer.Argument(help="A source each, the leading one first.")],
    out: Annotated[Path, typer.Option(help="Where to write whose record is whom, as CSV.")] = Path(
        "links.csv"
    ),
    merge: Annotated[
        Path | None, typer.Option(help="Where to write each of them once, as JSON lines.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Which records of several sources are the same person or item, by the rules of params.yaml."""
    keys, rules = {"people": "user_id", "items": "item_id"}, load_params().integration
    if what not in keys:
        stop(f"{what!r} is neither people nor items")
    sources = [file.stem for file in files]
    if len(set(sources)) < len(sources):
        stop(f"sources are named after their files, and two have the same name: {', '.join(sources)}")
    try:
        rows = [row for i, file in enumerate(files) for row in read_rows(file, i, keys[what])]
    except DatasetError as error:
        stop(str(error))
    declared = getattr(rules, what)
    links = link(sources, rows, declared, rules.calling_code, rules.most)
    told = {name for row in rows for name in row.columns}
    untold = sorted({name for rule in declared for name in rule} - told)
    links.save(out)
    if merge:
        lines = (json.dumps(row, ensure_ascii=False) for row in merged(rows, links, sources, keys[what]))
        merge.write_text("".join(f"{line}\n" for line in lines))
    if json_:
        shown = {"rules": {name: asdict(each) for name, each in links.rules.items()}}
        counts = {"matched": links.matched, "alone": links.alone, "conflicts": links.conflicts}
        as_json(shown | counts | {"in no record": untold})
        return
    table = [{"rule": name, **asdict(each)} for name, each in links.rules.items()]
    as_table(
        table, list(table[0]), f"{links.matched:,} records are one with another, {links.alone:,} with none"
    )
    for rule, one, two in links.conflicts[:SHOWN]:
        print(f"apart in spite of {rule}: {':'.join(one)} and {':'.join(two)}")
    for name in untold:
        print(f"no record has {name}, which integration.{what} in params.yaml names: that rule said nothing")


@data.command()
def relink(
    events: Annotated[Path, typer.Argument(help="A source's events: CSV, Parquet or JSON lines.")],
    source: Annotated[str, typer.Option(help="The source's name in the links.")],
    out: Annotated[Path, typer.Option(help="Where to write them.")],
    people: Annotated[Path | None, typer.Option(help="Links of people, from `recloop data match`.")] = None,
    items: Annotated[Path | None, typer.Option(help="Links of items.")] = None,
    json_: AsJson = False,
) -> None:
    """Give a source's events the names that `match` gave to its people and items."""
    links = {key: path for key, path in (("user_id", people), ("item_id", items)) if path}
    if not links:
        stop("name --people, --items or both: without links nothing is renamed")
    try:
        rows = rename(events, source, links, out)
    except DatasetError as error:
        stop(str(error))
    if json_:
        as_json({"rows": rows})
    else:
        print(f"{rows:,} rows in {out}")


@data.command()
def log(json_: AsJson = False) -> None:
    """What each data version added, and what the store holds that none has yet."""
    engine = open_store(places().store)
    now = watermark(engine)
    seen = Watermark.load(MARK) if MARK.exists() else None
    rows = []
    for table in (impressions, events):
        name = table.name
        marked = min(getattr(seen, name), getattr(now, name)) if seen and seen.source == now.source else 0
        held = count_rows(engine, table, 0, marked)
        more = count_rows(engine, table, marked, getattr(now, name))
        rows.append({"table": name, "in the store": held + more, "in the data version": held})
    made = data_versions(places().home)
    if json_:
        as_json({"source": now.source, "tables": rows, "versions": [asdict(one) for one in made]})
        return
    as_table(rows, list(rows[0]), f"source: {now.source}")
    if made:
        as_table(map(_added, made), list(_added(made[-1])), "what each data version added, oldest first")


def _added(one: DataVersion) -> dict[str, str]:
    more = {table: f"{count:+,}" if count else "" for table, count in one.added.items()}
    return {
        "version": one.version[:8],
        "made": one.made,
        **more,
        "new files": f"{one.written} of {one.parts}",
    }
