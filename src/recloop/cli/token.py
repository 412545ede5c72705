"""Tokens for who asks from elsewhere, or operates: made, listed, taken away."""

from dataclasses import asdict
from typing import Annotated

import typer

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.settings import TokenError, places
from recloop.settings.tokens import add_token, read_grants, remove_token

token = typer.Typer(no_args_is_help=True, help=__doc__)
Name = Annotated[str, typer.Argument(help="What it is for, such as `shop`; it stands in logs.")]
Scope = Annotated[list[str], typer.Option(help="read, feedback, operate or person; may be given again.")]


@token.command()
def add(name: Name, scope: Scope) -> None:
    """Make a token and print it, this one time; only its hash is kept."""
    try:
        print(add_token(places().token_list, name, scope))
    except TokenError as error:
        stop(str(error))


@token.command("list")
def list_tokens(json_: AsJson = False) -> None:
    """Names and scopes."""
    try:
        rows = [asdict(grant) for grant in read_grants(places().token_list)]
    except TokenError as error:
        stop(str(error))
    shown = [{"name": row["name"], "scopes": ", ".join(row["scopes"])} for row in rows]
    if json_:
        as_json(shown)
    else:
        as_table(shown, ["name", "scopes"])


@token.command()
def remove(name: Name) -> None:
    """Take a token away, at once."""
    try:
        remove_token(places().token_list, name)
    except TokenError as error:
        stop(str(error))
