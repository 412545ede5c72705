"""Champion against challenger on the same people: what the offline gate reads."""

from pathlib import Path
from typing import Any

from recloop.evaluation.judge import Judge
from recloop.evaluation.slices import slices
from recloop.evaluation.translate import sampler_for
from recloop.evaluation.value import paired
from recloop.policy import Policy
from recloop.settings import Params


def compare(
    champion: Policy | None,
    challenger: Policy,
    user_models: Path,
    features: Path,
    params: Params,
    seed: int,
) -> dict[str, Any]:
    """Judge both policies; ready for JSON.

    ``difference`` is the paired difference of value in the test people's user model (``champion``,
    ``challenger``, ``difference``, ``low``, ``high``), or None without a champion; ``slices`` the same in
    parts of the people (see ``slices.Slice``), empty without one. ``champion`` (or None) and ``challenger``
    hold each one's ``name``, ``value``, ``off_policy`` and ``ranking``.
    """
    judge = Judge.load(features, user_models, params, seed)
    report: dict[str, Any] = {"difference": None, "slices": [], "champion": None}
    returns = {}
    for role, policy in {"champion": champion, "challenger": challenger}.items():
        if policy is None:
            continue
        sampler = sampler_for(policy, judge.spec)
        returns[role] = judge.value(sampler)
        report[role] = {
            "name": policy.manifest.name,
            "value": returns[role].figures(),
            "off_policy": judge.off_policy(sampler),
            "ranking": judge.ranking(sampler),
        }
    if champion is not None:
        report["difference"] = paired(returns["champion"], returns["challenger"])
        report["slices"] = slices(returns["challenger"], returns["champion"], judge.spec, judge.items)
    return report
