"""Experiments: speed beside statsmodels and plain loops, and how often verdicts are right.

The simulations are those of tests/experiments/test_simulations.py, with more runs. They print a table and
draw ``reports/experiments/experiments.png``.

    python -m benchmarks.experiments [--quick] [--json FILE]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from matplotlib.figure import Figure
from scipy import stats
from tqdm import tqdm

from benchmarks.race import SEED, Row, main, race
from recloop.experiments import Clusters, difference
from recloop.experiments.group_sequential import Design, design
from recloop.experiments.interleaving import credit, team_draft
from recloop.experiments.sequence import critical

PLOT = Path("reports/experiments/experiments.png")
FIXED = 1.96
CHECKS = 200  # how often one looks
COLOURS = {"fixed interval": "#d55e00", "confidence sequence": "#0072b2", "group sequential": "#009e73"}


@dataclass(frozen=True)
class Watch:
    """Many experiments, watched as people come.

    Attributes:
        seen: float64 (c,), people so far to people planned, at each check.
        z: float64 (runs, c), difference over its standard error, clustered by person.
    """

    seen: np.ndarray
    z: np.ndarray

    def fixed(self) -> np.ndarray:
        """bool (runs,): a fixed interval excluded 0 at one check at least."""
        return (np.abs(self.z) >= FIXED).any(1)

    def sequence(self) -> np.ndarray:
        """bool (runs,): the confidence sequence did."""
        return (np.abs(self.z) >= [critical(seen) for seen in self.seen]).any(1)

    def group_sequential(self, made: Design) -> tuple[np.ndarray, np.ndarray]:
        """bool (runs,): won, and lost; at the design's looks alone, futility obeyed."""
        bounds = made.bounds()
        at = np.searchsorted(self.seen, np.array(bounds.fractions) - 1e-9)
        z = self.z[:, at]
        out = (np.abs(z) >= bounds.efficacy) | (z < bounds.futility)
        first = out.argmax(1)
        ended, rows = np.array(bounds.efficacy)[first], np.arange(len(z))
        return z[rows, first] >= ended, z[rows, first] <= -ended


def watch(runs: int, people: int, effect: float, rng: np.random.Generator, checks: int = CHECKS) -> Watch:
    """Reward per request of people whose tastes and numbers of requests differ; ``people`` per arm.

    Requests are 1 + Poisson(2) a person, rewards Poisson at the person's rate, gamma around 0.5 (sd 0.25);
    the treatment adds ``effect`` to the mean rate.
    """
    ends = np.linspace(0, people, checks + 1).astype(int)[1:]
    parts = []
    for extra in (0.0, effect):
        counts = 1.0 + rng.poisson(2, (runs, people))
        totals = rng.poisson(counts * rng.gamma(4, (0.5 + extra) / 4, (runs, people))).astype(float)
        parts.append(ratio_paths(totals, counts, ends))
    (control, one), (treatment, other) = parts
    return Watch(ends / people, (treatment - control) / np.sqrt(one + other))


def ratio_paths(totals: np.ndarray, counts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of sums and its variance by the delta method, after the first ``ends`` people: (runs, c) each."""
    t, c, tt, tc, cc = (
        values.cumsum(1)[:, ends - 1]
        for values in (totals, counts, totals * totals, totals * counts, counts * counts)
    )
    mean = t / c
    spread = tt - 2 * mean * tc + mean * mean * cc
    return mean, spread / (ends - 1) * ends / c**2


def lists(people: int, rng: np.random.Generator, noise: tuple[float, float] = (1.0, 0.5)) -> np.ndarray:
    """float64 (people, 3): clicks on the first ranker's list, on the second's, and the second's lead.

    Twenty items a person with relevance Beta(1, 4); a ranker sees the logit of it with normal ``noise``. A
    click comes with the item's relevance, times 0.8 per place. The lead is of team-draft interleaving, as
    ``credit`` counts it.
    """
    relevance = rng.beta(1, 4, (people, 20))
    logit = np.log(relevance / (1 - relevance))
    rankings = np.stack([np.argsort(-(logit + rng.normal(0, s, logit.shape)), 1) for s in noise])
    attention = 0.8 ** np.arange(10)

    def clicked(items: np.ndarray) -> np.ndarray:
        return rng.random(items.shape) < np.take_along_axis(relevance, items, 1) * attention

    shown = team_draft(rankings, 10, rng)
    votes = credit(shown, clicked(shown.items), 2)
    alone = [clicked(ranking[:, :10]).sum(1) for ranking in rankings]
    return np.stack([*alone, votes[:, 1] - votes[:, 0]], axis=1).astype(float)


def rankers_power(sizes: list[int], runs: int, rng: np.random.Generator) -> tuple[list[float], list[float]]:
    """Share of runs in which the better ranker is found (alpha 0.05): interleaving, then A/B, per size."""
    pool = lists(200_000, rng)
    interleaved, split = [], []
    for people in sizes:
        draw = pool[rng.integers(len(pool), size=(runs, people))]
        plus, minus = (draw[:, :, 2] > 0).sum(1), (draw[:, :, 2] < 0).sum(1)
        p = 2 * stats.binom.sf(np.maximum(plus, minus) - 1, plus + minus, 0.5)
        interleaved.append(float(((p < 0.05) & (plus > minus)).mean()))
        one, other = draw[:, : people // 2, 0], draw[:, people // 2 :, 1]
        error = np.sqrt((one.var(1, ddof=1) + other.var(1, ddof=1)) / (people // 2))
        t = (other.mean(1) - one.mean(1)) / np.maximum(error, 1e-9)
        split.append(float((t > stats.t.ppf(0.975, people - 2)).mean()))
    return interleaved, split


def cases(repeats: int) -> Iterator[Row]:
    """Races first, then the simulations; what is raced must agree."""
    yield _clustered(repeats)
    yield _watching(repeats)
    yield _drafting(repeats)
    _simulate(1000 if repeats < 9 else 10_000)


def _clustered(repeats: int) -> Row:
    rng, people = np.random.default_rng(SEED), 5000
    counts = rng.integers(1, 10, 2 * people)
    whose = np.repeat(np.arange(2 * people), counts)
    value = rng.poisson(rng.gamma(4, 0.125, 2 * people)[whose]).astype(float)
    rows = pd.DataFrame({"value": value, "arm": (whose >= people).astype(float)})

    def ours() -> tuple[float, float]:
        totals = np.bincount(whose, value)
        arms = [
            Clusters(totals[side], counts[side].astype(float))
            for side in (slice(people), slice(people, None))
        ]
        found = difference(*arms)
        return found.low, found.high

    def theirs() -> tuple[float, float]:
        fitted = smf.ols("value ~ arm", rows).fit(cov_type="cluster", cov_kwds={"groups": whose})
        low, high = fitted.conf_int().loc["arm"]
        return float(low), float(high)

    _agree(ours(), theirs(), 1e-3)
    peer = f"statsmodels {version('statsmodels')} OLS, clustered"
    return race("interval of 10,000 people's requests", ours, peer, theirs, len(value), "requests/s", repeats)


def _watching(repeats: int) -> Row:
    rng, runs, people = np.random.default_rng(SEED), 20, 400
    counts = 1.0 + rng.poisson(2, (2, runs, people))
    totals = rng.poisson(0.5 * counts).astype(float)
    ends = np.arange(20, people + 1, 20)

    def ours() -> np.ndarray:
        (control, one), (treatment, other) = (
            ratio_paths(t, c, ends) for t, c in zip(totals, counts, strict=True)
        )
        return (treatment - control) / np.sqrt(one + other)

    def theirs() -> np.ndarray:
        z = np.empty((runs, len(ends)))
        for run in range(runs):
            for i, end in enumerate(ends):
                arms = [Clusters(totals[arm, run, :end], counts[arm, run, :end]) for arm in range(2)]
                gap = arms[1].mean - arms[0].mean
                z[run, i] = gap / (arms[0].variance + arms[1].variance) ** 0.5
        return z

    _agree(ours().ravel(), theirs().ravel(), 1e-9)
    return race(
        "A/A runs watched 20 times", ours, "a loop over runs and looks", theirs, runs, "runs/s", repeats
    )


def _drafting(repeats: int) -> Row:
    rng, people = np.random.default_rng(SEED), 2000
    rankings = rng.permuted(np.broadcast_to(np.arange(50), (2, people, 50)), axis=2)
    plain = rankings.transpose(1, 0, 2).tolist()

    def ours() -> object:
        return team_draft(rankings, 10, np.random.default_rng(1))

    def theirs() -> object:
        draw, made = np.random.default_rng(1), []
        for pair in plain:
            items: list[int] = []
            taken: set[int] = set()
            while len(items) < 10:
                for ranker in (0, 1) if draw.random() < 0.5 else (1, 0):
                    if len(items) < 10:
                        items.append(next(item for item in pair[ranker] if item not in taken))
                        taken.add(items[-1])
            made.append(items)
        return made

    return race("team-draft lists of 10", ours, "a loop over lists", theirs, people, "lists/s", repeats)


def _agree(ours: object, theirs: object, tolerance: float) -> None:
    if not np.allclose(ours, theirs, atol=tolerance):
        raise SystemExit(f"the two disagree: {ours} and {theirs}")


def _simulate(runs: int) -> None:
    """Print how often each way of watching is right, and draw it."""
    rng, people, made = np.random.default_rng(SEED), 1500, design(5)
    effects = np.linspace(0, 0.09, 7)
    found: dict[str, list[float]] = {name: [] for name in COLOURS}
    false = 0.0
    for effect in tqdm(effects, desc="experiments", unit="effect"):
        parts = [watch(500, people, float(effect), rng) for _ in range(runs // 500)]
        wins = {
            "fixed interval": [part.fixed() for part in parts],
            "confidence sequence": [part.sequence() for part in parts],
            "group sequential": [part.group_sequential(made)[0] for part in parts],
        }
        if effect == 0:
            false = float(
                np.concatenate([np.logical_or(*part.group_sequential(made)) for part in parts]).mean()
            )
        for name, each in wins.items():
            found[name].append(float(np.concatenate(each).mean()))
    sizes = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120]
    interleaved, split = rankers_power(sizes, max(200, runs // 20), rng)
    print(f"\n{runs:,} runs of {2 * people:,} people, looked at {CHECKS} times (group sequential: 5)")
    print(f"{'':<22}{'false verdicts':>16}" + "".join(f"{f'+{e:.3f}':>9}" for e in effects[1:]))
    for name, shares in found.items():
        wrong = false if name == "group sequential" else shares[0]
        print(f"{name:<22}{wrong:>16.1%}" + "".join(f"{share:>9.1%}" for share in shares[1:]))
    print(f"\nbetter ranker found{'':<4}" + "".join(f"{size:>7,}" for size in sizes) + "  people")
    for name, shares in (("interleaving", interleaved), ("A/B", split)):
        print(f"{name:<23}" + "".join(f"{share:>7.0%}" for share in shares))
    _plot(effects, found, false, sizes, {"team-draft interleaving": interleaved, "A/B": split})


def _plot(
    effects: np.ndarray,
    found: dict[str, list[float]],
    false: float,
    sizes: list[int],
    rankers: dict[str, list[float]],
) -> None:
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    wrong = [false if name == "group sequential" else shares[0] for name, shares in found.items()]
    left.barh(list(found), [100 * share for share in wrong], color=[COLOURS[name] for name in found])
    left.axvline(5, color="black", linewidth=1, linestyle=":")
    left.set(title="false verdicts without a difference", xlabel="% of runs; dotted: 5 %")
    for name, shares in found.items():
        if name != "fixed interval":
            middle.plot(100 * effects[1:] / 0.5, shares[1:], "o-", label=name, color=COLOURS[name])
    middle.set(title="found within the planned people", xlabel="true lift, %", ylabel="share of runs")
    for (name, shares), style in zip(rankers.items(), ("o-", "s--"), strict=True):
        right.plot(sizes, shares, style, label=name)
    right.set(title="a better ranker found", xlabel="people", xscale="log", ylabel="share of runs")
    for axis in (middle, right):
        axis.axhline(0.8, color="black", linewidth=1, linestyle=":")
        axis.legend(frameon=False, fontsize=9)
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=130, metadata={"Software": None})
    print(f"\nplot: {PLOT}")


if __name__ == "__main__":
    main(cases, __doc__)
