"""Master keys of personal data: which there are, and their rotation."""

import typer

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.settings import places
from recloop.store.keys import KeyFile
from recloop.store.vault import open_vault

key = typer.Typer(no_args_is_help=True, help=__doc__)


@key.command()
def status(json_: AsJson = False) -> None:
    """How many persons' keys are wrapped under each master key."""
    vault = open_vault(places())
    rows = [
        {"version": version, "persons": count, "current": version == vault.keys.current}
        for version, count in sorted({vault.keys.current: 0, **vault.held()}.items())
    ]
    if json_:
        as_json(rows)
    else:
        as_table(rows, ["version", "persons", "current"])


@key.command()
def rotate() -> None:
    """Make a new master key, where a file holds them, and wrap all persons' keys under it, while all goes on.

    What was stopped goes on: it makes no further key while the last one is not everywhere yet.
    """
    where = places()
    vault = open_vault(where)
    if _in_file() and not set(vault.held()) - {vault.keys.current}:
        KeyFile(where.keys).add()
    count = vault.rewrap()
    print(f"{count:,} persons' keys are under {vault.keys.current} now; older master keys may be retired")


@key.command()
def retire(version: str) -> None:
    """Destroy a master key of the file, under which nothing is left."""
    where = places()
    vault = open_vault(where)
    if not _in_file():
        stop("the master keys are not in a file: take it away where they are")
    if left := vault.held().get(version, 0):
        stop(f"{left:,} persons' keys are under {version}: run `recloop key rotate` first")
    KeyFile(where.keys).remove(version)
    print(f"{version} is destroyed; copies of the key file in backups still have it")


def _in_file() -> bool:
    where = places()
    return not where.kms and not where.master_keys.get_secret_value()
