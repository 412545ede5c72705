"""Every model on one log, seed by seed: chosen on the validation's item, judged on the last; resumable."""

import hashlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recloop.agents import sequence
from recloop.agents.sequence import Loss, NextItem, Sizes, fit
from recloop.evaluation.next_item import critic, linear, neighbours, sequences
from recloop.evaluation.next_item.resampling import at_least, by_person
from recloop.evaluation.next_item.sequences import Log, Part, ndcg, ranks, weighted

AT_ONCE = 128  # people scored at once
BLENDS = (0.25, 0.5, 1.0, 2.0)
QUICK = {"bce": Sizes(epochs=36), "softmax": Sizes(epochs=16)}
FULL: dict[str, Sizes] = {"bce": Sizes(), "softmax": Sizes()}
TITLES = {
    "random": "random",
    "popular": "most popular",
    "item_knn": "item neighbours (cosine)",
    "ease": "EASE",
    "sasrec_bce": "SASRec, BCE, one negative",
    "sasrec_softmax": "SASRec, softmax over all items",
    "linear": "linear next item, closed form",
    "ours": "ours: softmax + linear",
    "ours_reinforced": "ours + critic",
}
SEEDED = ("random", "sasrec_bce", "sasrec_softmax", "ours", "ours_reinforced")


@dataclass(frozen=True)
class Result:
    """One model with one seed.

    Attributes:
        validation: float32 (U, N), scores before the second to last item.
        test: float32 (U, N), before the last.
        chosen: what was chosen on the validation.
        seconds: of fitting, choosing and scoring.
    """

    validation: np.ndarray
    test: np.ndarray
    chosen: dict[str, float]
    seconds: float


class Bench:
    """Fits models on a log. Transformers, which take long, are kept in ``folder``: a run that was stopped
    goes on, and one of another log, other sizes or other code begins anew."""

    def __init__(self, log: Log, sizes: dict[str, Sizes], folder: Path) -> None:
        self.log, self.sizes = log, sizes
        self.learnt = log.learnt()
        self.known: dict[Part, Log] = {part: log.known(part) for part in ("validation", "test")}
        self.folder = folder / _fingerprint(log, sizes)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bar: tqdm | None = None
        self._head: tuple[int | None, float] | None = None
        self._critics: list[tuple[dict[str, float], dict[Part, np.ndarray]]] = []

    def run(self, seeds: int) -> dict[str, list[Result]]:
        """Per name of ``TITLES`` a result per seed, or one where no luck is involved."""
        plan = [(seed, name) for seed in range(seeds) for name in TITLES if not seed or name in SEEDED]
        plan.sort(key=lambda step: step[1] == "ours_reinforced")  # one head for all seeds, so it comes last
        found: dict[str, list[Result]] = {name: [] for name in TITLES}
        with tqdm(plan, desc="benchmark", unit="model", mininterval=1) as self.bar:
            for seed, name in self.bar:
                self.bar.set_postfix_str(f"{name}, seed {seed}")
                found[name].append(self._result(name, seed, found))
        return found

    def score(self, scores: np.ndarray, part: Part = "validation") -> tuple[float, float]:
        """NDCG, and reward-weighted NDCG."""
        target, reward = self.log.hidden(part)
        values = ndcg(ranks(scores, self.known[part], target))
        return float(values.mean()), weighted(values, reward)

    def _result(self, name: str, seed: int, found: dict[str, list[Result]]) -> Result:
        began = time.perf_counter()
        scores, chosen = self._fit(name, seed, found)
        seconds = chosen.pop("seconds", time.perf_counter() - began)  # of when it was fitted, if it was kept
        return Result(scores["validation"], scores["test"], chosen, seconds)

    def _fit(
        self, name: str, seed: int, found: dict[str, list[Result]]
    ) -> tuple[dict[Part, np.ndarray], dict[str, float]]:
        match name:
            case "random":
                return self._both(lambda known: neighbours.random(known, seed)), {}
            case "popular":
                return self._both(lambda known: neighbours.popular(self.learnt, known)), {}
            case "item_knn":
                return self._best("neighbours", neighbours.NEIGHBOURS, neighbours.cosine)
            case "ease":
                return self._best("penalty", neighbours.PENALTIES, neighbours.ease)
            case "sasrec_bce":
                return self._kept("bce", seed)
            case "sasrec_softmax":
                return self._kept("softmax", seed)
            case "linear":
                return self._imitate()
            case "ours":
                return self._blend(found["sasrec_softmax"][seed], found["linear"][0])
            case "ours_reinforced":
                return self._reinforced(found["ours"], seed)
        raise KeyError(name)

    def _both(self, score: Callable[[Log], np.ndarray]) -> dict[Part, np.ndarray]:
        return {part: np.asarray(score(known), np.float32) for part, known in self.known.items()}

    def _best(
        self, word: str, values: Any, weights: Callable[[Log, Any], np.ndarray]
    ) -> tuple[dict[Part, np.ndarray], dict[str, float]]:
        """The value of one parameter with the best validation."""
        known, tried = self.known["validation"], {value: weights(self.learnt, value) for value in values}
        worth = {value: self.score(neighbours.by_items(known, w))[0] for value, w in tried.items()}
        best = max(worth, key=worth.__getitem__)
        return self._both(lambda known: neighbours.by_items(known, tried[best])), {word: best}

    def _kept(self, loss: Loss, seed: int) -> tuple[dict[Part, np.ndarray], dict[str, float]]:
        """A transformer's scores, from the folder where they are there."""
        file = self.folder / f"{loss}-{seed}.npz"
        if not file.exists():
            began = time.perf_counter()
            scores, chosen = self._transformer(loss, seed)
            chosen["seconds"] = time.perf_counter() - began
            part = file.with_suffix(".part.npz")
            np.savez(part, validation=scores["validation"], test=scores["test"], **chosen)  # type: ignore[arg-type]
            part.rename(file)
        with np.load(file, allow_pickle=False) as kept:
            scores = {"validation": kept["validation"], "test": kept["test"]}
            return scores, {name: float(kept[name]) for name in ("passes", "seconds")}

    def _transformer(self, loss: Loss, seed: int) -> tuple[dict[Part, np.ndarray], dict[str, float]]:
        torch.set_num_threads(1)  # two threads wait for each other on networks this small
        passes = [0]

        def score(model: NextItem, known: Log) -> np.ndarray:
            rows = known.items
            return np.concatenate(
                [model.rank(rows[at : at + AT_ONCE]) for at in range(0, len(rows), AT_ONCE)]
            )

        def say(epoch: int) -> None:
            passes[0] = epoch
            if self.bar is not None:
                self.bar.set_postfix_str(f"sasrec_{loss}, seed {seed}, pass {epoch}")

        def judge(model: NextItem) -> float:
            return self.score(score(model, self.known["validation"]))[0]

        model = fit(self.learnt.items, self.log.count, loss, self.sizes[loss], seed, judge, say)
        return self._both(lambda known: score(model, known)), {"passes": passes[0]}

    def _imitate(self) -> tuple[dict[Part, np.ndarray], dict[str, float]]:
        where = {part: linear.states(known) for part, known in self.known.items()}
        tried = {penalty: linear.fit(self.learnt, penalty) for penalty in linear.PENALTIES}
        worth = {p: self.score(where["validation"] @ weights)[0] for p, weights in tried.items()}
        best = max(worth, key=worth.__getitem__)
        return {part: state @ tried[best] for part, state in where.items()}, {"penalty": best}

    def _blend(self, one: Result, two: Result) -> tuple[dict[Part, np.ndarray], dict[str, float]]:
        """Standardised scores of one plus a weight times the other's, with the best weight in validation."""
        tried = {w: _z(one.validation) + w * _z(two.validation) for w in BLENDS}
        best = max(tried, key=lambda w: self.score(tried[w])[0])
        return {"validation": tried[best], "test": _z(one.test) + best * _z(two.test)}, {"weight": best}

    def _reinforced(self, ours: list[Result], seed: int) -> tuple[dict[Part, np.ndarray], dict[str, float]]:
        if self._head is None:
            self._head = self._safest(ours)
        at, beta = self._head
        base: dict[Part, np.ndarray] = {"validation": ours[seed].validation, "test": ours[seed].test}
        if at is None:
            return base, {"beta": 0.0}
        sizes, log_q = self._judged()[at]
        return {part: base[part] + beta * log_q[part] for part in base}, sizes | {"beta": beta}

    def _safest(self, ours: list[Result]) -> tuple[int | None, float]:
        """Critic and beta of the head whose plain NDCG on the validation is safest, among those that surely
        lift reward-weighted NDCG there; None where none does. Bounds are of the ratios to ours, over people
        and seeds, for all heads together."""
        best: tuple[int | None, float] = (None, 0.0)
        safest = -np.inf
        target, reward = self.log.hidden("validation")
        people = len(self.log.items)
        weight = by_person(reward, people)

        def values(more: np.ndarray | float) -> np.ndarray:
            found = [ndcg(ranks(one.validation + more, self.known["validation"], target)) for one in ours]
            return by_person(np.stack(found), people)

        before, critics = values(0.0), self._judged()
        heads = list(itertools.product(range(len(critics)), critic.BETAS))
        for at, beta in heads:
            after = values(beta * critics[at][1]["validation"])
            plain = at_least(after, before, np.ones(weight.shape), len(heads))
            if plain > safest and at_least(after, before, weight, len(heads)) > 1:
                best, safest = (at, beta), plain
        return best

    def _judged(self) -> list[tuple[dict[str, float], dict[Part, np.ndarray]]]:
        """Every critic's sizes and the log of its values; no luck is involved, so seeds share them."""
        if not self._critics:
            for shrink, penalty in itertools.product(critic.SHRINKS, critic.PENALTIES):
                one = critic.Critic.fit(self.learnt, shrink, penalty)
                values = self._both(lambda known, one=one: np.log(one.values(known)))  # type: ignore[misc]
                self._critics.append(({"shrink": shrink, "penalty": penalty}, values))
        return self._critics


def _z(scores: np.ndarray) -> np.ndarray:
    centred = scores - scores.mean(1, keepdims=True)
    return centred / np.maximum(centred.std(1, keepdims=True), 1e-9)


def _fingerprint(log: Log, sizes: dict[str, Sizes]) -> str:
    """Of all that a transformer's scores depend on."""
    digest = hashlib.sha256(repr(sizes).encode())
    for row in log.items:
        digest.update(row.tobytes() + b"/")
    for file in (sequence.__file__, sequences.__file__):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]
