"""What was refused at the door: look at it, repair it, let it in."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.intake.replay import ReplayError, replay
from recloop.intake.traffic import Rules
from recloop.schema import Failure
from recloop.settings import load_params, places
from recloop.store import open_store
from recloop.store.quarantine import Held, count_held, find_held, held
from recloop.store.vault import open_vault

quarantine = typer.Typer(no_args_is_help=True, help=__doc__)
AT_ONCE = 1000
OfFailure = Annotated[Failure | None, typer.Option("--failure", help="Only rows that failed in this way.")]
OfSource = Annotated[str | None, typer.Option("--source", help="Only rows of this source.")]


@quarantine.command("list")
def list_(
    limit: Annotated[int, typer.Option(help="Newest rows to show.")] = 20,
    before: Annotated[int | None, typer.Option(help="Only rows with a smaller id: the next page.")] = None,
    failure: OfFailure = None,
    source: OfSource = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only rows that were not let in yet.")] = False,
    json_: AsJson = False,
) -> None:
    """The newest rows that were refused, and how many there are of each failure."""
    engine = open_store(places().store)
    rows = [_shown(row) for row in held(engine, limit, before, failure, source, waiting)]
    if json_:
        as_json(rows)
        return
    as_table(rows, ["id", "refused", "source", "kind", "failure", "seen", "reason", "let in"])
    names = ("source", "failure", "rows", "waiting")
    as_table([dict(zip(names, line, strict=True)) for line in count_held(engine)], list(names), "\nin all")


@quarantine.command()
def show(number: Annotated[int, typer.Argument(help="The row's id.")], json_: AsJson = False) -> None:
    """One row: why it was refused, and its body as it came."""
    row = _shown(_find(number))
    if json_:
        as_json(row)
        return
    for name, value in row.items():
        print(f"{name}: {json.dumps(value, indent=1, ensure_ascii=False) if name == 'body' else value or ''}")


@quarantine.command("replay")
def replay_(
    numbers: Annotated[list[int] | None, typer.Argument(help="Ids of rows.")] = None,
    body: Annotated[str, typer.Option(help="File with the repaired body of one row; - : stdin.")] = "",
    failure: OfFailure = None,
    source: OfSource = None,
    any_age: Annotated[bool, typer.Option("--any-age", help="However old they were when they came.")] = False,
    json_: AsJson = False,
) -> None:
    """Let rows in that are fit now: by id, or all that wait of a failure or source. Again adds nothing."""
    engine = open_store(places().store)
    if bool(numbers) == bool(failure or source):
        stop("name the rows: ids, or --failure or --source for all that wait")
    if body and len(numbers or ()) != 1:
        stop("--body repairs one row: give one id")
    repaired = _read(body) if body else None
    where, terms = places(), load_params().privacy.terms.model_dump()
    name = open_vault(where).behind_the_door if where.accounts else str
    rules = Rules(where.internal)
    rows = [_find(number) for number in numbers] if numbers else _waiting(failure, source)
    added, left = 0, {}
    for row in tqdm(rows, unit="rows", mininterval=1, disable=json_ or len(rows) < 2):
        try:
            added += replay(engine, row, repaired, any_age, terms, name, rules)
        except ReplayError as error:
            left[row.id] = str(error)
    if json_:
        as_json({"rows": len(rows), "added": added, "left": left})
    else:
        print(f"{len(rows) - len(left)} of {len(rows)} rows are in; {added} acts were new")
    if left:
        stop("\n".join(list(left.values())[:20]))


def _find(number: int) -> Held:
    row = find_held(open_store(places().store), number)
    if row is None:
        stop(f"there is no row {number} in quarantine: see `recloop quarantine list`")
    return row


def _waiting(failure: str | None, source: str | None) -> list[Held]:
    engine, before, found = open_store(places().store), None, []
    while part := held(engine, AT_ONCE, before, failure, source, waiting=True):
        found += part
        before = part[-1].id
    return found[::-1]


def _read(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        stop(f"cannot read the repaired body {path}: {error}")


def _shown(row: Held) -> dict:
    """A row as people and programs read it."""
    found = asdict(row)
    replayed = found.pop("replayed")
    return found | {
        "refused": _moment(found.pop("ts")),
        "let in": replayed and _moment(replayed),
        "body": _parsed(row.body),
    }


def _moment(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
