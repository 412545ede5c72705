"""What a policy would have earned on a log that another policy wrote, or why the log cannot tell.

``log`` weighs logged requests by one target policy; ``estimators`` (one request), ``sequence`` (sessions)
and ``slate`` (marginals) are pure functions of arrays; ``intervals`` go around any of them; ``diagnostics``
refuse; ``choice`` picks. docs/evaluation.md says which when.
"""

from recloop.evaluation.off_policy.choice import choose, slope
from recloop.evaluation.off_policy.diagnostics import Calibration, Diagnosis, calibrate, diagnose
from recloop.evaluation.off_policy.estimate import Estimate, Method, estimate, estimates
from recloop.evaluation.off_policy.estimators import CLIP, ESTIMATORS, Weighed
from recloop.evaluation.off_policy.intervals import bootstrap, clustered_bernstein, empirical_bernstein
from recloop.evaluation.off_policy.log import Log, Weighting, predicted_reward, read_log
from recloop.evaluation.off_policy.sequence import SEQUENCE_ESTIMATORS, Sequences, sessions

__all__ = [
    "CLIP",
    "ESTIMATORS",
    "SEQUENCE_ESTIMATORS",
    "Calibration",
    "Diagnosis",
    "Estimate",
    "Log",
    "Method",
    "Sequences",
    "Weighed",
    "Weighting",
    "bootstrap",
    "calibrate",
    "choose",
    "clustered_bernstein",
    "diagnose",
    "empirical_bernstein",
    "estimate",
    "estimates",
    "predicted_reward",
    "read_log",
    "sessions",
    "slope",
]
