"""``recloop ...``: run the system, look at it, and steer it."""

from typing import Any

import typer
from typer.core import TyperGroup

from recloop.cli import (
    ablate,
    alert,
    benchmark,
    data,
    doctor,
    experiment,
    item,
    key,
    person,
    quarantine,
    rollout,
    search,
    sources,
    store,
    system,
    token,
    watch,
)
from recloop.cli.show import stop
from recloop.store import StoreError


class Commands(TyperGroup):
    """Whatever needs the store ends with a sentence where it cannot be used."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except StoreError as error:
            stop(str(error))


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False
)
app.command()(system.up)
app.command()(system.down)
app.command()(system.status)
app.command()(doctor.doctor)
app.command("import")(data.import_dataset)
app.command()(sources.follow)
app.command()(sources.pull)
app.command("search")(search.search_command)
app.command("ablate")(ablate.ablate_command)
app.add_typer(alert.alert, name="alert")
app.add_typer(benchmark.benchmark, name="benchmark")
app.add_typer(data.data, name="data")
app.add_typer(quarantine.quarantine, name="quarantine")
app.add_typer(experiment.experiment, name="experiment")
app.add_typer(item.item, name="item")
app.add_typer(key.key, name="key")
app.add_typer(person.person, name="person")
app.add_typer(rollout.rollout, name="rollout")
app.add_typer(store.store, name="store")
app.add_typer(token.token, name="token")
app.add_typer(watch.watch, name="watch")
