"""What each panel holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recloop.delivery.gateway import Gateway
from recloop.experiments.catalogue import Standing, listed
from recloop.experiments.report import Report, glance
from recloop.experiments.verdict import sentences
from recloop.store.data_versions import data_versions
from recloop.store.lineage import lineages
from recloop.store.quarantine import count_held, held
from recloop.watch import raised
from recloop.watch import standing as standing_alerts
from recloop.watch.calibration import Held, held_against
from recloop.watch.notes import expected
from recloop.watch.policies import policies
from recloop.web.dashboard.board import Panel
from recloop.web.dashboard.drift import drifts
from recloop.web.dashboard.progress import standing
from recloop.web.dashboard.rewards import rewards
from recloop.web.dashboard.said import said
from recloop.web.dashboard.traffic import Traffic
from recloop.web.dashboard.training import last_training

REPORTS, MARK = Path("reports"), Path("data/watermark.json")
RUNNING, STOPPED, NEWEST = 6, 2, 8


@dataclass(frozen=True)
class Tested:
    """An experiment with its report, and what it says in each language, by arm."""

    standing: Standing
    report: Report
    told: dict[str, dict[str, str]]


def panels(gateway: Gateway, home: Path, traffic: Traffic) -> list[Panel]:
    """All of them, in the order of the page."""
    engine, params, following = gateway.engine, gateway.params, gateway.following

    def now() -> Any:
        traffic.sample()
        return traffic.now()

    def serving() -> Any:
        return following.routing, following.version, following.stale_seconds > 5

    def tested() -> list[Tested]:
        every = listed(engine)
        runs = [one for one in every if one.state == "running"][:RUNNING]
        ended = [one for one in every if one.state != "running"][:STOPPED]
        found = []
        for one in (*runs, *ended):
            report = glance(engine, one, params.reward)
            found.append(Tested(one, report, {code: sentences(report, code) for code in ("en", "ko")}))
        return found

    def model() -> list[Held]:
        told = expected(engine)
        return held_against(told, policies(engine, params)) if told else []

    return [
        Panel("serving", 1, serving),
        Panel("now", 5, now, always=True),
        Panel("rollout", 1, lambda: standing(engine, params.delivery)),
        Panel("alerts", 3, lambda: (standing_alerts(engine), raised(engine, NEWEST))),
        Panel("reward", 10, lambda: rewards(engine, params.reward), slow=True),
        Panel("model", 60, model, slow=True),
        Panel("experiments", 20, tested, slow=True),
        Panel("learning", 10, lambda: last_training(REPORTS)),
        Panel("drift", 60, lambda: drifts(engine, MARK, params.watch.zone), slow=True),
        Panel("quarantine", 10, lambda: (count_held(engine), held(engine, 5)), slow=True),
        Panel("said", 20, lambda: said(engine), slow=True),
        Panel("versions", 10, lambda: (lineages(engine)[:NEWEST], data_versions(home)[: -NEWEST - 1 : -1])),
    ]
