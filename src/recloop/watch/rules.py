"""Rules: from figures to alerts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine

from recloop.settings.params import Params
from recloop.store.snapshot import Watermark
from recloop.watch.look import Figures, Limits, look


@dataclass(frozen=True)
class Alert:
    """Something that a person should look at.

    Attributes:
        name: the same for the same cause, so that it is not sent again at once.
        severity: how soon.
        summary: what happened and what to do.
        figures: what it was concluded from.
    """

    name: str
    severity: Literal["warning", "critical"]
    summary: str
    figures: Mapping[str, float]


def quiet(figures: Figures, limits: Limits) -> Iterator[Alert]:
    """Feedback has stopped coming."""
    hours = figures.quiet_hours
    if hours is not None and hours > limits.quiet_hours:
        why = f"no feedback for {hours:.0f} hours: is the storefront up, do its events reach the gateway?"
        yield Alert("quiet", "critical", why, {"hours": hours})


def quarantined(figures: Figures, limits: Limits) -> Iterator[Alert]:
    """Too much of what comes in is refused."""
    if figures.quarantined > limits.quarantined:
        why = f"{figures.quarantined:.1%} of the last day's rows were refused: see `recloop quarantine list`"
        yield Alert("quarantined", "warning", why, {"share": figures.quarantined})


def fallbacks(figures: Figures, limits: Limits) -> Iterator[Alert]:
    """Slots do not answer."""
    if figures.requests >= limits.requests and figures.fallbacks > limits.fallbacks:
        why = f"{figures.fallbacks:.1%} of the requests were answered by no slot: see `recloop status`"
        yield Alert("fallbacks", "critical", why, {"share": figures.fallbacks})


def reward_loss(figures: Figures, limits: Limits) -> Iterator[Alert]:
    """People get less out of it than before."""
    gap = figures.reward
    if figures.requests >= limits.requests and gap.high < 0:
        why = (
            f"reward per request fell from {gap.control:.3f} to {gap.treatment:.3f}"
            f" (95 %: {gap.low:.3f} to {gap.high:.3f}): look at the last rollout, or retrain"
        )
        yield Alert("reward-loss", "critical", why, {"low": gap.low, "high": gap.high})


def drift(figures: Figures, limits: Limits) -> Iterator[Alert]:
    """Other people come than those whom the policy learnt from."""
    for found in figures.drifts:
        if found.recent >= limits.requests and found.drifted:
            why = f"{found.feature} has drifted ({found.distance:.2f} above {found.threshold:.2f}): retrain"
            yield Alert(f"drift-{found.feature}", "warning", why, {"distance": found.distance})


RULES: tuple[Callable[[Figures, Limits], Iterator[Alert]], ...] = (
    quiet,
    quarantined,
    fallbacks,
    reward_loss,
    drift,
)


def evaluate_rules(figures: Figures, limits: Limits) -> list[Alert]:
    """The alerts that the figures call for."""
    return [alert for rule in RULES for alert in rule(figures, limits)]


def check(
    engine: Engine, params: Params, trained: Watermark, now: int | None = None
) -> tuple[Figures, list[Alert]]:
    """Look, with the limits that params.yaml has, and judge; ``trained`` as in ``look``."""
    limits = Limits(quarantined=params.quality.tolerated_share, fallbacks=params.delivery.max_error_rate)
    figures = look(engine, params, trained, now)
    return figures, evaluate_rules(figures, limits)
