"""The log as an estimator for one target policy needs it: ratios of probabilities, rewards, predictions."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch

from recloop.evaluation.ranking import chunks
from recloop.features import Steps
from recloop.market import UserModel
from recloop.policy import Sampler

Weighting = Literal["slate", "prefix", "position"]


@dataclass(frozen=True)
class Log:
    """Logged requests beside one target policy; R rows, K positions.

    Attributes:
        ratio: float64 (R, K), w: the two policies' probabilities of the item at this position, given
            those above it, target by logged; 1 where the row has no such position.
        reward: float64 (R, K).
        real: bool (R, K), the row has the position.
        person: int64 (R,), rows of one person are resampled together.
        session: int64 (R,), rows of one session are one sequence, in their order.
        ts: int64 (R,), when; any unit.
        predicted: float64 (R, K), q: the reward that a model expects of the logged slate.
        direct: float64 (R,), what it expects of the target's slate, summed over positions.
        modelled: whether ``predicted`` and ``direct`` come from a model at all.
        covered: float64 (R,), share of the target's slate that the log shows anywhere.
        missing: requests of the log without propensities; they are no rows.
        certain: requests whose slate was shown with certainty; they are no rows either, since they tell
            nothing about any other slate.
    """

    ratio: np.ndarray
    reward: np.ndarray
    real: np.ndarray
    person: np.ndarray
    session: np.ndarray
    ts: np.ndarray
    predicted: np.ndarray
    direct: np.ndarray
    modelled: bool
    covered: np.ndarray
    missing: int = 0
    certain: int = 0

    @classmethod
    def of(
        cls,
        ratio: np.ndarray,
        reward: np.ndarray,
        *,
        real: np.ndarray | None = None,
        person: np.ndarray | None = None,
        session: np.ndarray | None = None,
        ts: np.ndarray | None = None,
        predicted: np.ndarray | None = None,
        direct: np.ndarray | None = None,
    ) -> Self:
        """A log from arrays: each row is a person of its own, in order, unless told otherwise.

        ``predicted`` and ``direct`` come together or not at all.

        Raises:
            ValueError: a ratio is negative or not finite, or only one of the two predictions is given.
        """
        if not np.isfinite(ratio).all() or (ratio < 0).any():
            raise ValueError("ratios must be finite and not negative: a logged propensity is 0 or missing")
        if (predicted is None) != (direct is None):
            raise ValueError("give both what the model expects of the logged and of the target's slates")
        rows = np.arange(len(ratio))
        return cls(
            ratio=ratio,
            reward=reward,
            real=np.ones(ratio.shape, bool) if real is None else real,
            person=rows if person is None else person,
            session=rows if session is None else session,
            ts=rows if ts is None else ts,
            predicted=np.zeros(ratio.shape) if predicted is None else predicted,
            direct=np.zeros(len(ratio)) if direct is None else direct,
            modelled=predicted is not None,
            covered=np.ones(len(ratio)),
        )

    def weights(self, weighting: Weighting) -> np.ndarray:
        """float64 (R, K): W, 0 where the row has no such position.

        ``slate`` is the product of all w: exact, whatever people do with a slate. ``prefix`` is the
        product of w_1..w_j: exact if a position's reward depends on itself and those above it (McInerney
        et al. 2020, "Counterfactual evaluation of slate recommendations with sequential reward
        interactions", eq. 5). ``position`` is w_j alone: takes the items above as they were logged; least
        variance, most bias; exact where a request logs one position.
        """
        if weighting == "slate":
            weights = np.repeat(self.ratio.prod(1, keepdims=True), self.ratio.shape[1], 1)
        elif weighting == "prefix":
            weights = self.ratio.cumprod(1)
        else:
            weights = self.ratio
        return np.where(self.real, weights, 0)


def read_log(
    steps: Steps,
    target: Sampler,
    user_model: UserModel | None,
    n_items: int,
    seed: int,
    launched: np.ndarray | None = None,
) -> Log:
    """Weigh the requests that were drawn by chance and whose propensities are all known.

    The others say nothing about another policy; they are counted. A reward without a click (a dislike, a
    view) is put at the last position, whose prefix is the slate. ``launched`` int64 (N,) says since when each
    item can be shown, in the unit of ``steps.ts``: what was not there yet is nothing that the target could
    have shown either.
    """
    shown = steps.slate < n_items
    some = shown.any(1)
    known = (~np.isnan(steps.propensity) | ~shown).all(1) & some
    certain = known & (np.where(shown, steps.propensity, 1) >= 1).all(1) & (shown.sum(1) < n_items)
    usable = np.flatnonzero(known & ~certain)
    real = shown[usable]
    reward = np.zeros(real.shape)
    clicked = steps.clicked[usable]
    reward[np.arange(len(usable)), np.where(clicked >= 0, clicked, _last(real))] = steps.reward[usable]
    ever = np.zeros(n_items + 1, bool)
    ever[np.unique(steps.slate[usable])] = True
    ratio, predicted = np.ones(real.shape), np.zeros(real.shape)
    direct, covered = np.zeros(len(usable)), np.ones(len(usable))
    since = np.zeros(n_items, np.int64) if launched is None else launched
    late = np.flatnonzero(since > steps.ts.min(initial=np.iinfo(np.int64).max))
    rng = np.random.default_rng([seed, 8])
    observations = steps.observation()
    for part in chunks(len(usable), n_items):
        rows = usable[part]
        observation = {name: x[rows] for name, x in observations.items()}
        slates, positions = steps.slate[rows], steps.position[rows]
        absent = None if not len(late) else np.where(since[late] > steps.ts[rows, None], late, n_items)
        chosen = target.propensities(observation, slates, absent)
        ratio[part] = np.where(real[part], chosen / np.where(real[part], steps.propensity[rows], 1), 1)
        anew = np.full_like(slates, n_items)
        drawn = target.slates(observation, slates.shape[1], rng, absent).items
        anew[:, : drawn.shape[1]] = drawn
        anew[~real[part]] = n_items
        places = anew < n_items
        covered[part] = (ever[anew] & places).sum(1) / np.maximum(places.sum(1), 1)
        if user_model is not None:
            predicted[part] = predicted_reward(user_model, observation, slates, positions)
            direct[part] = predicted_reward(user_model, observation, anew, positions).sum(1)
    return Log(
        ratio, reward, real, steps.user[usable], steps.session[usable], steps.ts[usable],
        predicted, direct, user_model is not None, covered, int((some & ~known).sum()), int(certain.sum()),
    )  # fmt: skip


@torch.no_grad()
def predicted_reward(
    user_model: UserModel, observation: dict[str, np.ndarray], slates: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """float64 (B, K): the reward that a user model expects at each position of int64 (B, K) slates."""
    model, device = user_model.response, user_model.device
    items = model.items()
    tensors = {name: torch.from_numpy(np.ascontiguousarray(x)).to(device) for name, x in observation.items()}
    shown, places = torch.from_numpy(slates).to(device), torch.from_numpy(positions).to(device)
    liking, extra = model.people(tensors, items)
    utilities = model.utilities(liking, items, shown, places)
    choice = torch.cat([torch.zeros_like(utilities[:, :1]), utilities], 1).softmax(1)
    safe = shown.clamp(max=len(items) - 1)
    more = [model.extra_logit(extra, items, safe[:, j]).sigmoid() for j in range(shown.shape[1])]
    click, beyond, nothing = user_model.worth
    reward = (choice[:, 1:] * (click + beyond * torch.stack(more, 1))).double().cpu().numpy()
    real = slates < len(items)
    reward[np.arange(len(reward)), _last(real)] += nothing * choice[:, 0].double().cpu().numpy()
    return np.where(real, reward, 0)


def _last(real: np.ndarray) -> np.ndarray:
    """int64 (B,): the last position that each row of bool (B, K) has."""
    return real.shape[1] - 1 - real[:, ::-1].argmax(1)
