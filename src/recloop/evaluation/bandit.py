"""Off-policy estimates held against the truth: one policy's log asked for the value of another, whose own log
is there as well (Saito et al. 2020, arXiv 2008.07146, section 5: the relative estimation error).

Open Bandit's Thompson sampling knows no context: its probability of an item at a position, meant over the
days, is the share of its log there. The two policies ran side by side. No click of the target's log enters an
estimate.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recloop.evaluation.off_policy import estimate, read_log
from recloop.features import Steps
from recloop.intake.open_bandit import OpenBandit
from recloop.policy import Sampler
from recloop.policy.sampling import Observation

ESTIMATORS = ("ips", "snips", "clipped")
MINIMUM = 200  # effective sample, below which no estimate is given
POLICIES = (("random", "bts"), ("bts", "random"))
DRAWS = 2000


class OnePolicyError(ValueError):
    """The logs hold one of the two policies only."""


@dataclass(frozen=True)
class ByPosition(Sampler):
    """A policy whose probabilities depend on the position alone, which is the observation's ``context``.

    Attributes:
        table: float64 (P, N), rows sum to 1.
    """

    table: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def propensities(
        self, observation: Observation, slates: np.ndarray, exclude: np.ndarray | None = None
    ) -> np.ndarray:
        """float64 (B, 1): of int64 (B, 1) slates."""
        return self.table[observation["context"][:, :1].astype(np.int64), slates]


def compare_policies(data: OpenBandit, seed: int = 0) -> list[dict[str, Any]]:
    """A row per direction and estimator, ready for JSON.

    ``truth`` (clicks per impression of the target's own log) and ``estimate`` with their intervals, ``error``
    (|estimate - truth| / truth) and ``error_high``, its 95th percentile when both logs are drawn again; or
    ``why`` there is no estimate. The estimator ``log`` takes the logging policy's own rate for the
    target's.

    Raises:
        OnePolicyError: a log of random or of bts is missing.
    """
    shown = data.shown
    missing = [name for name in POLICIES[0] if name not in set(shown["policy"].to_list())]
    if missing:
        raise OnePolicyError(
            f"there is no log of {' and '.join(missing)}: give the folder that holds both policies"
        )
    names, item = np.unique(shown["item"].to_numpy().astype(str), return_inverse=True)
    policy = shown["policy"].to_numpy().astype(str)
    position = shown["position"].to_numpy().astype(np.int64) - 1
    click = shown["click"].to_numpy().astype(np.float64)
    chance = shown["propensity_score"].to_numpy()
    rows = []
    for source, target in POLICIES:
        own, other = policy == source, policy == target
        table = _shares(position[other], item[other], len(names))
        aim = _aim(table)
        log = _steps(position[own], item[own], chance[own], click[own])
        truth = click[other]
        low, high = _rate_interval(truth, seed)
        known = {"from": source, "to": target, "truth": truth.mean(), "truth_low": low, "truth_high": high}
        read = read_log(log, aim, None, len(names), seed)
        for method in ESTIMATORS:
            found = estimate(read, method, "position", MINIMUM, DRAWS, seed)  # type: ignore[arg-type]
            rows.append(known | {"estimator": method} | _judged(found, truth.mean(), truth.std(), len(truth)))
        naive = click[own].mean()
        low, high = _rate_interval(click[own], seed)
        known |= {"estimator": "log", "estimate": naive, "low": low, "high": high}
        rows.append(known | {"error": abs(naive - truth.mean()) / truth.mean()})
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _aim(table: np.ndarray) -> ByPosition:
    scores = np.log(table).astype(np.float32)
    return ByPosition(lambda seen: scores[seen["context"][:, 0].astype(np.int64)], 1.0, 0.0, table=table)


def _judged(found: Any, truth: float, spread: float, rows: int) -> dict[str, Any]:
    if found.value is None:
        return {"why": found.why, "effective_sample": found.effective_sample}
    rng = np.random.default_rng(0)
    wide = (found.high - found.low) / 3.92
    drawn = rng.normal(found.value, wide, DRAWS) - rng.normal(truth, spread / rows**0.5, DRAWS)
    return {
        "estimate": found.value,
        "low": found.low,
        "high": found.high,
        "error": abs(found.value - truth) / truth,
        "error_high": float(np.quantile(np.abs(drawn), 0.95)) / truth,
        "effective_sample": found.effective_sample,
    }


def _shares(position: np.ndarray, item: np.ndarray, n_items: int) -> np.ndarray:
    """float64 (P, N): each position's share of items, one added to every count."""
    counts = np.ones((int(position.max()) + 1, n_items))
    np.add.at(counts, (position, item), 1)
    return counts / counts.sum(1, keepdims=True)


def _steps(position: np.ndarray, item: np.ndarray, chance: np.ndarray, click: np.ndarray) -> Steps:
    """A request per row; rows name no individual, so each is a person of its own."""
    at = np.arange(len(item))
    nothing = np.zeros((len(item), 1), np.float32)
    return Steps(
        user=at,
        session=at,
        ts=at,
        profile=nothing,
        context=position[:, None].astype(np.float32),
        history=np.zeros((len(item), 0), np.int64),
        slate=item[:, None],
        propensity=chance[:, None],
        position=position[:, None],
        clicked=np.where(click > 0, 0, -1),
        reward=click.astype(np.float32),
        done=np.ones(len(item), bool),
    )


def _rate_interval(click: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentiles of the rate when rows are drawn again."""
    drawn = np.random.default_rng(seed).binomial(len(click), click.mean(), DRAWS) / len(click)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
