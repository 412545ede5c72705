"""The rollout: where it stands, and a person's word on it. A controller under way honours it at once."""

import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from getpass import getuser
from typing import Annotated, TypeVar

import typer
from sqlalchemy import Engine

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.delivery import rollout as machine
from recloop.delivery.by_hand import next_step
from recloop.delivery.lease import holder
from recloop.delivery.processes import ProcessError
from recloop.delivery.retirement import retire as retire_slot
from recloop.delivery.retirement import tidy
from recloop.delivery.trial import progress
from recloop.policy import ArtefactError
from recloop.registry import RegistryError
from recloop.settings import ParamsError, load_params, places
from recloop.store import StoreError, open_store
from recloop.watch import NotifyError, tell

T = TypeVar("T")
rollout = typer.Typer(no_args_is_help=True, help=__doc__)
Why = Annotated[str, typer.Option(help="The reason, kept with the transition.")]


def _open() -> tuple[Engine, machine.Rollout]:
    engine = open_store(places().store)
    return engine, machine.current(engine) or stop("no rollout is open")


def _try(step: Callable[[], T]) -> T:
    try:
        return step()
    except machine.Conflict as error:
        stop(str(error))


@rollout.command()
def status(json_: AsJson = False) -> None:
    """The open rollout, its step, who controls it, and what was said last; else how the last one ended."""
    engine = open_store(places().store)
    found = machine.current(engine)
    shown = found or next(iter(machine.history(engine, 1)), None)
    step = machine.step_of(engine, shown.id) if shown else None
    last = machine.transitions_of(engine, shown.id, 1)[0] if shown else None
    if json_:
        more: dict[str, object] = {"step": asdict(step) if step else None, "controller": holder(engine)}
        if found and step and step.plan:
            more |= {"people": progress(engine, found.id), "planned": step.plan["people"]}
        as_json(asdict(found) | more | {"why": last.why if last else ""} if found else None)
        return
    if found is None:
        print("no rollout is open")
    if shown is None or last is None:
        return
    print(f"rollout {shown.id}: {shown.challenger} against {shown.champion} is {shown.state}")
    if found and step:
        print(f"  {_progress(engine, found, step)}")
    print(f"  {last.who}: {last.why}")
    if "ko" in last.figures:
        print(f"  {last.figures['ko']}")
    if shown.state == "promoted":
        print("  the champion before it stands by: `recloop rollout rollback` gives it the people back")
    if found:
        print(f"  controlled by {holder(engine) or 'nobody: `recloop rollout start` goes on'}")


def _progress(engine: Engine, found: machine.Rollout, step: machine.Step) -> str:
    share = f"{step.share:.0%} of the people get the challenger"
    if not step.plan:
        return f"step {step.number} of {step.number + len(step.later)}: {share}"
    people, planned = progress(engine, found.id), step.plan["people"]
    return f"A/B test: {people:,} of {planned:,} planned people ({people / planned:.0%}); {share}"


@rollout.command()
def history(json_: AsJson = False) -> None:
    """Every transition: who, when, why, on which figures."""
    rows = [asdict(step) for step in machine.transitions_of(open_store(places().store))]
    if json_:
        as_json(rows)
        return
    for row in rows:
        row["when"] = datetime.fromtimestamp(row["ts"] / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
        if "share" in row["figures"]:
            row["target"] = f"{row['target']} {row['figures']['share']:.0%}"
    as_table(rows, ["rollout_id", "when", "source", "target", "who", "why"])


@rollout.command()
def start(
    wait: Annotated[bool, typer.Option(help="Stand by until a controller that is under way ends.")] = False,
) -> None:
    """Roll out the registry's challenger, or go on with the open rollout; Prefect need not be up."""
    from recloop.delivery.release import Nothing, release  # torch and MLflow take seconds to load

    def say(text: str) -> None:
        print(text, flush=True)

    patience = float("inf") if wait else 6.0
    try:
        verdicts = release(places(), load_params(), getuser(), say=say, patience=patience)
    except (Nothing, ProcessError, ArtefactError, RegistryError, StoreError, ParamsError) as error:
        stop(str(error))
    except machine.Conflict as error:
        stop(str(error))
    finally:
        _tell_people()
    for verdict in verdicts:
        print(f"{verdict.name}: {verdict.outcome}. {verdict.told}")
    status()


@rollout.command()
def pause(why: Why = "paused by hand") -> None:
    """Keep everybody where they are; the share does not grow. A failing canary still rolls back."""
    engine, found = _open()
    _try(lambda: machine.pause(engine, found.id, getuser(), why))
    print(f"rollout {found.id} is paused")


@rollout.command()
def resume(why: Why = "resumed by hand") -> None:
    """Go on where the pause began."""
    engine, found = _open()
    _try(lambda: machine.resume(engine, found.id, getuser(), why))
    print(f"rollout {found.id} goes on")
    if not holder(engine):
        print("no controller is under way: `recloop rollout start` goes on with it")


@rollout.command()
def promote(
    why: Annotated[str, typer.Option(help="The reason, which is needed and kept.")] = "",
    step: Annotated[bool, typer.Option("--step", help="Go on to the next step only.")] = False,
) -> None:
    """Make the challenger the champion, or with --step give it the next share, whatever the gates say."""
    engine, found = _open()
    if not why.strip():
        stop("a step that no gate has passed needs a reason: --why '...'")
    here = machine.step_of(engine, found.id)
    if step and (here is None or here.later):
        shares = load_params().delivery.shares
        share = _try(lambda: next_step(engine, found, shares, getuser(), why))
        print(f"{found.challenger} gets {share:.0%} of the people")
        return
    _try(lambda: machine.promote(engine, found.id, getuser(), why))
    _tell_registry(engine)
    print(f"{found.challenger} is the champion")


@rollout.command()
def abort(why: Why = "aborted by hand") -> None:
    """Take the challenger's people away; the champion goes on."""
    engine, found = _open()
    _try(lambda: machine.abort(engine, found.id, getuser(), why))
    print(f"rollout {found.id} is aborted; {found.champion} serves")


@rollout.command()
def rollback(why: Why = "rolled back by hand") -> None:
    """Give the people back to the champion before this one, whose slot still stands by."""
    engine = open_store(places().store)
    found = _try(lambda: machine.roll_back(engine, getuser(), why))
    _tell_registry(engine)
    print(f"rollout {found.id} is rolled back; {found.champion} serves")


@rollout.command()
def retire(why: Why = "retired by hand") -> None:
    """Stop the slot of the champion before this one now; its rollout cannot be rolled back any more."""
    where = places()
    engine = open_store(where.store)
    _try(lambda: retire_slot(engine, getuser(), why))
    stopped = tidy(where, engine, getuser(), 0.0)
    print(f"stopped: {', '.join(stopped) or 'no slot stood by here'}")


def _tell_people() -> None:
    try:
        tell(open_store(places().store), os.environ.get("RECLOOP_ALERT_URLS", "").split())
    except NotifyError as error:
        print(f"{error}; the flow `monitor` tries again")


def _tell_registry(engine: Engine) -> None:
    from recloop.delivery.release import follow  # as above

    follow(places(), engine)
