"""A policy of an older data version, judged on the features of a newer one.

Its specification may know other items, words and devices. What is observed under the newer one is
rewritten as the older one would have observed it: profile and context by an affine map of their
columns, history and scores by item id. A target encoding that has changed becomes that of a stranger with
the same word.
"""

import numpy as np

from recloop.features import FeatureSpec
from recloop.features.spec import AGE_EDGES
from recloop.policy import Policy, Sampler

Affine = tuple[np.ndarray, np.ndarray]


def sampler_for(policy: Policy, spec: FeatureSpec) -> Sampler:
    """The policy's sampler over ``spec``'s observations and items; items new to it are never drawn."""
    old = policy.spec
    if old == spec:
        return policy.sampler
    profile, context = _profile_map(spec, old), _context_map(spec, old)
    to_old = np.array([old.index.get(i, len(old.item_ids)) for i in spec.item_ids] + [len(old.item_ids)])
    known = to_old[:-1] < len(old.item_ids)
    sold_out = np.ones(len(spec.item_ids), bool)
    own = policy.sampler
    sold_out[known] = False if own.excluded is None else own.excluded[to_old[:-1][known]]

    def score(observation: dict[str, np.ndarray]) -> np.ndarray:
        seen = policy.scores(
            {
                "profile": _apply(profile, observation["profile"]),
                "context": _apply(context, observation["context"]),
                "history": _history(to_old[observation["history"]], old),
            }
        )
        scores = np.zeros((len(seen), len(known)), np.float32)
        scores[:, known] = seen[:, to_old[:-1][known]]
        return scores

    return Sampler(score, own.temperature, own.exploration, sold_out, own.floor)


def _apply(affine: Affine, x: np.ndarray) -> np.ndarray:
    return (x @ affine[0] + affine[1]).astype(np.float32)


def _history(history: np.ndarray, old: FeatureSpec) -> np.ndarray:
    """int64 (B, H of old): unknown items left out, the others moved up."""
    pad = len(old.item_ids)
    order = np.argsort(history == pad, axis=1, kind="stable")
    moved = np.take_along_axis(history, order, 1)[:, : old.history]
    return np.pad(moved, ((0, 0), (0, old.history - moved.shape[1])), constant_values=pad)


def _profile_map(new: FeatureSpec, old: FeatureSpec) -> Affine:
    matrix, bias = np.zeros((new.profile_size, old.profile_size)), np.zeros(old.profile_size)
    ages = len(AGE_EDGES) + 2
    matrix[:ages, :ages] = np.eye(ages)
    places, at = {}, ages
    for name, values in new.categories.items():
        places[name] = at
        at += len(values) + 1
    for name in new.scales:
        places[name] = at
        at += 2
    to = ages
    for name, values in old.categories.items():
        if name in new.categories:
            _words(matrix, places[name], new.categories[name], to, values)
        else:
            bias[to + len(values)] = 1
        to += len(values) + 1
    for name, scale in old.scales.items():
        if name in new.scales:
            start, now = places[name], new.scales[name]
            shift = (now.mean - scale.mean) / scale.std
            matrix[start : start + 2, to : to + 2] = [[now.std / scale.std, 0], [-shift, 1]]
            bias[to] = shift
        else:
            bias[to + 1] = 1
        to += 2
    for name, encoding in old.encodings.items():
        if new.encodings.get(name) == encoding:
            matrix[new.profile_groups[f"{name} encoded"].start, to] = 1
        elif name in new.categories:  # an observation tells nobody's fold
            words = (*new.categories[name], None)
            matrix[places[name] : places[name] + len(words), to] = [encoding.of(w, None) for w in words]
        else:
            bias[to] = encoding.of(None, None)
        to += 1
    return matrix, bias


def _context_map(new: FeatureSpec, old: FeatureSpec) -> Affine:
    matrix = np.zeros((new.context_size, old.context_size))
    matrix[:4, :4] = np.eye(4)
    _words(matrix, 4, new.devices, 4, old.devices)
    return matrix, np.zeros(old.context_size)


def _words(matrix: np.ndarray, at: int, values: tuple[str, ...], to: int, wanted: tuple[str, ...]) -> None:
    """Map one-hot columns with a last one for others; a word that is not wanted becomes other."""
    for i, value in enumerate((*values, None)):
        j = wanted.index(value) if value in wanted else len(wanted)
        matrix[at + i, to + j] = 1
