"""Release: from a registered challenger to the champion, or to a refusal with its reasons.

Gates decide: offline (value among people whom no policy learnt from), smoke (the slot answers as it must),
shadow (copies of requests), canary (failures, latency, reward and guardrails among real people, at each
step), A/B test, and whether the switch can be made. No-data never promotes. The flow ``release`` and
``recloop rollout start`` both call ``release``.
"""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from recloop.delivery import rollout, slots
from recloop.delivery.controller import Controller, Hands
from recloop.delivery.gates import Outcome, Verdict, canary, decide, offline
from recloop.delivery.lease import Lease, take
from recloop.delivery.presence import gather
from recloop.delivery.records import salt_of
from recloop.delivery.retirement import tidy
from recloop.delivery.rollout import Fence, Rollout
from recloop.delivery.routing import Target, read_routing
from recloop.delivery.shadow_gate import shadow
from recloop.delivery.smoke import answers
from recloop.delivery.smoke import smoke as warmed
from recloop.delivery.tally import shadow_figures, shadow_name, slot_figures, step_name
from recloop.delivery.trial import planned, trial
from recloop.delivery.wording import Words, program_said, words
from recloop.evaluation import compare
from recloop.evaluation.page import warnings
from recloop.experiments.metrics import metric_named
from recloop.policy import Policy, load
from recloop.registry import Registered, RegistryError, connect, fetch, promote, resolve, versions
from recloop.settings import Params, ParamsError, Places, load_params, places
from recloop.settings.workspace import workspace
from recloop.store import open_store

UNLEARNT = ("random", "most_popular")


class Nothing(RuntimeError):
    """There is no challenger to release."""


def judge(champion: Registered | None, challenger: Registered, say: Callable[[str], None] = print) -> Verdict:
    """The offline gate: challenger against champion, or the first policy against what needs no learning."""
    params = load_params()
    with workspace(say):
        if champion is None:
            return first_of_its_kind(json.loads(Path("reports/evaluation.json").read_text()), params)
        people, features = Path("models/user_model"), Path("data/features")
        report = compare(policy_of(champion), policy_of(challenger), people, features, params, params.seed)
    Path("reports/comparison.json").write_text(json.dumps(report, indent=1) + "\n")
    for text in warnings(report | {"rival": "the champion"}):
        say(f"a slice of people loses: {text}")
    return offline(report["difference"], params.delivery.non_inferiority_margin)


def policy_of(version: Registered) -> Policy:
    """The policy of a registered version."""
    where = places()
    return load(fetch(connect(where), version.version, where.home / "judged" / str(version.version)))


def first_of_its_kind(evaluation: dict[str, Any], params: Params) -> Verdict:
    """Without a champion a policy has to hold its own against the better of random and most popular."""
    values = {name: evaluation["user_model"][name]["value"] for name in UNLEARNT}
    best = max(values, key=values.__getitem__)
    rival, gap = values[best], evaluation["lift"][best]
    figures = {
        "champion": rival,
        "challenger": rival + gap["difference"],
        "low": gap["low"],
        "high": gap["high"],
    }
    verdict = offline(figures, params.delivery.non_inferiority_margin)
    return replace(verdict, why=words("against", rival=words(best), told=verdict.why))


def start_slot(colour: str, challenger: Registered) -> Target:
    """Start the idle slot with the challenger's Bento."""
    return slots.start(places(), colour, challenger.bento, policy_of(challenger).manifest.name)


def smoke(target: Target) -> Verdict:
    """Warm the slot up and judge its answers (``recloop.delivery.smoke``)."""
    where = places()
    engine, k = open_store(where.store), load_params().serving.slate
    return warmed(engine, target, k, where.slot_token.get_secret_value())


def ask_gate(params: Params, engine: Engine, opened: Rollout) -> Verdict:
    """The gate of the state that the rollout is in, on what the store holds now.

    Nothing passes on the counts of some gateways only: one that may serve, but has not been heard of, could
    be the one where the challenger fails. Harm that the others have seen is harm.
    """
    paused = opened.state == "paused"
    state = rollout.paused_in(engine, opened.id) if paused else opened.state
    salt, step = salt_of(opened.id), rollout.step_of(engine, opened.id)
    seen = gather(engine, shadow_name(salt) if step is None else step_name(salt, step.share))
    if state == "shadow":
        well = shadow(params.delivery, shadow_figures(seen.counts))
    else:
        well = canary(engine, opened, params.delivery, params.reward, slot_figures(seen.counts))
    well = replace(well, name=state, figures=dict(well.figures) | {"gateways": seen.alive})
    if seen.lacking:
        outcome: Outcome = "fail" if well.outcome == "fail" else "no-data"
        return replace(well, outcome=outcome, why=words("and", one=well.why, other=seen.lacking))
    if state != "ab" or paused or well.outcome != "pass":
        return well
    return trial(engine, opened, params.reward)


def ready(where: Places, target: Target, k: int) -> Verdict:
    """Whether the switch can be made now; where it cannot, the champion goes on serving."""
    if fault := answers(target, k, where.slot_token.get_secret_value()):
        return Verdict(
            "switch",
            "fail",
            words("slot_silent", url=target.url, fault=fault),
            remedy=words("log_says_end"),
        )
    try:
        resolve(connect(where), "challenger")
    except RegistryError as error:
        return Verdict("switch", "no-data", words("no_registry", fault=program_said(str(error))))
    return Verdict("switch", "pass", words("ready"))


@dataclass(frozen=True)
class Work:
    """The long parts of a release, as they are or as tasks of a flow."""

    judge: Callable[[Registered | None, Registered], Verdict]
    start: Callable[[str, Registered], Target]
    smoke: Callable[[Target], Verdict]


WORK = Work(judge, start_slot, smoke)


def release(
    where: Places,
    params: Params,
    who: str,
    work: Work = WORK,
    say: Callable[[str], None] = print,
    patience: float = 6.0,
) -> list[Verdict]:
    """Roll the challenger out, step by step; the gates' verdicts.

    A rollout that another controller has left, at whatever point, is gone on with.

    Args:
        who: the name in the transitions.
        patience: seconds to wait for a controller that is under way; one that died is replaced sooner.

    Raises:
        Nothing: there is no challenger.
        Conflict: another controller is under way, or has taken over.
        ParamsError: ``delivery`` names a metric that is not known.
    """
    _known(params)
    engine, client = open_store(where.store), connect(where)
    tidy(where, engine, who, params.delivery.keep_warm_seconds)
    with take(engine, f"{who} ({socket.gethostname()}:{os.getpid()})", patience=patience) as lease:
        challenger, routing = resolve(client, "challenger"), read_routing(engine)
        if challenger is None:
            raise Nothing("the registry has no challenger: retrain first")
        if routing and _same(challenger, routing[1].slots[routing[1].champion].policy):
            follow(where, engine)
            say("the challenger is the champion already; the registry says so now")
            return []
        champion = resolve(client, "champion") if routing else None  # who serves nobody is not to be beaten
        if champion is None or routing is None:
            return _first(where, engine, challenger, work, lease, who)
        colour = slots.other(routing[1].champion)
        policy = policy_of(challenger).manifest.name
        opened = open_for(engine, policy, slots.alive(where, colour), who, lease.check)
        if opened.state == "paused":
            last = rollout.transitions_of(engine, opened.id, 1)[0]
            state = rollout.paused_in(engine, opened.id)
            why = words("paused", told=Words(last.why, last.said))
            return [Verdict(state, "no-data", why, remedy=words("resume_it"))]
        hands = Hands(
            judge=lambda: work.judge(champion, challenger),
            start=lambda: work.start(colour, challenger),
            smoke=work.smoke,
            ask=lambda here: ask_gate(params, engine, here),
            plan=lambda: planned(engine, params.delivery, params.reward),
            ready=lambda target: ready(where, target, params.serving.slate),
        )
        controller = Controller(engine, lease, hands, params.delivery, colour, who, say)
        controller.drive(opened.id)
        _clean_up(where, engine, colour, opened, say)
        return list(controller.verdicts.values())


def _first(
    where: Places, engine: Engine, challenger: Registered, work: Work, lease: Lease, who: str
) -> list[Verdict]:
    colour = slots.COLOURS[0]
    verdicts = [work.judge(None, challenger)]
    if decide(verdicts) == "promote":
        target = work.start(colour, challenger)
        verdicts.append(work.smoke(target))
    if decide(verdicts) == "promote":
        rollout.install(engine, colour, target, who, words("first_champion"), fence=lease.check)
        promote(connect(where), challenger.version)
    else:
        slots.stop(where, colour)
    return verdicts


def open_for(
    engine: Engine, policy: str, slot_lives: bool, who: str = "release flow", fence: Fence | None = None
) -> Rollout:
    """The open rollout of this policy, or a new one.

    One of an older challenger is ended first, and so is one that lost its slot: people were served by the
    champion alone since then.
    """
    opened = rollout.current(engine)
    if opened is not None and opened.challenger != policy:
        rollout.abort(engine, opened.id, who, words("replaced", policy=policy), fence)
    elif opened is not None and opened.state in ("shadow", "canary", "ab") and not slot_lives:
        rollout.abort(engine, opened.id, who, words("slot_gone"), fence)
    elif opened is not None:
        return opened
    return rollout.begin(engine, policy, who, words("registered"), fence)


def follow(where: Places, engine: Engine) -> None:
    """Make the policy that the routing has as champion the registry's."""
    routing, client = read_routing(engine), connect(where)
    if routing is None:
        return
    policy = routing[1].slots[routing[1].champion].policy
    for version in versions(client):
        if _same(version, policy):
            promote(client, version.version)
            return


def _known(params: Params) -> None:
    try:
        for name in (params.delivery.ab_metric, *params.delivery.guardrails):
            metric_named(name)
    except ValueError as error:
        raise ParamsError(f"params.yaml, delivery: {error}") from error


def _same(version: Registered, policy: str) -> bool:
    return version.policy_sha256.startswith(policy.rpartition("-")[2])


def _clean_up(
    where: Places, engine: Engine, colour: str, opened: Rollout, say: Callable[[str], None]
) -> None:
    if rollout.find(engine, opened.id).state == "promoted":
        try:
            follow(where, engine)
        except RegistryError as error:
            say(f"{opened.challenger} serves; `recloop rollout start` tells the registry later: {error}")
    found = read_routing(engine)
    if found is not None and colour not in found[1].slots:
        slots.stop(where, colour)
