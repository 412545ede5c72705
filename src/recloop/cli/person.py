"""People: what they agreed to, what is known of them, why they saw an item, and their erasure."""

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.delivery.why import why as reasons
from recloop.intake import DatasetError
from recloop.intake.consents import import_consents
from recloop.settings import load_params, places
from recloop.store import PURPOSES, open_store, set_consents
from recloop.store.consent import words_of
from recloop.store.erasure import begin, find_receipt
from recloop.store.person import export as known
from recloop.store.person import note_access, tidy
from recloop.store.vault import open_vault

person = typer.Typer(no_args_is_help=True, help=__doc__)
Who = Annotated[str, typer.Argument(help="The id under which the marketplace knows the person.")]


def _name(given: str, make: bool = False) -> str:
    """The name in the store: the pseudonym, where ids are accounts."""
    where = places()
    name = open_vault(where).pseudonym(given, make) if where.accounts else given
    if name is None:
        stop(f"the account {given} has no pseudonym: nothing is known of it")
    return name


def _me() -> str:
    return f"cli:{getpass.getuser()}"


@person.command()
def consents(
    who: Who,
    grant: Annotated[list[str], typer.Option(help=f"One of {', '.join(PURPOSES)}.")] = [],  # noqa: B006
    withdraw: Annotated[list[str], typer.Option(help="The same.")] = [],  # noqa: B006
    json_: AsJson = False,
) -> None:
    """Show what a person agreed to, after recording what is given here."""
    engine, terms = open_store(places().store), load_params().privacy.terms.model_dump()
    name, words = _name(who, make=bool(grant)), dict.fromkeys(grant, True) | dict.fromkeys(withdraw, False)
    if words:
        try:
            set_consents(engine, name, words, terms)
        except ValueError as error:
            stop(str(error))
        note_access(engine, _me(), "consents", name)
    said = words_of(engine, [name]).get(name, {})
    rows = [
        {"purpose": p, "word": "yes" if w.granted else "no", "version": w.version, "present": terms[p]}
        for p, w in said.items()
    ]
    if json_:
        as_json(rows)
    else:
        as_table(rows, ["purpose", "word", "version", "present"])


@person.command("import-consents")
def import_(
    file: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file: docs/privacy.md.")],
    json_: AsJson = False,
) -> None:
    """Record what many people agreed to; rows that are no words are quarantined with their reason."""
    where, terms = places(), load_params().privacy.terms.model_dump()
    name = open_vault(where).pseudonym if where.accounts else None
    try:
        report = import_consents(open_store(where.store), file, terms, _me(), name, progress=not json_)
    except DatasetError as error:
        stop(str(error))
    if json_:
        as_json({"read": report.read, "new": report.new, "same": report.same, "refused": report.reasons})
        return
    print(f"{report.read:,} words: {report.new:,} new, {report.same:,} known or said already")
    for why, count in report.reasons.most_common(10):
        print(f"  {count:,} quarantined: {why}")


@person.command()
def export(
    who: Who, to: Annotated[Path | None, typer.Option(help="A new file; else it is printed.")] = None
) -> None:
    """Everything that is known of a person, as JSON."""
    where = places()
    engine, name = open_store(where.store), _name(who)
    note_access(engine, _me(), "export", name)
    content = known(engine, open_vault(where), name)
    if to is None:
        as_json(content)
        return
    try:
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        stop(f"{to} cannot be written: {error}")
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
    print(to)


@person.command()
def why(who: Who, request_id: str, item_id: str, language: str = "en") -> None:
    """Why the person was shown an item, in words (en or ko)."""
    where = places()
    engine, name = open_store(where.store), _name(who)
    note_access(engine, _me(), "why", name)
    if language not in ("en", "ko"):
        stop("the language is en or ko")
    for sentence in reasons(engine, name, request_id, item_id, where.consent == "assumed", language):
        print(sentence)


@person.command()
def erase(who: Who, json_: AsJson = False) -> None:
    """Destroy the person's key, delete them everywhere and begin a new data version; prints the receipt."""
    if not Path("dvc.yaml").exists():
        stop(f"there is no dvc.yaml in {Path.cwd()}: run this in the project's folder")
    where = places()
    engine, name = open_store(where.store), _name(who)
    note_access(engine, _me(), "erase", name)
    receipt = begin(engine, open_vault(where), name)
    done = subprocess.run(
        [sys.executable, "-m", "flows.erasure"], capture_output=True, text=True, check=False
    )
    found = find_receipt(engine, receipt.receipt)
    if found.done is None:
        stop(
            f"receipt {found.receipt}: the key and the rows are gone, but traces are left, or a file"
            f" could not be read; see below, then run `python -m flows.erasure`\n{done.stdout}{done.stderr}"
        )
    if json_:
        as_json({"receipt": found.receipt, "begun": found.begun, "done": found.done, "counts": found.counts})
    else:
        rows = ", ".join(f"{count:,} {name}" for name, count in found.counts.items() if count)
        print(f"receipt {found.receipt}: erased ({rows}); a search finds nothing")
        print("the next retraining makes a data version without the person: `recloop up` does it at night")


@person.command()
def receipt(number: str, json_: AsJson = False) -> None:
    """What came of an erasure."""
    found = find_receipt(open_store(places().store), number)
    if json_:
        as_json({"receipt": found.receipt, "begun": found.begun, "done": found.done, "counts": found.counts})
    else:
        print(f"{found.receipt}: {'done' if found.done else 'begun, not done'}; rows {found.counts}")


@person.command("tidy")
def tidy_command(json_: AsJson = False) -> None:
    """Delete what is older than `privacy.keep_days` of params.yaml allows."""
    where = places()
    counts = tidy(open_store(where.store), load_params().privacy.keep_days, where.home)
    if json_:
        as_json(counts)
    else:
        print(", ".join(f"{count:,} {name}" for name, count in counts.items()))
