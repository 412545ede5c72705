"""What a slot does, without HTTP: from a person and a moment to a slate."""

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from recloop.policy import Policy
from recloop.schema import Slate, User, now_us
from recloop.store import find_user, history


class Recommender:
    """Draws slates from a policy for people whose past it reads fresh from the store.

    Attributes:
        policy: what scores.
        engine: the store; None where there is none, and then everybody is a stranger.
    """

    def __init__(self, policy: Policy, engine: Engine | None) -> None:
        self.policy, self.engine = policy, engine
        self._rng = np.random.default_rng()

    def _person(self, user_id: str) -> tuple[User | None, list[str]]:
        if self.engine is None:
            return None, []
        spec = self.policy.spec
        try:
            user = find_user(self.engine, user_id)
            return user, history(self.engine, user_id, spec.history, spec.rating_positive)
        except SQLAlchemyError:  # a slate for a stranger is better than none
            return None, []

    def recommend(
        self, request_id: str, user_id: str, device: str, ts: int | None, k: int | None, exclude: list[str]
    ) -> Slate:
        """A slate of ``k`` items (the policy's own size where None), less where the catalogue has less.

        Raises:
            ValueError: no item is left.
        """
        policy, spec = self.policy, self.policy.spec
        user, past = self._person(user_id)
        observation = spec.observation(user, past, device, now_us() if ts is None else ts)
        excluded = None
        if exclude:
            excluded = np.zeros(len(spec.item_ids), bool)
            excluded[[spec.index[item] for item in exclude if item in spec.index]] = True
        drawn = policy.sampler.slates(observation, k or policy.manifest.slate, self._rng, excluded)
        items = [policy.items[i] for i in drawn.items[0]]
        return Slate.model_construct(
            request_id=request_id,
            items=[item.item_id for item in items],
            titles=[item.title for item in items],
            scores=drawn.scores[0].tolist(),
            propensities=drawn.propensities[0].tolist(),
            policy=policy.manifest.name,
            cold_start=not past,
            fallback=False,
        )
