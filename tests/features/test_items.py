"""Item features: hashing, truncated SVD, and selection, against definitions."""

from unicodedata import normalize

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer

from recloop.features.factors import behaviour
from recloop.features.fit import fit_items
from recloop.features.items import ItemSpec
from recloop.schema import Item
from recloop.settings.params import FeatureParams, SelectionParams, TextParams

WORDS = ["piano", "lesson", "guitar", "tax", "advice", "garden", "한국어", "수업", "paint", "portrait"]


def params(**changes):
    return FeatureParams(history=3, session_gap_minutes=30, test_share=0.5, **changes)


def items(count=200, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Item(
            item_id=f"i{i}",
            title=f"Item {i}",
            text=" ".join(rng.choice(WORDS, 8)) if i % 3 else None,
            category=f"c{i % 4}",
            price=float(i) if i % 5 else None,
            attributes={"level": i % 3, "tags": "a|b" if i % 2 else "b", "same": "x"},
        ).model_dump()
        for i in range(count)
    ]


def test_inner_products_of_hashed_texts_are_those_of_the_words():
    """Weinberger et al.: the hashed inner product is unbiased; with many columns it is that of a peer's."""
    rows = items()
    spec = fit_items(rows, params(text=TextParams(columns=4096)))
    matrix, groups = spec.matrix(rows)
    ours = matrix[:, groups == "text"]
    peer = HashingVectorizer(n_features=2**14, token_pattern=r"(?u)\w+")
    theirs = peer.fit_transform([row["text"] or "" for row in rows]).toarray()
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-5)
    told = [row["text"] is not None for row in rows]
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), told, atol=1e-6)


def test_signs_let_collisions_cancel_on_average():
    """In two columns all words collide; with signs the mean of products of unlike texts stays at 0."""
    rows = [Item(item_id=str(i), title="t", text=f"word{i}").model_dump() for i in range(4000)]
    spec = fit_items(rows, params(text=TextParams(columns=2)))
    matrix, groups = spec.matrix(rows)
    left, right = np.split(matrix[:, groups == "text"], 2)
    assert abs((left * right).sum(1).mean()) < 0.05


def test_components_are_those_of_the_truncated_svd():
    rows = items()
    hashed = fit_items(rows, params(text=TextParams(columns=64))).matrix(rows)
    spec = fit_items(rows, params(text=TextParams(columns=64, components=5)))
    reduced, groups = spec.matrix(rows)
    ours = reduced[:, groups == "text"]
    theirs = TruncatedSVD(5, algorithm="arpack").fit_transform(hashed[0][:, hashed[1] == "text"])
    assert ours.shape == (200, 5)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3)


def test_one_item_alone_is_what_it_is_among_all_after_saving():
    rows = items()
    wanted = params(text=TextParams(columns=64, components=5), selection=SelectionParams(variance=0.01))
    spec = fit_items(rows, wanted)
    together, groups = spec.matrix(rows)
    loaded = ItemSpec.model_validate_json(spec.model_dump_json())
    for i in (0, 7, 199):
        alone, same = loaded.matrix(rows[i : i + 1])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)
        assert same.tolist() == groups.tolist()


def test_columns_that_hardly_vary_are_left_out():
    rows = items()
    whole, groups = fit_items(rows, params()).matrix(rows)
    kept, left = fit_items(rows, params(selection=SelectionParams(variance=0.01))).matrix(rows)
    assert set(groups) - set(left) == {"same"}
    np.testing.assert_array_equal(kept, whole[:, whole.var(0) >= 0.01])


def test_items_liked_by_the_same_people_are_near_each_other():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(300), 6)
    item = user % 2 * 20 + rng.integers(0, 20, len(user))  # two tastes; items 40 to 44 are liked by nobody
    found = behaviour(user, item, 45, 2)
    near = found[:40] @ found[:40].T
    taste = np.arange(40) // 20
    same = taste[:, None] == taste
    assert near[same].min() > 0.9
    assert np.abs(near[~same]).max() < 0.1
    assert not found[40:].any()
    np.testing.assert_array_equal(found, behaviour(user, item, 45, 2))
    assert behaviour(user[:0], item[:0], 45, 2).shape == (45, 2)


@pytest.mark.parametrize("columns", [0, 8])
def test_without_texts_there_are_no_columns_of_texts(columns):
    rows = items(10)
    groups = fit_items(rows, params(text=TextParams(columns=columns))).matrix(rows)[1]
    assert (groups == "text").sum() == columns


def test_a_word_is_one_word_however_it_is_written():
    plain = "디자인 logo 123"
    spellings = [plain, normalize("NFD", plain), "디자인 ＬＯＧＯ １２３", "디자인, LOGO 123 🎨"]
    rows = [items(1)[0] | {"text": text} for text in [*spellings, "디자이너 logo 123"]]
    matrix, groups = fit_items(rows, params(text=TextParams(columns=64))).matrix(rows)
    words = matrix[:, groups == "text"]
    for row in words[1:4]:
        np.testing.assert_array_equal(row, words[0])
    assert (words[4] != words[0]).any()


@pytest.mark.parametrize("wrong", [1e12, -1e300, 1.7e308])
def test_one_wrong_number_leaves_the_others_apart_and_counts_as_the_farthest(wrong):
    rows = items()
    plain = fit_items(rows, params()).matrix(rows)[0]
    rows[7]["attributes"]["level"] = wrong
    spec = ItemSpec.model_validate_json(fit_items(rows, params()).model_dump_json())
    matrix, groups = spec.matrix(rows)
    level = np.flatnonzero(groups == "level")[0]
    assert matrix[7, level] == np.sign(wrong) * 10
    others = np.delete(np.arange(len(rows)), 7)
    assert np.abs(matrix[others, level] - plain[others, level]).max() < 1
    assert len(np.unique(matrix[others, level].round(2))) == 3
