"""Ingest: read what was dropped into the inbox, and advance the watermark to a new data version.

``python -m flows.ingest`` runs it once.
"""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from recloop.intake import DatasetError, import_into
from recloop.intake.readers import read_dataset
from recloop.settings import places
from recloop.store import Watermark, open_store, watermark

MARK = Path("data/watermark.json")


@task(retries=2, retry_delay_seconds=10)
def read(path: Path) -> str:
    """Import one file or folder, and put it away so that it is not read twice."""
    engine = open_store(places().store)
    try:
        said, place = str(import_into(engine, read_dataset(path), progress=False)), "done"
    except DatasetError as error:
        said, place = str(error), "refused"
    target = path.parent.parent / f"inbox-{place}"
    target.mkdir(exist_ok=True)
    path.rename(target / path.name)
    return f"{path.name}: {said}"


@task
def advance() -> int:
    """Move the watermark to the newest row; returns how many impressions are new."""
    now = watermark(open_store(places().store))
    before = Watermark.load(MARK).impressions if MARK.exists() else 0
    now.save(MARK)
    return now.impressions - before


@flow(name="ingest")
def ingest() -> int:
    """Read the inbox (``RECLOOP_HOME/inbox``) and advance the watermark."""
    inbox = places().home / "inbox"
    inbox.mkdir(exist_ok=True)
    lines = [read(path) for path in sorted(inbox.iterdir())]
    new = advance()
    lines.append(f"{new} new impressions since the last data version")
    create_markdown_artifact("\n".join(f"- {line}" for line in lines), key="ingest-report")
    get_run_logger().info("; ".join(lines))
    return new


if __name__ == "__main__":
    ingest()
