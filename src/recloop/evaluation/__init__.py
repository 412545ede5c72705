"""Evaluation: value in markets, off-policy estimates, ranking metrics, and the report of them."""

from recloop.evaluation.compare import compare
from recloop.evaluation.judge import Judge
from recloop.evaluation.off_policy import Estimate, Log, estimate, read_log
from recloop.evaluation.protocols import Hidden, leave_last_out, rank_all, time_split
from recloop.evaluation.ranking import ranking_metrics, top_k
from recloop.evaluation.report import evaluate, write_report
from recloop.evaluation.translate import sampler_for
from recloop.evaluation.value import Returns, mean_interval, paired, value_in_market

__all__ = [
    "Estimate",
    "Hidden",
    "Judge",
    "Log",
    "Returns",
    "compare",
    "estimate",
    "evaluate",
    "leave_last_out",
    "mean_interval",
    "paired",
    "rank_all",
    "ranking_metrics",
    "read_log",
    "sampler_for",
    "time_split",
    "top_k",
    "value_in_market",
    "write_report",
]
