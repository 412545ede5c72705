"""What a slot does, without HTTP: from a person and a moment to a slate."""

import logging
import time
from collections.abc import Sequence

import numpy as np

from recloop.policy import NothingLeft, Policy, Slates
from recloop.schema import Slate, now_us
from recloop.serving.messages import UNFIT
from recloop.serving.meters import Meters
from recloop.serving.past import Past

log = logging.getLogger("recloop.slot")
QUICK = 0.001  # seconds


class Recommender:
    """Draws slates from a policy for people whose past it reads fresh from the store.

    Attributes:
        policy: what scores.
        past: what is known of people.
        meters: what is counted of it.
    """

    def __init__(self, policy: Policy, past: Past) -> None:
        self.policy, self.past, self.meters = policy, past, Meters(policy.manifest.name)
        self._rng = np.random.default_rng()

    def is_quick(self) -> bool:
        """Whether an answer takes less time than handing it to a thread and back would save."""
        spent = []
        for _ in range(5):
            begun = time.perf_counter()
            self._draw(self.policy.spec.observation(None, [], "", 0), self.policy.manifest.slate, None)
            spent.append(time.perf_counter() - begun)
        return self.past.near and min(spent) < QUICK

    def recommend(
        self,
        request_id: str,
        user_id: str,
        device: str = "unknown",
        ts: int | None = None,
        k: int | None = None,
        exclude: Sequence[str] = (),
    ) -> tuple[Slate, str]:
        """A slate of ``k`` items (the policy's own size where None), less where the catalogue has less; and
        what was known of the person's history, as ``Known`` says it.

        ``ts`` is in µs since 1970, UTC; now, if None. Items of ``exclude`` that are not known are
        passed over.

        Raises:
            NothingLeft: no item may be shown.
        """
        policy, spec = self.policy, self.policy.spec
        known = [spec.index[item] for item in exclude if item in spec.index]
        excluded = np.array(known, np.int64) if known else None
        size, moment = k or policy.manifest.slate, now_us() if ts is None else ts
        user, liked, history = self.past.of(user_id, spec.history, spec.rating_positive)
        begun = time.perf_counter()
        try:
            drawn = self._draw(spec.observation(user, liked, device, moment), size, excluded)
        except NothingLeft:
            raise
        except ValueError as error:  # the scores are not finite: a profile beyond all that was trained on
            log.error("who asked with request %s is served as a stranger: %s", request_id, error)
            liked, history = [], UNFIT
            drawn = self._draw(spec.observation(None, liked, device, moment), size, excluded)
        self.meters.ranking.observe(time.perf_counter() - begun)
        self.meters.people[history].inc()
        items = [policy.items[i] for i in drawn.items[0]]
        slate = Slate.model_construct(
            request_id=request_id,
            items=[item.item_id for item in items],
            titles=[item.title for item in items],
            scores=drawn.scores[0].tolist(),
            propensities=drawn.propensities[0].tolist(),
            policy=policy.manifest.name,
            cold_start=not liked,
            fallback=False,
        )
        return slate, history

    def _draw(self, observation: dict[str, np.ndarray], k: int, excluded: np.ndarray | None) -> Slates:
        return self.policy.sampler.slates(observation, k, self._rng, excluded)
