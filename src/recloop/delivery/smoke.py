"""Warm-up and smoke test of a slot: what people asked lately, and the edges, before any person is sent there.

Each request is sent twice. The first warms up what is loaded on use; the second is timed. Both must be
answered with a slate of k distinct items that the store has as available, with finite propensities in (0, 1].
"""

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from sqlalchemy import Engine, exists, func, select

from recloop.delivery.exchange import SlotFailure, believe
from recloop.delivery.gates import Verdict
from recloop.delivery.routing import Target
from recloop.delivery.wording import NOTHING, Words, words
from recloop.schema import now_us
from recloop.serving.messages import Ask, Moment
from recloop.store import find_items
from recloop.store.consent import PERSONALISATION, assumed_here, may
from recloop.store.tables import events, impressions, users

RECENT = 10  # people who asked lately
LOOKED_AT = 5000  # newest impressions that they are taken from
SECONDS = 5.0  # time for one answer: the first may load a model


@dataclass(frozen=True)
class Trial:
    """One request of the test; ``kind``: what it stands for, a code of ``wording``."""

    kind: str
    ask: Ask

    @property
    def what(self) -> Words:
        """In words, with the person's name."""
        return words(self.kind, who=self.ask.user_id)


def smoke(engine: Engine, target: Target, k: int, token: str = "") -> Verdict:
    """Ask the slot and judge its answers; a failure names the request and what is wrong with it.

    Args:
        engine: the store, whose people and items are asked for.
        target: the slot.
        k: items of a slate.
        token: shown to slots that ask for one.
    """
    known = {item.item_id for item in find_items(engine) if item.available}
    found = trials(engine, k)
    first: list[float] = []
    warm: list[float] = []
    for times in (first, warm):
        for trial in found:
            begun = time.perf_counter()
            fault = _fault(target, trial.ask, known, token)
            times.append(1000 * (time.perf_counter() - begun))
            if fault:
                what = words(trial.kind, who=words("a_person"))  # a verdict is kept, and names nobody
                why = words("unfit_answer", what=what, fault=fault)
                figures: dict[str, Any] = {"requests": len(first) + len(warm)}
                return Verdict("smoke", "fail", why, figures, words("log_says"))
    nonsense = json.dumps({"user_id": "smoke", "nonsense": 1}).encode()
    refused, _ = _post(f"{target.url}/recommend", nonsense, uuid.uuid4().hex, token)
    if not 400 <= refused < 500:
        return Verdict("smoke", "fail", words("nonsense_taken", status=refused))
    figures = {
        "requests": 2 * len(found),
        "first_ms": round(max(first), 1),
        "p50_ms": round(float(np.median(warm)), 1),
        "most_ms": round(max(warm), 1),
    }
    why = words("sound", slates=2 * len(found), p50_ms=figures["p50_ms"])
    return Verdict("smoke", "pass", why, figures)


def answers(target: Target, k: int, token: str = "", attempts: int = 3) -> Words:
    """Why a stranger gets no valid answer from the slot at any of the attempts; empty where one does."""
    fault = NOTHING
    for _ in range(attempts):
        fault = _fault(target, _ask(f"smoke-{uuid.uuid4().hex}", k), (), token, least=1)
        if not fault:
            break
    return fault


def trials(engine: Engine, k: int) -> list[Trial]:
    """Requests of people who asked lately, who may be looked at, and the edges."""
    asks = [Trial("asked_lately", _ask(user, k, device)) for user, device in _recent(engine)]
    stranger = _ask(f"smoke-{uuid.uuid4().hex}", k)
    asks.append(Trial("stranger", stranger))
    if quiet := _without_history(engine):
        asks.append(Trial("no_history", _ask(quiet, k)))
    asks.append(Trial("one_item", replace(stranger, k=1)))
    items = [item.item_id for item in find_items(engine)]
    if len(items) > k:
        asks.append(Trial("excluding", replace(stranger, exclude=items[:1])))
    return asks


def _ask(user_id: str, k: int, device: str = "unknown") -> Ask:
    return Ask(user_id, Moment(device, now_us()), k)


def _recent(engine: Engine) -> list[tuple[str, str]]:
    """Person and device of those who came last and let their past be looked at."""
    with engine.connect() as connection:
        last = connection.execute(select(func.max(impressions.c.seq))).scalar() or 0
        query = (
            select(impressions.c.user_id, func.max(impressions.c.device))
            .where(impressions.c.seq > last - LOOKED_AT, impressions.c.position == 0)
            .where(may(connection, impressions.c.user_id, PERSONALISATION, {}, assumed_here()))
            .group_by(impressions.c.user_id)
            .order_by(func.max(impressions.c.seq).desc())
            .limit(RECENT)
        )
        return [(user, device) for user, device in connection.execute(query)]


def _without_history(engine: Engine) -> str | None:
    acted = exists().where(events.c.user_id == users.c.user_id)
    query = select(users.c.user_id).where(~acted).order_by(users.c.user_id).limit(1)
    with engine.connect() as connection:
        agreed = may(connection, users.c.user_id, PERSONALISATION, {}, assumed_here())
        return connection.execute(query.where(agreed)).scalar()


def _fault(target: Target, asked: Ask, known: Collection[str], token: str, least: int | None = None) -> Words:
    """What is wrong with the slot's answer, empty where nothing is; ``least``: items, else k."""
    request_id = uuid.uuid4().hex
    status, body = _post(f"{target.url}/recommend", msgspec.json.encode(asked), request_id, token)
    if status != 200:
        return words("status_said" if status else "no_answer", status=status, said=_start(body))
    try:
        slate = believe(body, asked, request_id, target.policy, ())
    except SlotFailure as failure:
        return words("fault_said", fault=failure.why, said=_start(body))
    if known and (gone := [item for item in slate.items if item not in known]):
        return words("gone_item", item=gone[0])
    wanted = min(asked.k or 0, len(set(known) - set(asked.exclude))) if known else asked.k
    enough = len(slate.items) >= (least or wanted or 0)
    return NOTHING if enough else words("few_items", items=len(slate.items), wanted=wanted)


def _start(body: bytes) -> str:
    return body[:200].decode(errors="replace")


def _post(url: str, content: bytes, request_id: str, token: str) -> tuple[int, bytes]:
    """Status and body of the answer; status 0 where there is none."""
    headers = {"content-type": "application/json", "x-request-id": request_id}
    if token:
        headers["authorization"] = f"Bearer {token}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, content, headers, method="POST"), timeout=SECONDS
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()
