"""What a policy would have earned per request on a log that another policy wrote.

With w_j the ratio of the two policies' probabilities of the item at position j, given those above it,
and r_j the reward at that position, every estimator is ``mean(sum_j W_j r_j)``; W is

    slate      the product of all w: exact, whatever people do with a slate
    prefix     the product of w_1..w_j: exact if a position's reward depends on itself and those above
               it (McInerney et al. 2020, "Counterfactual evaluation of slate recommendations with
               sequential reward interactions", eq. 5). Where people choose among all that they see,
               the items below still are the logged ones; ``dr`` corrects for that by its model
    position   w_j alone: takes the items above as they were logged; least variance, most bias.
               Exact where a request logs one position.

    ips        as above (Horvitz and Thompson 1952)
    snips      each position's sum over its summed weights (Swaminathan and Joachims 2015, eq. 5)
    clipped    W no larger than CLIP (Ionides 2008)
    dr         ``mean(sum_j q_j(x, slate drawn anew) + W_j (r_j - q_j))`` with q from a user model that
               was fitted on other people (Dudík, Langford and Li 2011, eq. 2)
"""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch

from recloop.evaluation.ranking import chunks
from recloop.features import Steps
from recloop.market import UserModel
from recloop.policy import Sampler

CLIP = 20.0
Weighting = Literal["slate", "prefix", "position"]
Method = Literal["ips", "snips", "clipped", "dr"]


@dataclass(frozen=True)
class Log:
    """Logged requests as an estimator for one target policy needs them; R rows, K positions.

    Attributes:
        ratio: float64 (R, K), w; 1 where the row has no such position.
        reward: float64 (R, K).
        real: bool (R, K), the row has the position.
        person: int64 (R,), rows of one person are resampled together.
        predicted: float64 (R, K), q of the logged slate; zeros without a user model.
        direct: float64 (R,), q of a slate drawn from the target policy, summed; zeros without one.
    """

    ratio: np.ndarray
    reward: np.ndarray
    real: np.ndarray
    person: np.ndarray
    predicted: np.ndarray
    direct: np.ndarray

    def weights(self, weighting: Weighting) -> np.ndarray:
        """float64 (R, K): W, 0 where the row has no such position."""
        if weighting == "slate":
            weights = np.repeat(self.ratio.prod(1, keepdims=True), self.ratio.shape[1], 1)
        elif weighting == "prefix":
            weights = self.ratio.cumprod(1)
        else:
            weights = self.ratio
        return np.where(self.real, weights, 0)


@dataclass(frozen=True)
class Estimate:
    """Reward per request, or why it cannot be told.

    Attributes:
        outcome: ``ok``, or ``no-data`` when the log supports no estimate; then the value is None.
        why: the reason of ``no-data``.
        value: mean reward per request.
        low: 95 % percentile interval of a bootstrap over people.
        high: its upper end.
        effective_sample: (sum W)^2 / sum W^2, in rows (Kish 1965).
        mean_weight: near 1 where the logged propensities are right and cover the target policy.
        max_weight: the largest W.
        rows: requests with propensities.
    """

    outcome: Literal["ok", "no-data"]
    why: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    effective_sample: float = 0.0
    mean_weight: float = 0.0
    max_weight: float = 0.0
    rows: int = 0

    def as_dict(self) -> dict[str, float | str | None]:
        """For JSON; what cannot be told is left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}


def read_log(steps: Steps, target: Sampler, user_model: UserModel | None, n_items: int, seed: int) -> Log:
    """Weigh the requests whose propensities are all known; the others say nothing about a policy.

    A reward without a click (a dislike, a view) is put at the last position, whose prefix is the slate.
    """
    real = steps.slate < n_items
    usable = np.flatnonzero((~np.isnan(steps.propensity) | ~real).all(1) & real.any(1))
    real = real[usable]
    last = real.shape[1] - 1 - real[:, ::-1].argmax(1)
    clicked = steps.clicked[usable]
    reward = np.zeros(real.shape)
    reward[np.arange(len(usable)), np.where(clicked >= 0, clicked, last)] = steps.reward[usable]
    ratio, predicted, direct = np.ones(real.shape), np.zeros(real.shape), np.zeros(len(usable))
    rng = np.random.default_rng([seed, 8])
    observations = steps.observation()
    for part in chunks(len(usable), n_items):
        rows = usable[part]
        observation = {name: x[rows] for name, x in observations.items()}
        slates, positions = steps.slate[rows], steps.position[rows]
        chosen = target.propensities(observation, slates)
        ratio[part] = np.where(real[part], chosen / np.where(real[part], steps.propensity[rows], 1), 1)
        if user_model is not None:
            predicted[part] = predicted_reward(user_model, observation, slates, positions)
            anew = np.full_like(slates, n_items)
            drawn = target.slates(observation, slates.shape[1], rng).items
            anew[:, : drawn.shape[1]] = drawn
            anew[~real[part]] = n_items
            direct[part] = predicted_reward(user_model, observation, anew, positions).sum(1)
    return Log(ratio, reward, real, steps.user[usable], predicted, direct)


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
    last = real.shape[1] - 1 - real[:, ::-1].argmax(1)
    reward[np.arange(len(reward)), last] += nothing * choice[:, 0].double().cpu().numpy()
    return np.where(real, reward, 0)


def estimate(
    log: Log, method: Method, weighting: Weighting, minimum: float, bootstrap: int, seed: int
) -> Estimate:
    """Estimate the target policy's reward per request.

    ``minimum`` is the effective sample size, in rows, below which no figure is given; ``bootstrap``
    the number of resamples of people.
    """
    rows = len(log.person)
    if not rows:
        return Estimate("no-data", "no request in the log has propensities")
    weights = log.weights(weighting)
    support = {
        "effective_sample": _effective_sample(weights, log.real),
        "mean_weight": float(weights.sum() / log.real.sum()),
        "max_weight": float(weights.max()),
        "rows": rows,
    }
    if support["effective_sample"] < minimum:
        why = (
            f"{rows} logged requests count for {support['effective_sample']:.0f} of this policy,"
            f" fewer than the {minimum:.0f} that are needed: the two policies are too different"
        )
        return Estimate("no-data", why, **support)  # type: ignore[arg-type]
    if method == "clipped":
        weights = np.minimum(weights, CLIP)
    sums = _sums_by_person(log, weights, with_model=method == "dr")
    value = float(_point(sums.sum(0), method))
    drawn = _point(_resample(sums, bootstrap, seed), method)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate("ok", "", value, float(low), float(high), **support)  # type: ignore[arg-type]


def _effective_sample(weights: np.ndarray, real: np.ndarray) -> float:
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares / real.sum(1).mean() if squares > 0 else 0.0


def _sums_by_person(log: Log, weights: np.ndarray, with_model: bool) -> np.ndarray:
    """float64 (U, 3, K + 1): per person weighted rewards, weights, positions; rows and direct last."""
    people, place = np.unique(log.person, return_inverse=True)
    gained = weights * (log.reward - log.predicted if with_model else log.reward)
    direct = log.direct if with_model else np.zeros(len(log.person))
    columns = (
        np.column_stack([gained, direct]),
        np.column_stack([weights, np.ones(len(log.person))]),
        np.column_stack([log.real, np.ones(len(log.person))]),
    )
    sums = np.zeros((len(people), 3, weights.shape[1] + 1))
    for i, values in enumerate(columns):
        np.add.at(sums[:, i], place, values)
    return sums


def _point(sums: np.ndarray, method: Method) -> np.ndarray:
    """float64 (...,): the estimate from float64 (..., 3, K + 1) sums."""
    gained, weight, count = sums[..., 0, :-1], sums[..., 1, :-1], sums[..., 2, :-1]
    rows, direct = sums[..., 2, -1], sums[..., 0, -1]
    if method == "snips":
        gained = gained * np.divide(count, weight, out=np.zeros_like(count), where=weight > 0)
    return (gained.sum(-1) + direct) / rows


def _resample(sums: np.ndarray, times: int, seed: int) -> np.ndarray:
    """float64 (times, 3, K + 1): sums over people drawn with replacement."""
    rng = np.random.default_rng([seed, 9])
    people = len(sums)
    columns = np.ascontiguousarray(sums.reshape(people, -1).T)
    drawn = [
        np.einsum("cu,u->c", columns, np.bincount(rng.integers(people, size=people), minlength=people))
        for _ in range(times)
    ]
    return np.stack(drawn).reshape(times, *sums.shape[1:])
