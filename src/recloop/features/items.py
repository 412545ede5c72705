"""Item features: category, price and attributes as one matrix."""

import json

import numpy as np
import polars as pl

MOST_VALUES = 32


def item_features(items: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """float32 (N, F) in the order of the rows; and what each column tells of, str (F,).

    One-hot ``category``, standardised log ``price`` with a column for its absence, standardised numeric
    attributes, and multi-hot text attributes, whose several values are parted by ``|``; a column of an
    attribute tells of its name.
    """
    attributes = [json.loads(text or "{}") for text in items["attributes"]]
    blocks = [("category", _multi_hot([[category] for category in items["category"]]))]
    if items["price"].is_not_null().any():
        blocks.append(("price", _standard([None if p is None else np.log1p(p) for p in items["price"]])))
    for name in sorted({name for row in attributes for name in row}):
        values = [row.get(name) for row in attributes]
        if any(isinstance(v, str) for v in values):
            blocks.append((name, _multi_hot([[] if v is None else str(v).split("|") for v in values])))
        else:
            blocks.append((name, _standard(values)))
    groups = np.repeat([name for name, _ in blocks], [block.shape[1] for _, block in blocks])
    return np.concatenate([block for _, block in blocks], 1).astype(np.float32), groups


def _multi_hot(rows: list[list[str]]) -> np.ndarray:
    words, counts = np.unique([word for row in rows for word in row] or [""], return_counts=True)
    columns = {
        word: i for i, word in enumerate(sorted(words[np.argsort(-counts, kind="stable")[:MOST_VALUES]]))
    }
    matrix = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        for word in row:
            if word in columns:
                matrix[i, columns[word]] = 1
    return matrix


def _standard(values: list[float | None]) -> np.ndarray:
    numbers = np.array([np.nan if v is None else v for v in values], float)
    missing = np.isnan(numbers)
    centred = numbers - np.nanmean(numbers)
    return np.stack([np.where(missing, 0, centred / (np.nanstd(numbers) or 1)), missing], 1)
