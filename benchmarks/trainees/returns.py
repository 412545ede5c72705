"""What was learnt: returns of greedy sessions after equal training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import t
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.race import Row
from benchmarks.trainees.ours import advance
from benchmarks.trainees.same import Peer
from benchmarks.trainees.world import Trainee, market, shape
from recloop.agents.build import build
from recloop.agents.network import TwoTower
from recloop.settings.params import AgentParams

PEOPLE, LOOKS = 4000, 8


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


def learnt(make: Callable[[int], Trainee], steps: int, seed: int) -> tuple[float, int]:
    """The mean return while the second half is learnt, which its last policy alone would tell with more luck;
    and the number of gradient updates."""
    trainee, counted = make(seed), [0]
    hook = register_optimizer_step_post_hook(lambda *_: counted.__setitem__(0, counted[0] + 1))
    trainee.run(steps // 2)
    found = []
    for _ in range(LOOKS):
        trainee.run(steps // (2 * LOOKS))
        found.append(greedy_return(trainee.network(), 1000 + seed))
    hook.remove()
    trainee.close()
    return float(np.mean(found)), counted[0]


def side_by_side(chosen: AgentParams, seed: int) -> tuple[float, float]:
    """The same of ours and of RLlib's learner, which learns from each batch of ours as ours does."""
    algorithm: Any = build(chosen, seed, shape(), market)
    learner, peer = algorithm.learner_group._learner, Peer(chosen, seed)
    peer.follow(learner)
    advance(algorithm, chosen.env_steps // 2)
    found = []
    for _ in range(LOOKS):
        advance(algorithm, chosen.env_steps // (2 * LOOKS))
        found.append([greedy_return(net, 1000 + seed) for net in (learner.plain.net, peer.net)])
    algorithm.stop()
    peer.close()
    mine, other = np.mean(found, axis=0)
    return float(mine), float(other)


def compare(case: str, ours: np.ndarray, peer: str, other: np.ndarray) -> Row:
    """Ratio of mean returns, float64 (seeds,) each, with the t interval of its jackknife."""
    ratio, count = ours.mean() / other.mean(), len(ours)
    without = [np.delete(ours, i).mean() / np.delete(other, i).mean() for i in range(count)]
    error = np.sqrt((count - 1) / count * np.square(without - np.mean(without)).sum())
    half = float(t.ppf(0.975, count - 1) * error)
    low, high = float(ratio) - half, float(ratio) + half
    return Row(
        case, "return", float(ours.mean()), peer, float(other.mean()), float(ratio), low, high, "higher", None
    )
