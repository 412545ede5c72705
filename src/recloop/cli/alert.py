"""Alerts: what holds now, and a person's word on it."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from getpass import getuser
from typing import Annotated

import typer

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.schema import now_us
from recloop.settings import places
from recloop.store import open_store
from recloop.watch import acknowledge, silence, standing
from recloop.watch.notify import silenced, unsilence
from recloop.watch.sending import runbook

alert = typer.Typer(no_args_is_help=True, help=__doc__)
Pattern = Annotated[str, typer.Argument(help="Name of an alert; * and ? fit anything.")]


@alert.command("list")
def list_command(json_: AsJson = False) -> None:
    """What holds now, whether people were told of it, and where its runbook is."""
    engine = open_store(places().store)
    now = now_us()
    quiet = silenced(engine, now)
    rows = [
        {
            "alert": state.alert.name,
            "severity": state.alert.severity,
            "since": _moment(state.since),
            "state": state.word(now, quiet),
            "summary": state.alert.summary,
            "runbook": runbook(state.alert),
        }
        for state in standing(engine)
    ]
    if json_:
        as_json({"alerts": rows, "silences": [asdict(one) for one in quiet]})
        return
    if rows:
        as_table(rows, ["alert", "severity", "since", "state", "summary", "runbook"])
    else:
        print("all is well")
    for one in quiet:
        print(f"silence: {one.pattern} until {_moment(one.until)} by {one.who}: {one.why}")


@alert.command()
def ack(pattern: Pattern) -> None:
    """Have it in hand: nobody is told again until it has ended and comes back."""
    names = acknowledge(open_store(places().store), pattern, getuser())
    if not names:
        stop(f"no alert fits {pattern!r} now: see `recloop alert list`")
    print("\n".join(names))


@alert.command("silence")
def silence_command(
    pattern: Pattern,
    why: Annotated[str, typer.Option(help="The reason, kept with the silence.")],
    hours: Annotated[float, typer.Option(min=0.01, max=720, help="For how long.")] = 2.0,
) -> None:
    """Tell nobody of what fits, for a while: before work on a part that will complain."""
    until = int((time.time() + 3600 * hours) * 1e6)
    silence(open_store(places().store), pattern, until, getuser(), why)
    print(f"{pattern} is silent until {_moment(until)}")


@alert.command("unsilence")
def unsilence_command(
    pattern: Annotated[str, typer.Argument(help="As it was given to `silence`.")],
) -> None:
    """End a silence before its time: people are told again of what fits."""
    if not unsilence(open_store(places().store), pattern):
        stop(f"no silence of {pattern!r} holds: see `recloop alert list`")
    print(f"{pattern} is no longer silent")


def _moment(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
