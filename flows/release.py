"""Release: from a registered challenger to the champion, or to a refusal with its reasons.

``python -m flows.release`` runs it once. What is done is ``recloop.delivery.release``, the same as
``recloop rollout start`` does without Prefect; here its long parts are tasks, and its verdicts an artifact.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact

from flows.alone import by_hand
from flows.noting import NOTED
from recloop.delivery import release as machine
from recloop.delivery.gates import Verdict
from recloop.delivery.release import Nothing
from recloop.delivery.routing import Target
from recloop.registry import Registered
from recloop.settings import load_params, places
from recloop.store import open_store
from recloop.watch import NotifyError, tell

__all__ = ["Nothing", "release", "summary"]
WHO = "release flow"


@task
def judge(champion: Registered | None, challenger: Registered) -> Verdict:
    """The offline gate, with what it says in the run's log."""
    return machine.judge(champion, challenger, get_run_logger().warning)


@task
def start_slot(colour: str, challenger: Registered) -> Target:
    """Start the idle slot with the challenger's Bento."""
    return machine.start_slot(colour, challenger)


smoke = task(machine.smoke)


@flow(name="release", validate_parameters=False, **NOTED)
def release(canary_seconds: float | None = None, changes: dict[str, Any] | None = None) -> list[Verdict]:
    """Roll the challenger out, step by step; returns the gates' verdicts.

    Args:
        canary_seconds: how long a step may wait for data before the rollout is paused; None: as
            ``delivery.step_seconds`` says.
        changes: other values of ``delivery`` for this run.

    Raises:
        Nothing: there is no challenger.
    """
    params, values = load_params(), dict(changes or {})
    if canary_seconds is not None:
        values["step_seconds"] = canary_seconds
    delivery = type(params.delivery).model_validate(params.delivery.model_dump() | values)
    work = machine.Work(judge, start_slot, smoke)
    params = params.model_copy(update={"delivery": delivery})
    verdicts = machine.release(places(), params, WHO, work, get_run_logger().info)
    _show(verdicts)
    try:
        tell(open_store(places().store), os.environ.get("RECLOOP_ALERT_URLS", "").split())
    except NotifyError as error:
        get_run_logger().warning("%s; `monitor` tries again", error)
    return verdicts


def _show(verdicts: Sequence[Verdict]) -> None:
    rows = [
        {"gate": v.name, "verdict": v.outcome, "why": v.why, "figures": json.dumps(dict(v.figures))}
        for v in verdicts
    ]
    create_table_artifact(rows, key="release-verdicts", description="what the gates said")


def summary(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts, ready for JSON."""
    return [asdict(verdict) | {"figures": dict(verdict.figures)} for verdict in verdicts]


if __name__ == "__main__":
    with by_hand():
        release()
