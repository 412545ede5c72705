"""Monitor: look at people, rewards and the log; tell people what is wrong, and ask for retraining.

``python -m flows.monitor`` runs it once. Addresses to tell are Apprise URLs in RECLOOP_ALERT_URLS,
parted by spaces.
"""

import json
import os
import time
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from flows.alone import by_hand
from flows.noting import NOTED
from recloop.schema import now_us
from recloop.settings import load_params, places
from recloop.store import StoreError, open_store
from recloop.watch import Alert, check, notify, standing
from recloop.watch.memory import Memory
from recloop.watch.notes import expect, may_ask
from recloop.watch.sending import NotifyError, send

EVALUATION = Path("reports/evaluation.json")
RETRAIN = "recloop.watch.retrain"  # the event that triggers the deployment `nightly` (prefect.yaml)
HELPED = ("RewardLoss", "Drift", "UserModelOff")  # what retraining may help against
EVERY = 60.0  # seconds between looks
AGAIN = 6 * 3600.0  # seconds after which people are told again that the store cannot be read


@flow(name="monitor", **NOTED)
def monitor(looks: int = 1) -> list[Alert]:
    """Look once, or as often as that, a minute apart; returns the alerts that people were not told of before.

    Raises:
        StoreError, SQLAlchemyError: the store cannot be read; people are told of that first.
    """
    memory = Memory()
    new = _look_and_tell(memory)
    for _ in range(looks - 1):
        time.sleep(EVERY)
        new += _look_and_tell(memory)
    return new


def _look_and_tell(memory: Memory) -> list[Alert]:
    urls = os.environ.get("RECLOOP_ALERT_URLS", "").split()
    try:
        engine = open_store(places().store)
        alerts = _look(engine, memory)
    except (StoreError, SQLAlchemyError):
        _tell_of_the_store(urls)
        raise
    _lost().unlink(missing_ok=True)
    rows = [{"alert": a.name, "severity": a.severity, "summary": a.summary} for a in alerts]
    create_table_artifact(rows or [{"alert": "none", "severity": "", "summary": ""}], key="monitor-alerts")
    for alert in alerts:
        get_run_logger().warning("%s: %s", alert.name, alert.summary)
    try:
        return notify(engine, alerts, urls)
    finally:
        _ask_for_retraining(engine)


def _look(engine: Engine, memory: Memory) -> list[Alert]:
    if EVALUATION.exists():
        judged = json.loads(EVALUATION.read_text())
        told = judged["user_model"]["policy"]
        rates = {act: told[f"{act}s"] / told["requests"] for act in ("click", "purchase")}
        expect(engine, judged["policy"], rates, now_us())
    return check(engine, load_params(), memory=memory)


def _ask_for_retraining(engine: Engine) -> None:
    """Emit the event where it may help, at most once in ``watch.retrain_hours``."""
    now, hours = now_us(), load_params().watch.retrain_hours
    causes = [
        state.alert.name
        for state in standing(engine)
        if state.alert.rule in HELPED and state.lasts(now) and not state.muted
    ]
    if causes and may_ask(engine, 3600 * hours, now):
        emit_event(RETRAIN, resource={"prefect.resource.id": "recloop.watch"}, payload={"causes": causes})


def _tell_of_the_store(urls: list[str]) -> None:
    """Where the store would have to remember who was told, a file does."""
    mark = _lost()
    if not urls or (mark.exists() and time.time() - mark.stat().st_mtime < AGAIN):
        return
    why = "the store cannot be read: is its disk full, its server up? `recloop doctor` says more"
    try:
        send([Alert("StoreUnreadable", "critical", why, {}, "platform")], urls)
    except NotifyError as error:
        get_run_logger().error("%s", error)
        return
    mark.parent.mkdir(exist_ok=True)
    mark.touch()


def _lost() -> Path:
    return places().home / "run" / "store-unreadable"


if __name__ == "__main__":
    with by_hand():
        monitor()
