"""Whether other people come than before, and see other things: by feature, as the alerts have it."""

from pathlib import Path

from sqlalchemy import Engine

from recloop.schema import now_us
from recloop.store.snapshot import Watermark
from recloop.watch.digest import KEPT_US, digested
from recloop.watch.season import Found, seasonal
from recloop.watch.since import since_training


def drifts(engine: Engine, mark: Path, zone: str) -> list[Found]:
    """What differs from before the last training, and of the last hour from the hours that are like it.

    Most drifted first. ``mark``: the file of the watermark of the last training; ``zone``: of the weekends.
    """
    now = now_us()
    found = seasonal(digested(engine, now - KEPT_US, now), now, zone)
    try:
        trained = Watermark.load(mark).impressions
    except (OSError, ValueError, TypeError):
        trained = None
    if trained is not None:
        found += since_training(engine, trained)
    return sorted(found, key=lambda one: one.drift.threshold / (one.drift.distance or 1e-9))
