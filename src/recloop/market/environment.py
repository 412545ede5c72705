"""One person of a market as a Gymnasium environment, for learners that know nothing of batches."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from recloop.market.interface import Market

Seen = dict[str, np.ndarray]


class SinglePerson(gymnasium.Env[Seen, np.ndarray]):
    """One episode is one session: an action is a slate, a reward is the worth of the feedback to it.

    Observations are rows of the market's; an action is int64 (k,) item indices. ``info`` holds
    ``clicked`` (place in the slate, -1 none) and ``bought``. The market must be able to observe.
    """

    def __init__(self, market: Market, slate: int) -> None:
        self.market = market
        self.action_space = spaces.MultiDiscrete(np.full(slate, market.n_items))
        example = {name: x[0].cpu().numpy() for name, x in market.reset(1).items()}
        self.observation_space = spaces.Dict({name: self._space(x) for name, x in example.items()})

    def _space(self, x: np.ndarray) -> spaces.Space:
        if np.issubdtype(x.dtype, np.integer):  # item indices, N for none
            return spaces.MultiDiscrete(np.full(len(x), self.market.n_items + 1))
        return spaces.Box(-np.inf, np.inf, x.shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """Somebody arrives; a seed starts the market's random numbers anew."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.market.seed(seed)
        self.market.reset(1)
        return self._seen(), {}

    def step(self, action: np.ndarray) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Show a slate. Leaving ends the session; a market's horizon is part of leaving."""
        outcome = self.market.step(torch.from_numpy(np.asarray(action, np.int64))[None])
        info = {"clicked": int(outcome.clicked), "bought": bool(outcome.bought)}
        return self._seen(), float(outcome.reward), bool(outcome.done), False, info

    def _seen(self) -> Seen:
        return {name: x[0].cpu().numpy() for name, x in self.market.observe().items()}
