"""The dashboard: who serves, how the rollout stands, what people get out of it."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recloop.delivery import rollout
from recloop.delivery.gateway import Gateway
from recloop.delivery.outcomes import Outcomes, outcomes
from recloop.store.tables import events, impressions, quarantine
from recloop.watch import raised
from recloop.web.pages import page

RECENT = 100_000  # impressions that the rewards are taken from


@dataclass(frozen=True)
class Bar:
    """One policy's reward per request; places are shares of the chart's width, in percent."""

    policy: str
    requests: int
    mean: float
    low: float | None
    high: float | None
    place: float
    start: float
    width: float


class Dashboard:
    """The page, and the part of it that is fetched anew every two seconds."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.routes = [Route("/dashboard", self._show), Route("/dashboard/live", self._live)]

    async def _show(self, request: Request) -> Response:
        return await self._render("dashboard.html")

    async def _live(self, request: Request) -> Response:
        return await self._render("live.html")

    async def _render(self, template: str) -> Response:
        following = self._gateway.following
        values: dict[str, Any] = {"error": "", "routing": following.routing, "version": following.version}
        try:
            values |= await run_in_threadpool(self._figures)
        except SQLAlchemyError as error:
            values["error"] = f"The store cannot be read ({type(error).__name__}); routing stays as it was."
        return page(template, **values)

    def _figures(self) -> dict[str, Any]:
        engine = self._gateway.engine
        with engine.connect() as connection:
            last = connection.execute(select(func.max(impressions.c.seq))).scalar() or 0
            counts = {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (impressions, events, quarantine)
            }
        return {
            "bars": bars(outcomes(engine, self._gateway.params.reward, since=max(0, last - RECENT))),
            "counts": counts,
            "rollout": rollout.current(engine),
            "steps": [(moment(step.ts), step) for step in rollout.transitions_of(engine, limit=12)],
            "alerts": [(moment(ts), alert) for ts, alert in raised(engine, 8)],
        }


def bars(found: dict[str, Outcomes]) -> list[Bar]:
    """Intervals on one scale, best policy first."""
    rows = []
    for policy, outcome in found.items():
        low, high = outcome.people.interval()
        known = math.isfinite(low)
        rows.append(
            (policy, outcome, low if known else outcome.people.mean, high if known else outcome.people.mean)
        )
    if not rows:
        return []
    least, most = min(0.0, *(row[2] for row in rows)), max(row[3] for row in rows)
    scale = 100 / ((most - least) or 1.0)
    made = [
        Bar(
            policy=policy,
            requests=outcome.requests,
            mean=outcome.people.mean,
            low=low if low < high else None,
            high=high if low < high else None,
            place=(outcome.people.mean - least) * scale,
            start=(low - least) * scale,
            width=(high - low) * scale,
        )
        for policy, outcome, low, high in rows
    ]
    return sorted(made, key=lambda bar: -bar.mean)


def moment(ts: int) -> str:
    """µs since 1970 as a person reads it, UTC."""
    return datetime.fromtimestamp(ts / 1e6, UTC).strftime("%m-%d %H:%M:%S")
