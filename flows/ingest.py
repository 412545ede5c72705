"""Ingest: read what was dropped into the inbox, and advance the watermark to a new data version.

``python -m flows.ingest`` runs it once. The inbox is ``RECLOOP_HOME/inbox``: a file or a folder in it is
one dataset, as `recloop import` reads it. Put it there under a name that begins with a dot and rename it
when it is whole. What was read moves to ``inbox-done``, what could not be read to ``inbox-refused``.
"""

from datetime import UTC, datetime
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from flows.alone import by_hand
from flows.noting import NOTED
from recloop.intake import DatasetError, SourceConflict, import_into
from recloop.intake.readers import read_dataset
from recloop.settings import load_params, places
from recloop.settings.workspace import workspace
from recloop.store import open_store
from recloop.store.snapshot import Watermark, watermark
from recloop.store.vault import open_vault

MARK = Path("data/watermark.json")


@task(retries=2, retry_delay_seconds=10)
def read(path: Path) -> str:
    """Import one file or folder, and put it away so that it is not read twice."""
    where, terms = places(), load_params().privacy.terms.model_dump()
    name = open_vault(where).behind_the_door if where.accounts else str
    try:
        report = import_into(open_store(where.store), read_dataset(path), False, terms, name)
        said, place = str(report), "done"
    except (DatasetError, SourceConflict) as error:
        said, place = str(error), "refused"
    target = path.parent.parent / f"inbox-{place}"
    target.mkdir(exist_ok=True)
    path.rename(target / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{path.name}")
    return f"{path.name}: {said}"


@task
def advance() -> tuple[int, int]:
    """Move the watermark to the newest row; returns how many impressions and events are new.

    A run that is learning from the present data version ends first.
    """
    now = watermark(open_store(places().store))
    with workspace(get_run_logger().info):
        before = Watermark.load(MARK) if MARK.exists() else None
        now.save(MARK)
    if before is None or before.source != now.source:
        return now.impressions, now.events
    return now.impressions - before.impressions, now.events - before.events


@flow(name="ingest", **NOTED)
def ingest() -> tuple[int, int]:
    """Read the inbox and advance the watermark; returns the new impressions and events."""
    inbox = places().home / "inbox"
    inbox.mkdir(exist_ok=True)
    lines = [read(path) for path in sorted(inbox.iterdir()) if not path.name.startswith(".")]
    impressions, events = advance()
    lines.append(f"{impressions:,} impressions and {events:,} events since the last data version")
    create_markdown_artifact("\n".join(f"- {line}" for line in lines), key="ingest-report")
    get_run_logger().info("; ".join(lines))
    return impressions, events


if __name__ == "__main__":
    with by_hand():
        ingest()
