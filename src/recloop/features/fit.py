"""The specification that training people, their requests and the catalogue call for."""

import json

import numpy as np
import polars as pl

from recloop.features.people import Column, People
from recloop.features.spec import FeatureSpec, Scale
from recloop.settings.params import FeatureParams, RewardParams

MOST_VALUES = 24


def fit_spec(
    people: People, devices: set[str], items: list[str], params: FeatureParams, reward: RewardParams
) -> FeatureSpec:
    """The specification for these people and the devices that they used."""
    categories, scales = {}, {}
    for name, (values, which) in people.columns.items():
        counts = np.bincount(which, minlength=len(values))
        words: dict[str, int] = {}
        for value, count in zip(values, counts.tolist(), strict=True):
            if isinstance(value, str) and count:
                words[value] = words.get(value, 0) + count
        if words:
            most = sorted(words, key=lambda word: (-words[word], word))[:MOST_VALUES]
            categories[name] = tuple(sorted(most))
            continue
        known = np.array([isinstance(value, int | float) for value in values], bool)
        table = np.array([v if k else 0 for v, k in zip(values, known, strict=True)], float)
        numbers = table[which][known[which]]
        if len(numbers):
            scales[name] = Scale(mean=float(np.mean(numbers)), std=float(np.std(numbers)) or 1.0)
    return FeatureSpec(
        item_ids=tuple(items),
        categories=categories,
        scales=scales,
        devices=tuple(sorted(devices))[:MOST_VALUES],
        history=params.history,
        rating_positive=reward.rating_positive,
    )


def read_people(users: pl.DataFrame) -> People:
    """The people of these rows of ``schema.arrow.USERS``; a row of nulls is a stranger."""
    texts, which = _coded(users["attributes"])
    read = [json.loads(text or "{}") for text in texts]
    columns: dict[str, Column] = {name: _coded(users[name]) for name in ("sex", "region")}
    for name in sorted({name for attributes in read for name in attributes}):
        columns.setdefault(name, ([attributes.get(name) for attributes in read], which))
    return People(users["age"].cast(pl.Float64).fill_null(np.nan).to_numpy(), columns)


def _coded(values: pl.Series) -> Column:
    """The distinct values, and which of them each is."""
    distinct = values.unique(maintain_order=True)
    order = pl.DataFrame({"value": distinct, "at": np.arange(len(distinct))})
    found = pl.DataFrame({"value": values}).join(
        order, on="value", how="left", nulls_equal=True, maintain_order="left"
    )
    return distinct.to_list(), found["at"].to_numpy()
