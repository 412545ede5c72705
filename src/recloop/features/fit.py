"""The specification that training people, their requests and the catalogue call for."""

import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl

from recloop.features.encoding import Encoding
from recloop.features.items import Column as ItemColumn
from recloop.features.items import ItemSpec, Record, Text
from recloop.features.people import Column, People
from recloop.features.scale import Scale
from recloop.features.spec import FeatureSpec
from recloop.schema import composed
from recloop.settings.params import FeatureParams, RewardParams

MOST_DEVICES = 24
MOST_ITEM_WORDS = 32


class DeclarationError(ValueError):
    """params.yaml declares a step that these data have nothing for."""


def fit_spec(
    people: People, devices: set[str], items: Sequence[Record], params: FeatureParams, reward: RewardParams
) -> FeatureSpec:
    """The specification for these people, the devices that they used, and the catalogue."""
    categories, scales = {}, {}
    for name, (values, which) in people.columns.items():
        counts = np.bincount(which, minlength=len(values))
        words: Counter[str] = Counter()
        for value, count in zip(values, counts.tolist(), strict=True):
            if isinstance(value, str) and count:
                words[value] += count
        if words:
            most = sorted(words, key=lambda word: (-words[word], word))[: params.one_hot]
            categories[name] = tuple(sorted(most))
            continue
        known = np.array([isinstance(value, int | float) for value in values], bool)
        table = np.array([v if k else 0 for v, k in zip(values, known, strict=True)], float)
        numbers = table[which][known[which]]
        if len(numbers):
            scales[name] = Scale.fit(numbers, params.farthest)
    return FeatureSpec(
        item_ids=tuple(item["item_id"] for item in items),
        categories=categories,
        scales=scales,
        devices=tuple(sorted(devices))[:MOST_DEVICES],
        history=params.history,
        rating_positive=reward.rating_positive,
        ages=params.ages,
        farthest=params.farthest,
        items=fit_items(items, params),
    )


def fit_encodings(
    people: People, requests: np.ndarray, rewards: np.ndarray, params: FeatureParams
) -> dict[str, Encoding]:
    """For the training people, how many ``requests`` each had and their ``rewards``, both (B,).

    Raises:
        DeclarationError: a column is declared of which nobody has a word.
    """
    wanted = params.target_encoding
    told = [name for name, (values, _) in people.columns.items() if any(isinstance(v, str) for v in values)]
    if unknown := [name for name in wanted.columns if name not in told]:
        raise DeclarationError(
            f"features.target_encoding.columns in params.yaml names {unknown[0]!r}, of which nobody has a"
            f" word; columns with words are {', '.join(told) or 'none'}"
        )
    return {
        name: Encoding.fit(people.each(name), people.ids, requests, rewards, wanted.folds, wanted.smoothing)
        for name in wanted.columns
    }


def fit_items(items: Sequence[Record], params: FeatureParams) -> ItemSpec:
    """How these items become features."""
    columns = [_words(ItemColumn(kind="category", name="category", words=()), items)]
    if any(item["price"] is not None for item in items):
        columns.append(_scaled(ItemColumn(kind="price", name="price"), items, params.farthest))
    for name in sorted({name for item in items for name in item["attributes"]}):
        if any(isinstance(item["attributes"].get(name), str) for item in items):
            columns.append(_words(ItemColumn(kind="attribute", name=name, words=()), items))
        else:
            columns.append(_scaled(ItemColumn(kind="attribute", name=name), items, params.farthest))
    spec = ItemSpec(columns=tuple(columns), text=_fit_text(items, params), farthest=params.farthest)
    if not params.selection.variance:
        return spec
    kept = np.flatnonzero(spec.matrix(items)[0].var(0) >= params.selection.variance)
    return spec.model_copy(update={"kept": tuple(kept.tolist())})


def _fit_text(items: Sequence[Record], params: FeatureParams) -> Text | None:
    """Directions of the most variation: the truncated SVD, by the columns' products with each other."""
    wanted = params.text
    if not wanted.columns:
        return None
    text = Text(columns=wanted.columns)
    if not wanted.components:
        return text
    products = sum((part.T @ part for part in text.hashed(items)), np.zeros((wanted.columns, wanted.columns)))
    directions = np.linalg.eigh(products)[1].T[::-1][: wanted.components]
    return text.model_copy(update={"components": tuple(map(tuple, upright(directions).tolist()))})


def upright(directions: np.ndarray) -> np.ndarray:
    """(D, C) with the sign that makes each row's largest entry positive."""
    largest = np.abs(directions).argmax(1)
    return directions * np.where(directions[np.arange(len(directions)), largest] < 0, -1, 1)[:, None]


def _words(column: ItemColumn, items: Sequence[Record]) -> ItemColumn:
    words, counts = np.unique([w for row in column.values(items) for w in row] or [""], return_counts=True)
    most = words[np.argsort(-counts, kind="stable")[:MOST_ITEM_WORDS]]
    return column.model_copy(update={"words": tuple(sorted(most.tolist()))})


def _scaled(column: ItemColumn, items: Sequence[Record], farthest: float) -> ItemColumn:
    numbers = np.array([number for number in column.values(items) if number is not None], float)
    return column.model_copy(update={"scale": Scale.fit(numbers, farthest)})


def read_people(users: pl.DataFrame) -> People:
    """The people of these rows of ``schema.arrow.USERS``, spelt as in ``User``; of nulls: a stranger."""
    texts, which = _coded(users["attributes"])
    read = [composed(json.loads(text or "{}")) for text in texts]
    regions, where = _coded(users["region"])
    columns: dict[str, Column] = {
        "sex": _coded(users["sex"]),
        "region": ([composed(r) for r in regions], where),
    }
    for name in sorted({name for attributes in read for name in attributes}):
        columns.setdefault(name, ([attributes.get(name) for attributes in read], which))
    ages = users["age"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return People(users["user_id"].to_list(), ages, columns)


def _coded(values: pl.Series) -> Column:
    """The distinct values, and which of them each is."""
    distinct = values.unique(maintain_order=True)
    places = pl.DataFrame({"value": distinct, "at": np.arange(len(distinct))})
    asked = pl.DataFrame({"value": values})
    found = asked.join(places, on="value", how="left", nulls_equal=True, maintain_order="left")
    return distinct.to_list(), found["at"].to_numpy()
