"""Sources that go on: a server's log, and another service's API; both from where they were left."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from recloop.cli.show import AsJson, as_json, stop
from recloop.intake import DatasetError, Source, SourceConflict, import_into
from recloop.intake.follow import FollowedLog
from recloop.intake.follow import cursor_of as cursor_of_log
from recloop.intake.pull import Api, Pulled, cursor_of
from recloop.settings import load_params, places
from recloop.store import open_store
from recloop.store.cursors import find_cursor
from recloop.store.vault import open_vault

EVERY = 1.0  # seconds between two looks at a log


def follow(
    path: Annotated[Path, typer.Argument(help="The file that the server writes to.")],
    once: Annotated[bool, typer.Option("--once", help="Read what is there, and end.")] = False,
    json_: AsJson = False,
) -> None:
    """Follow a server's log through its rotations until Ctrl-C; the next call goes on where this one ends."""
    engine, over = open_store(places().store), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    place = find_cursor(engine, cursor_of_log(path))
    try:
        source = FollowedLog(path, place, None if once else lambda: not over.wait(EVERY))
    except DatasetError as error:
        stop(str(error))
    take_in(source, json_)


def pull(
    url: Annotated[str, typer.Argument(help="The first page, with its fixed parameters.")],
    name: Annotated[str, typer.Option(help="What its cursor is called; another name begins anew.")] = "api",
    records: Annotated[str, typer.Option(help="Where a page holds its list, as data.events.")] = "events",
    following: Annotated[str, typer.Option("--next", help="Where a page holds the next cursor.")] = "next",
    newest: Annotated[str, typer.Option(help="Without one: a record's field that grows.")] = "",
    param: Annotated[str, typer.Option(help="The query parameter that takes the cursor.")] = "cursor",
    field: Annotated[list[str] | None, typer.Option(help="theirs=ours; once for each field.")] = None,
    json_: AsJson = False,
) -> None:
    """Take what is new from another service's API. RECLOOP_PULL_TOKEN is sent as a bearer token."""
    if wrong := [pair for pair in field or () if pair.count("=") != 1]:
        stop(f"--field is theirs=ours, not {wrong[0]!r}")
    fields = dict(pair.split("=") for pair in field or ())
    token = os.environ.get("RECLOOP_PULL_TOKEN", "")
    api = Api(name, url, records, "" if newest else following, newest, param, fields, token)
    take_in(Pulled(api, find_cursor(open_store(places().store), cursor_of(name))), json_)


def take_in(source: Source, json_: bool) -> None:
    """Read a source into the store, and tell what became of its rows."""
    where, terms = places(), load_params().privacy.terms.model_dump()
    name = open_vault(where).behind_the_door if where.accounts else str
    try:
        report = import_into(open_store(where.store), source, not json_, terms, name)
    except (DatasetError, SourceConflict) as error:
        stop(str(error))
    if json_:
        as_json(report.to_dict())
    else:
        print(report)
