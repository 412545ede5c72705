"""``recloop ...``: run the system, look at it, and steer it."""

import typer

from recloop.cli import ablate, benchmark, data, doctor, experiment, rollout, search, system, token

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.command()(system.up)
app.command()(system.down)
app.command()(system.status)
app.command()(doctor.doctor)
app.command("import")(data.import_dataset)
app.command("search")(search.search_command)
app.command("ablate")(ablate.ablate_command)
app.add_typer(benchmark.benchmark, name="benchmark")
app.add_typer(data.data, name="data")
app.add_typer(data.quarantine, name="quarantine")
app.add_typer(experiment.experiment, name="experiment")
app.add_typer(rollout.rollout, name="rollout")
app.add_typer(token.token, name="token")
