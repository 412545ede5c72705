"""The rollout: where it stands, and a person's word on it."""

from dataclasses import asdict
from getpass import getuser
from typing import Annotated

import typer

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.delivery import rollout as machine
from recloop.registry import connect, versions
from recloop.registry import promote as promote_version
from recloop.settings import places
from recloop.store import open_store

rollout = typer.Typer(no_args_is_help=True, help=__doc__)
Why = Annotated[str, typer.Option(help="The reason, kept with the transition.")]


@rollout.command()
def status(json_: AsJson = False) -> None:
    """The open rollout, if there is one."""
    found = machine.current(open_store(places().store))
    if json_:
        as_json(asdict(found) if found else None)
    elif found is None:
        print("no rollout is open")
    else:
        print(f"rollout {found.id}: {found.challenger} against {found.champion} is {found.state}")


@rollout.command()
def history(json_: AsJson = False) -> None:
    """Every transition: who, when, why."""
    rows = [asdict(step) for step in machine.transitions_of(open_store(places().store))]
    if json_:
        as_json(rows)
    else:
        as_table(rows, ["rollout_id", "source", "target", "who", "why"])


@rollout.command()
def promote(why: Why = "promoted by hand") -> None:
    """Make the challenger the champion, whatever the gates say."""
    where = places()
    engine = open_store(where.store)
    found = machine.current(engine) or stop("no rollout is open")
    try:
        machine.promote(engine, found.id, getuser(), why)
    except machine.Conflict as error:
        stop(str(error))
    client = connect(where)
    digest = found.challenger.rpartition("-")[2]
    for version in versions(client):
        if version.policy_sha256.startswith(digest):
            promote_version(client, version.version)
            break
    print(f"{found.challenger} is the champion")


@rollout.command()
def abort(why: Why = "aborted by hand") -> None:
    """Take the challenger's people away; the champion goes on."""
    engine = open_store(places().store)
    found = machine.current(engine) or stop("no rollout is open")
    try:
        machine.abort(engine, found.id, getuser(), why)
    except machine.Conflict as error:
        stop(str(error))
    print(f"rollout {found.id} is aborted; {found.champion} serves")


@rollout.command()
def rollback(why: Why = "rolled back by hand") -> None:
    """Give the people back to the champion before this one, whose slot still stands by."""
    try:
        found = machine.roll_back(open_store(places().store), getuser(), why)
    except machine.Conflict as error:
        stop(str(error))
    print(f"rollout {found.id} is rolled back; {found.champion} serves")
