"""Several metrics at once: p values that still mean what they say."""

from collections.abc import Mapping
from typing import Literal

from statsmodels.stats.multitest import multipletests


def corrected(p_values: Mapping[str, float], method: Literal["holm", "fdr_bh"]) -> dict[str, float]:
    """Adjusted p values by name.

    Args:
        p_values: by name; always-valid ones stay valid at any time.
        method: ``holm`` bounds the probability of any false alarm (Holm, "A simple sequentially rejective
            multiple test procedure", Scandinavian Journal of Statistics 6(2), 1979); ``fdr_bh`` the share of
            false ones among the findings (Benjamini and Hochberg, JRSS B 57(1), 1995), where metrics are
            independent or positively dependent.
    """
    if not p_values:
        return {}
    found = multipletests(list(p_values.values()), method=method)[1]
    return dict(zip(p_values, map(float, found), strict=True))
