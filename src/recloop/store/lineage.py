"""Where each policy comes from: written down when it is registered, so that every slate leads back to it."""

import json
from dataclasses import asdict, dataclass

from sqlalchemy import Engine

from recloop.store.engine import facts_named, note_fact, recall

NAME = "policy "  # before the policy's name, in the facts


@dataclass(frozen=True)
class Lineage:
    """One policy.

    Attributes:
        policy: its name, as impressions and routing have it.
        version: in the registry.
        run_id: of the MLflow run.
        registered: µs since 1970.
        data_version: DVC's hash of the snapshot, or the watermark where DVC had not run.
        data_source: where that data came from.
        git_commit: of the code.
        git_dirty: whether the code had changes that were not committed.
        valid: whether the data passed its checks; None where that was not written down.
        tables: by table rows, and of them kept and quarantined.
    """

    policy: str
    version: int
    run_id: str
    registered: int
    data_version: str
    data_source: str
    git_commit: str
    git_dirty: bool
    valid: bool | None
    tables: dict[str, dict[str, int]]


def note_lineage(engine: Engine, lineage: Lineage) -> None:
    """Write it down; again: the same."""
    note_fact(engine, f"{NAME}{lineage.policy}", json.dumps(asdict(lineage)))


def lineage_of(engine: Engine, policy: str) -> Lineage | None:
    """Of the policy of that name; None where it was not written down."""
    found = recall(engine, f"{NAME}{policy}")
    return None if found is None else Lineage(**json.loads(found))


def lineages(engine: Engine) -> list[Lineage]:
    """Of all policies, the newest version first."""
    found = [Lineage(**json.loads(text)) for text in facts_named(engine, NAME).values()]
    return sorted(found, key=lambda one: -one.version)
