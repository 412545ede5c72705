"""What is learnt by equal training: return of greedy sessions beside RLlib's own, stable-baselines3 and plain
loops in torch.

All as in `benchmarks.training`: the same market, network, batches, rate and gradient updates per env step,
which are counted. The return is a mean over the second half of learning, of 4,000 people at each look. A
ratio of 1 is the aim: whoever is faster must not learn anything else. RLlib's DQN, which would take five
minutes a seed, is left out.
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
from benchmarks.trainees.returns import compare, learnt
from benchmarks.trainees.rllib import stock
from benchmarks.trainees.world import Trainee, agent
from recloop.agents.cluster import cluster
from recloop.settings.params import AgentParams

STEPS = {"ppo": 262_144, "dqn": 65_536}
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


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=12, quick=2)
