"""Watching: the store's figures for Prometheus."""

from pathlib import Path
from typing import Annotated

import typer

from recloop.cli.show import stop
from recloop.settings import ParamsError, load_params, places
from recloop.settings.tokens import LOOPBACK
from recloop.store import open_store
from recloop.watch.exporter import serve

watch = typer.Typer(no_args_is_help=True, help=__doc__)


@watch.callback()
def _group() -> None:
    """Watching: the store's figures for Prometheus."""


@watch.command()
def exporter(
    host: Annotated[str, typer.Option(help="Address to listen on: there is no token.")] = LOOPBACK[0],
    port: Annotated[int, typer.Option(min=0, max=65535)] = 9105,
    every: Annotated[float, typer.Option(min=1, help="Seconds between looks at the store.")] = 60.0,
) -> None:
    """Serve /metrics with what the store says of people, rewards, data and training; Ctrl-C ends it."""
    if not Path("params.yaml").exists():
        stop(f"there is no params.yaml in {Path.cwd()}: run it in the project's folder")
    try:
        params = load_params()
    except ParamsError as error:
        stop(str(error))
    serve(open_store(places().store), params, host, port, every)
