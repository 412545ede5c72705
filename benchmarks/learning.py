"""What is learnt by equal training: return of greedy sessions beside RLlib's own, stable-baselines3 and plain
loops in torch.

All as in `benchmarks.training`: the same market, network, batches, rate and gradient updates per env step,
which are counted. The return is a mean over the second half of learning, of 4,000 people at each look. A
ratio of 1 is the aim: whoever is faster must not learn anything else. RLlib's DQN, which would take five
minutes a seed, is left out of the trainings of their own.

Trainings of their own differ by a tenth from seed to seed, whoever trains. So RLlib's learner also learns
beside ours from each batch that ours has collected, from the same weights: rounding alone then tells them
apart, and twice as many seeds bound the ratio of their returns closely.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.race import Row, main
from benchmarks.trainees.baselines import baselines
from benchmarks.trainees.ours import ours
from benchmarks.trainees.plain import plain
from benchmarks.trainees.returns import compare, learnt, side_by_side
from benchmarks.trainees.rllib import stock
from benchmarks.trainees.world import Trainee, agent
from recloop.agents.cluster import cluster
from recloop.settings.params import AgentParams

STEPS = {"ppo": 262_144, "dqn": 65_536}
PAIRED = 2  # seeds for each repeat where both learn from the same experience, which takes little
TOLERANCE = 0.07  # of the number of updates: RLlib's rounds are of no fixed length
TRAINEES: dict[str, Callable[[AgentParams, int], Trainee]] = {
    "recloop": ours,
    "a plain loop in torch": plain,
    "stable-baselines3, vectorised": partial(baselines, vectorised=True),
    "RLlib, vectorised": partial(stock, vectorised=True),
}


def cases(repeats: int) -> Iterator[Row]:
    """PPO and DQN, as many seeds as repeats."""
    torch.set_num_threads(1)
    with cluster(workers=2):
        for case, steps in STEPS.items():
            found: dict[str, list[float]] = defaultdict(list)
            names = [name for name in TRAINEES if case == "ppo" or not name.startswith("RLlib")]
            plan = [(seed, name) for seed in range(repeats) for name in names]
            for seed, name in tqdm(plan, desc=case, unit="training", mininterval=1):
                value, updates = learnt(partial(TRAINEES[name], agent(case, steps)), steps, seed)
                if name == "recloop":
                    ours_took = updates
                if abs(updates - ours_took) > TOLERANCE * ours_took:
                    raise SystemExit(
                        f"{case}: {ours_took} gradient updates, {name} {updates}: that is not fair"
                    )
                found[name].append(value)
            mine = np.array(found.pop("recloop"))
            yield from (compare(case, mine, name, np.array(values)) for name, values in found.items())
            yield same_experience(case, steps, PAIRED * repeats)


def same_experience(case: str, steps: int, seeds: int) -> Row:
    """Ours beside RLlib's learner on each batch of ours."""
    plan = tqdm(range(seeds), desc=f"{case}, the same experience", unit="training", mininterval=1)
    mine, other = np.array([side_by_side(agent(case, steps), seed) for seed in plan]).T
    return compare(case, mine, "RLlib's learner on the same experience", other)


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=12, quick=2)
