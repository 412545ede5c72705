"""Monitor: look at people, rewards and the log; tell people what is wrong, and ask for retraining.

``python -m flows.monitor`` runs it once. Addresses to tell are Apprise URLs in RECLOOP_ALERT_URLS,
parted by spaces.
"""

import os
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event

from flows.alone import by_hand
from recloop.settings import load_params, places
from recloop.store import open_store
from recloop.store.snapshot import Watermark
from recloop.watch import Alert, check, ended_badly, notify

MARK = Path("data/watermark.json")
RETRAIN = "recloop.watch.retrain"  # the event that triggers the deployment `nightly` (prefect.yaml)


@flow(name="monitor")
def monitor() -> list[Alert]:
    """Returns the alerts that were not raised before within the cool-down of six hours."""
    logger = get_run_logger()
    if not MARK.exists():
        logger.info("nothing was trained yet: there is nothing to compare with")
        return []
    engine = open_store(places().store)
    figures, alerts = check(engine, load_params(), Watermark.load(MARK))
    alerts += ended_badly(engine)
    rows = [{"alert": a.name, "severity": a.severity, "summary": a.summary} for a in alerts]
    create_table_artifact(
        rows or [{"alert": "none", "severity": "", "summary": f"{figures.requests} requests since training"}],
        key="monitor-alerts",
    )
    new = notify(engine, alerts, os.environ.get("RECLOOP_ALERT_URLS", "").split())
    causes = [alert.name for alert in new if alert.name == "reward-loss" or alert.name.startswith("drift-")]
    if causes:
        emit_event(RETRAIN, resource={"prefect.resource.id": "recloop.watch"}, payload={"causes": causes})
    for alert in alerts:
        logger.warning("%s: %s", alert.name, alert.summary)
    return new


if __name__ == "__main__":
    with by_hand():
        monitor()
