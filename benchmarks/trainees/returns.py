"""What was learnt: returns of greedy sessions after equal training, seed by seed."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import t
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.race import Row
from benchmarks.trainees.world import Trainee, market
from recloop.agents.network import TwoTower

PEOPLE = 4000
TOLERANCE = 0.07  # of the number of updates: RLlib's rounds are of no fixed length


@torch.no_grad()
def greedy_return(net: TwoTower, seed: int) -> float:
    """Mean return of a session when everyone is shown the item of the highest score."""
    world = market()
    world.seed(seed)
    seen = world.reset(PEOPLE)
    alive, total = torch.ones(PEOPLE, dtype=torch.bool), torch.zeros(PEOPLE)
    while alive.any():
        outcome = world.step(net.q(seen).argmax(1, keepdim=True))
        total += outcome.reward * alive
        alive &= ~outcome.done
        seen = world.observe()
    return float(total.mean())


def learnt(make: Callable[[int], Trainee], steps: int, seeds: int) -> tuple[np.ndarray, int]:
    """Returns, float64 (seeds,), and the number of gradient updates of the first."""
    found, updates = [], []
    for seed in range(seeds):
        trainee, counted = make(seed), [0]
        hook = register_optimizer_step_post_hook(lambda *_, n=counted: n.__setitem__(0, n[0] + 1))
        trainee.run(steps)
        hook.remove()
        found.append(greedy_return(trainee.network(), 1000 + seed))
        updates.append(counted[0])
        trainee.close()
    return np.array(found), updates[0]


def compare(case: str, mine: tuple[np.ndarray, int], peer: str, theirs: tuple[np.ndarray, int]) -> Row:
    """Ratio of mean returns over paired seeds, with the t interval of its jackknife.

    Raises:
        ValueError: they took different numbers of updates.
    """
    (ours, updates), (other, others) = mine, theirs
    if abs(updates - others) > TOLERANCE * updates:
        raise ValueError(f"{case}: {updates} gradient updates, {peer} {others}: the comparison is not fair")
    ratio, count = ours.mean() / other.mean(), len(ours)
    without = [np.delete(ours, i).mean() / np.delete(other, i).mean() for i in range(count)]
    error = np.sqrt((count - 1) / count * np.square(without - np.mean(without)).sum())
    half = float(t.ppf(0.975, count - 1) * error)
    low, high = float(ratio) - half, float(ratio) + half
    return Row(
        case, "return", float(ours.mean()), peer, float(other.mean()), float(ratio), low, high, "higher", None
    )
