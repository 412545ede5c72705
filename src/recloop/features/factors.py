"""Items by who liked them: a truncated singular value decomposition."""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from recloop.features.fit import upright


def behaviour(user: np.ndarray, item: np.ndarray, items: int, components: int) -> np.ndarray:
    """float32 (N, D): right singular vectors of the matrix of people and the items that they liked.

    Each act (``user``, ``item``, both (M,), of the train split) is a 1. A row has length 1; that of an item
    which nobody liked is 0. Of fewer than D + 1 people or items there are fewer directions: the other columns
    are 0.
    """
    matrix = csr_array((np.ones(len(item)), (user, item)), shape=(int(user.max(initial=0)) + 1, items))
    matrix.data[:] = 1
    wanted = min(components, min(matrix.shape) - 1)
    found = np.zeros((items, components), np.float32)
    if wanted < 1 or not matrix.nnz:
        return found
    _, values, directions = svds(matrix, k=wanted, v0=np.ones(min(matrix.shape)))
    order = np.argsort(-values)
    placed = (upright(directions[order]) * values[order, None]).T
    length = np.linalg.norm(placed, axis=1, keepdims=True)
    found[:, :wanted] = placed / np.where(length > 1e-9, length, 1)
    return found
