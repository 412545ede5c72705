"""CUPED: less variance by what people did before the experiment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recloop.experiments.difference import Clusters


@dataclass(frozen=True)
class Covariate:
    """What was known of each person of an arm before the experiment touched them.

    Attributes:
        values: float64 (n,), in the order of the arm's people.
        measured: int64 (n,), µs, the latest moment that went into the value.
        exposed: int64 (n,), µs, the person's first exposure.

    Raises:
        ValueError: something was measured at or after exposure.
    """

    values: np.ndarray
    measured: np.ndarray
    exposed: np.ndarray

    def __post_init__(self) -> None:
        late = int((self.measured >= self.exposed).sum())
        if late:
            raise ValueError(
                f"the covariate of {late} of {len(self.values)} people was measured at or after their"
                " exposure: the treatment may have changed it, and adjusting would take out part of the"
                " effect; use what was known before"
            )


def adjusted(arms: Sequence[Clusters], covariates: Sequence[Covariate]) -> list[Clusters]:
    """The arms with ``theta (x - mean x)`` taken off, one value per person; means of differences stay.

    theta is the covariance within arms over the variance within arms, pooled; ratio metrics enter by their
    linear values (Deng, Xu, Kohavi and Walker, "Improving the Sensitivity of Online Controlled Experiments
    by Utilizing Pre-Experiment Data", WSDM 2013, eq. 2-4 and appendix B). A constant changes nothing.
    """
    values = [np.asarray(covariate.values, float) for covariate in covariates]
    for arm, x in zip(arms, values, strict=True):
        if len(arm.counts) != len(x):
            raise ValueError(f"{len(x)} covariates for {len(arm.counts)} people")
    together, covariance, variance = np.concatenate(values), 0.0, 0.0
    for arm, x in zip(arms, values, strict=True):
        if len(x):
            covariance += float((x - x.mean()) @ arm.linear)
            variance += float((x - x.mean()) @ x)
    theta = covariance / variance if variance > 0 else 0.0
    centre = together.mean() if len(together) else 0.0
    return [
        Clusters(arm.linear - theta * (x - centre), np.ones(len(x)))
        for arm, x in zip(arms, values, strict=True)
    ]
