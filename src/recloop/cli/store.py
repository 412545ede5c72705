"""The store: its version."""

import typer

from recloop.cli.show import AsJson, as_json
from recloop.settings import places
from recloop.store import upgrade_store

store = typer.Typer(no_args_is_help=True, help=__doc__)


@store.callback()
def _group() -> None:
    """The store: its version."""


@store.command()
def upgrade(json_: AsJson = False) -> None:
    """Bring the store to this program's version, all or nothing. Make a backup first."""
    before, after = upgrade_store(places().store)
    if json_:
        as_json({"before": before, "after": after})
    elif before == after:
        print(f"the store has version {after} already")
    else:
        print(f"the store has version {after} now; it had {before or 'none'}")
