"""Release: from a registered challenger to the champion, or to a refusal with its reasons.

``python -m flows.release`` runs it once. Gates decide: offline (value among people whom no policy
learnt from), smoke (the slot answers as it must), canary (failures, latency and reward among real
people). No-data never promotes: the rollout stays open until the data is there or the time is over.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from sqlalchemy import Engine

from flows.alone import by_hand
from flows.graph import workspace
from recloop.delivery import rollout, slots
from recloop.delivery.gates import Verdict, canary, decide, offline
from recloop.delivery.meters import slot_figures
from recloop.delivery.rollout import Rollout
from recloop.delivery.routing import Target, read_routing
from recloop.evaluation import compare
from recloop.evaluation.page import warnings
from recloop.policy import Policy, load
from recloop.registry import Registered, connect, fetch, promote, resolve
from recloop.settings import Params, Places, load_params, places
from recloop.store import open_store

WHO = "release flow"
POLL_SECONDS = 1.0
UNLEARNT = ("random", "most_popular")


class Nothing(RuntimeError):
    """There is no challenger to release."""


@task
def judge(champion: Registered | None, challenger: Registered) -> Verdict:
    """The offline gate: challenger against champion, or the first policy against what needs no learning."""
    params = load_params()
    with workspace(get_run_logger().info):
        if champion is None:
            return first_of_its_kind(json.loads(Path("reports/evaluation.json").read_text()), params)
        people, features = Path("models/user_model"), Path("data/features")
        report = compare(policy_of(champion), policy_of(challenger), people, features, params, params.seed)
    Path("reports/comparison.json").write_text(json.dumps(report, indent=1) + "\n")
    for text in warnings(report | {"rival": "the champion"}):
        get_run_logger().warning("a slice of people loses: %s", text)
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
    return replace(verdict, why=f"against {best.replace('_', ' ')}: {verdict.why}")


@task
def start_slot(colour: str, challenger: Registered) -> Target:
    """Start the idle slot with the challenger's Bento."""
    return slots.start(places(), colour, challenger.bento, policy_of(challenger).manifest.name)


@task
def smoke(target: Target) -> Verdict:
    """The slot answers a stranger with its own policy's slate, and refuses what it must refuse."""
    with httpx.Client(base_url=target.url, timeout=5) as client:
        for number in range(20):
            answer = client.post("/recommend", json={"user_id": f"smoke-{number}"})
            slate = answer.json() if answer.status_code == 200 else {}
            sound = slate.get("items") and all(0 < p <= 1 for p in slate["propensities"])
            if not sound or slate["policy"] != target.policy:
                return Verdict(
                    "smoke", "fail", f"request {number} got {answer.status_code}: {answer.text[:200]}"
                )
        refused = client.post("/recommend", json={"user_id": "smoke", "nonsense": 1}).status_code
    if not 400 <= refused < 500:
        return Verdict("smoke", "fail", f"an unknown field got status {refused}, not 4xx")
    return Verdict("smoke", "pass", "20 slates are sound and an unknown field is refused")


@task
def watch_canary(opened: Rollout, seconds: float) -> Verdict:
    """Ask the canary's gate until it passes or fails, or the time is over."""
    where, params, logger = places(), load_params(), get_run_logger()
    engine, end = open_store(where.store), time.monotonic() + seconds
    said = 0.0
    while True:
        verdict = ask_canary(where, params, engine, opened)
        if verdict.outcome != "no-data" or time.monotonic() > end or rollout.current(engine) != opened:
            return verdict
        if time.monotonic() - said > 5:
            logger.info("canary: %s", verdict.why)
            said = time.monotonic()
        time.sleep(POLL_SECONDS)


def ask_canary(where: Places, params: Params, engine: Engine, opened: Rollout) -> Verdict:
    """The canary's gate on what the gateway and the store hold now."""
    try:
        answer = httpx.get(f"http://{where.host}:{where.gateway_port}/metrics", timeout=5)
        seen = slot_figures(answer.raise_for_status().text, opened.challenger)
    except httpx.HTTPError as error:
        why = f"the gateway on port {where.gateway_port} does not answer ({error}): `recloop up` starts it"
        return Verdict("canary", "no-data", why)
    return canary(engine, opened, params.delivery, params.reward, seen)


@flow(name="release", validate_parameters=False)
def release(canary_seconds: float = 3600) -> list[Verdict]:
    """Roll the challenger out, step by step; returns the gates' verdicts.

    A rollout that waits for data when the time is over stays open: run the flow again to go on.

    Raises:
        Nothing: there is no challenger.
    """
    where, params = places(), load_params()
    engine, client = open_store(where.store), connect(where)
    challenger, routing = resolve(client, "challenger"), read_routing(engine)
    if challenger is None:
        raise Nothing("the registry has no challenger: retrain first")
    champion = resolve(client, "champion") if routing else None  # who serves nobody is not to be beaten
    verdicts = [judge(champion, challenger)]
    if champion is None or routing is None:
        _first(where, engine, challenger, verdicts)
    else:
        colour = slots.other(routing[1].champion)
        _challenge(where, params, engine, challenger, colour, verdicts, canary_seconds)
    _show(verdicts)
    return verdicts


def _first(where: Places, engine: Engine, challenger: Registered, verdicts: list[Verdict]) -> None:
    colour = slots.COLOURS[0]
    if decide(verdicts) == "promote":
        target = start_slot(colour, challenger)
        verdicts.append(smoke(target))
    if decide(verdicts) == "promote":
        rollout.install(engine, colour, target, WHO, "the first champion")
        promote(connect(where), challenger.version)
    else:
        slots.stop(where, colour)


def _challenge(
    where: Places,
    params: Params,
    engine: Engine,
    challenger: Registered,
    colour: str,
    verdicts: list[Verdict],
    seconds: float,
) -> None:
    opened = open_for(engine, policy_of(challenger).manifest.name, slots.alive(where, colour))
    if opened.state == "pending" and decide(verdicts) == "promote":
        rollout.retire(engine, colour, WHO, "the challenger takes its slot")
        target = start_slot(colour, challenger)
        verdicts.append(smoke(target))
        if decide(verdicts) == "promote":
            share = params.delivery.canary_share
            rollout.start_canary(engine, opened.id, colour, target, share, WHO, "offline and smoke passed")
    now = rollout.current(engine)
    if now is not None and now.state == "canary" and decide(verdicts) == "promote":
        verdicts.append(watch_canary(now, seconds))
    if now is not None and rollout.current(engine) == now:  # else a person has decided meanwhile
        _settle(engine, now, challenger, verdicts)
    found = read_routing(engine)
    if found is not None and colour not in found[1].slots:
        slots.stop(where, colour)


def open_for(engine: Engine, policy: str, slot_lives: bool) -> Rollout:
    """The open rollout of this policy, or a new one.

    One of an older challenger is ended first, and so is one whose canary lost its slot: people were
    served by the champion alone since then.
    """
    opened = rollout.current(engine)
    if opened is not None and opened.challenger != policy:
        rollout.abort(engine, opened.id, WHO, f"{policy} has taken its place as challenger")
    elif opened is not None and opened.state == "canary" and not slot_lives:
        rollout.abort(engine, opened.id, WHO, "its slot was gone; the canary begins anew")
    elif opened is not None:
        return opened
    return rollout.begin(engine, policy, WHO, "the registry's challenger")


def _settle(engine: Engine, opened: Rollout, challenger: Registered, verdicts: Sequence[Verdict]) -> None:
    last = verdicts[-1]
    match decide(verdicts):
        case "promote":
            rollout.promote(engine, opened.id, WHO, last.why, last.figures)
            promote(connect(places()), challenger.version)
        case "refuse":
            rollout.refuse(engine, opened.id, WHO, last.why, last.figures)
        case "wait":
            get_run_logger().warning("the rollout stays open: %s", last.why)


def _show(verdicts: Sequence[Verdict]) -> None:
    rows = [
        {"gate": v.name, "verdict": v.outcome, "why": v.why, "figures": json.dumps(dict(v.figures))}
        for v in verdicts
    ]
    create_table_artifact(rows, key="release-verdicts", description="what the gates said")


def summary(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts, ready for JSON."""
    return [asdict(verdict) | {"figures": dict(verdict.figures)} for verdict in verdicts]


if __name__ == "__main__":
    with by_hand():
        release()
