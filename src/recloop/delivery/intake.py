"""Feedback at the gateway: every row of it is on disk when the answer leaves, taken or in quarantine."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import msgspec
from sqlalchemy import Column, Engine, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recloop.delivery.door import Door
from recloop.delivery.following import Following
from recloop.delivery.meters import Meters
from recloop.delivery.outcomes import worth
from recloop.delivery.problems import Problem, decoded, require_json
from recloop.intake.feedback import TooOld, identity, judge, to_keep
from recloop.intake.traffic import Rules
from recloop.schema import Arrival, Event, Failure, Slate, Traffic
from recloop.settings import Params
from recloop.store import Outcome, Refused, Taken
from recloop.store.quarantine import person_in
from recloop.store.tables import events, impressions, items

ACT_LIMIT, BODY_LIMIT = 1 << 16, 1 << 20  # bytes of one act, and of a batch
MOST_EVENTS = 5000  # of one request
REMEMBERED = 100_000  # requests whose policy is known when their feedback comes, for the reward's meter
UNCONSENTED = "unconsented"  # the person has not agreed that it is stored
UNREAD = (400, 413, 422)  # a body with one of these is kept whole
T = TypeVar("T")
Judged = list[Arrival | Refused]


class Intake:
    """``/feedback`` and ``/events`` of one gateway; ``commit`` waits until rows are on disk."""

    def __init__(
        self,
        engine: Engine,
        params: Params,
        meters: Meters,
        following: Following,
        commit: Callable[..., Awaitable[Taken]],
        rules: Rules,
        door: Door,
    ) -> None:
        self._engine, self._reward, self._meters = engine, params.reward, meters
        self._following, self._commit, self._rules, self._door = following, commit, rules, door
        self._act, self._acts = msgspec.json.Decoder(dict), msgspec.json.Decoder(list)
        self._served_by: OrderedDict[str, str] = OrderedDict()

    def served(self, slate: Slate) -> None:
        """Remember which policy a request got."""
        self._served_by[slate.request_id] = slate.policy
        if len(self._served_by) > REMEMBERED:
            self._served_by.popitem(last=False)

    async def one(self, request: Request) -> Response:
        """``POST /feedback``."""
        body = await self._body(request, self._act, ACT_LIMIT)
        rows, outcomes = await self.told(request, [body])
        act = rows[0]
        if not isinstance(act, Arrival) or outcomes[0] == Outcome.CONFLICT:
            return _refused(rows, outcomes)
        return _json({"accepted": outcomes.count(Outcome.NEW), "event_id": act.event_id})

    async def many(self, request: Request) -> Response:
        """``POST /events``."""
        raw = await self._body(request, self._acts, BODY_LIMIT)
        if len(raw) > MOST_EVENTS:
            why = f"{len(raw)} events in one request, {MOST_EVENTS} at most"
            admitted = await self._door.admit([Refused("http", "event", why, to_keep(body)) for body in raw])
            bodies = [row.body for row in admitted if isinstance(row, Refused)]
            await self._keep(request, why, {"text": msgspec.json.encode(bodies).decode()})
            raise Problem(413, why, "body")
        rows, outcomes = await self.told(request, raw)
        taken = sum(outcomes.count(how) for how in (Outcome.NEW, Outcome.REPEATED, UNCONSENTED))
        if Outcome.CONFLICT in outcomes or (rows and not taken):
            return _refused(rows, outcomes)
        return _json(_account(rows, outcomes))

    async def told(self, request: Request, raw: Sequence[object]) -> tuple[Judged, list[str]]:
        """Acts as a request told them, each judged and on disk or in quarantine; and what became of each."""
        rows = self._flagged(request, await self._judged(raw))
        return rows, await self._take(rows)

    async def _body(self, request: Request, decoder: msgspec.json.Decoder[T], limit: int) -> T:
        """What was sent; where it cannot be understood, it is quarantined as it came."""
        try:
            return decoded(decoder, await require_json(request, limit))
        except Problem as problem:
            if problem.status_code in UNREAD:
                why = f"{problem.field}: {problem.detail}"
                await self._keep(request, why, {"text": _text(problem.body)})
            raise

    async def _keep(self, request: Request, why: str, body: object) -> None:
        self._meters.events.labels("refused").inc()
        row = Refused("http", "body", why, body, traffic=self._sender(request))
        await self._commit(refused=[row])

    async def _judged(self, raw: Sequence[object]) -> Judged:
        """Per row an event, or why it is none. What is too old but known is left to the store to compare."""
        rows: Judged = judge(raw)
        if self._door.naming is not None:
            rows = await self._unnamed(rows, raw)
        late = {row.act.event_id for row in rows if isinstance(row, TooOld) and row.act}
        if late:
            known = await run_in_threadpool(self._present, events.c.event_id, late)
            rows = [
                row.act if isinstance(row, TooOld) and row.act and row.act.event_id in known else row
                for row in rows
            ]
        titles = self._following.titles
        strange = {row.item_id for row in rows if isinstance(row, Arrival) and row.item_id not in titles}
        if strange and titles:
            strange -= await run_in_threadpool(self._present, items.c.item_id, strange)
            rows = [
                _unknown_item(row, body) if isinstance(row, Arrival) and row.item_id in strange else row
                for row, body in zip(rows, raw, strict=True)
            ]
        return rows

    async def _unnamed(self, rows: Judged, raw: Sequence[object]) -> Judged:
        """The rows, of which ids that are made from content have the pseudonym in it in place of the account:
        who has the store could else try accounts until one fits."""
        acts = [row.act if isinstance(row, TooOld) else row for row in rows]
        made = [
            (place, act, body)
            for place, (act, body) in enumerate(zip(acts, raw, strict=True))
            if isinstance(act, Arrival) and isinstance(body, dict)
            if body.get("event_id") is None and body.get("ts") is not None
        ]
        people = await self._door.visitors({act.user_id for _, act, _ in made})
        unnamed = list(rows)
        for place, act, body in made:
            name = identity(body, people[act.user_id].user_id)
            row, act = rows[place], act.model_copy(update={"event_id": name})
            unnamed[place] = replace(row, act=act) if isinstance(row, TooOld) else act
        return unnamed

    def _flagged(self, request: Request, rows: Judged) -> Judged:
        """The rows, of which those that are no customer's say so."""
        sender = self._sender(request)
        flagged: Judged = []
        for row in rows:
            if isinstance(row, Arrival):
                if found := sender or self._rules.of_person(row.user_id):
                    row = row.model_copy(update={"traffic": found})
            elif found := sender or self._rules.of_person(person_in(row) or ""):
                row = replace(row, traffic=found)
            flagged.append(row)
        return flagged

    def _sender(self, request: Request) -> Traffic | None:
        agent = request.headers.get("user-agent", "")
        return self._rules.of_sender(agent, request.client.host if request.client else "")

    def _present(self, column: Column, values: set[str]) -> set[str]:
        """Which of the values the store has; all, where it cannot be read now."""
        try:
            with self._engine.connect() as connection:
                return set(connection.execute(select(column).where(column.in_(values))).scalars())
        except SQLAlchemyError:
            return values

    async def _take(self, rows: Judged) -> list[str]:
        """Store what is good, quarantine the rest; per row what became of it."""
        admitted = await self._door.admit(rows)
        acts = [row for row in admitted if isinstance(row, Arrival)]
        refused = [row for row in admitted if isinstance(row, Refused)]
        taken = iter((await self._commit(acts=acts, refused=refused)).acts)
        outcomes: list[str] = []
        for row, kept in zip(rows, admitted, strict=True):
            if isinstance(row, Refused):
                outcomes.append("refused")
            else:
                outcomes.append(UNCONSENTED if kept is None else next(taken))
        for outcome in set(outcomes):
            self._meters.events.labels(outcome).inc(outcomes.count(outcome))
        new = [row for row, outcome in zip(rows, outcomes, strict=True) if outcome == Outcome.NEW]
        await self._reward_of([act for act in new if isinstance(act, Event)])
        return outcomes

    async def _reward_of(self, acts: Sequence[Event]) -> None:
        policies = await self._policies({act.request_id for act in acts if act.request_id})
        for act in acts:
            policy = policies.get(act.request_id or "", "unknown")
            self._meters.reward.labels(policy).observe(worth(act, self._reward))

    async def _policies(self, requests: set[str]) -> dict[str, str]:
        """By request; of those that another worker served, or one before the restart, the store knows."""
        found = {one: self._served_by[one] for one in requests if one in self._served_by}
        if len(found) == len(requests):
            return found

        def look() -> dict[str, str]:
            query = select(impressions.c.request_id, impressions.c.policy).where(
                impressions.c.request_id.in_(requests - set(found)), impressions.c.position == 0
            )
            with self._engine.connect() as connection:
                return {row.request_id: row.policy for row in connection.execute(query)}

        with suppress(SQLAlchemyError):  # a meter is not worth a failure
            found |= await run_in_threadpool(look)
        return found


def _unknown_item(act: Arrival, body: object) -> Refused:
    why = f"item_id: {act.item_id} is no item of the catalogue"
    return Refused("http", "event", why, to_keep(body), Failure.REFERENCE)


def _account(rows: Judged, outcomes: Sequence[str]) -> dict:
    """What became of a batch: counts, the reasons of the rows that were not taken, and each row's outcome."""
    reasons = [
        _reason(row) for row, how in zip(rows, outcomes, strict=True) if how in ("refused", "conflict")
    ]
    return {
        "accepted": outcomes.count(Outcome.NEW),
        "repeated": outcomes.count(Outcome.REPEATED),
        "refused": reasons,
        "rows": outcomes,
    }


def _refused(rows: Judged, outcomes: Sequence[str]) -> Response:
    """409 with the ids of conflicts, else 422 with what is wrong; and what became of each row."""
    account = _account(rows, outcomes)
    clashes = [
        row.event_id
        for row, how in zip(rows, outcomes, strict=True)
        if isinstance(row, Arrival) and how == Outcome.CONFLICT
    ]
    reasons = list(dict.fromkeys(account["refused"]))
    status, field = 422, reasons[0].partition(":")[0]
    if clashes:
        status, field = 409, "event_id"
        reasons = [
            f"{', '.join(clashes[:5])}: known with another body; choose a new event_id for another act"
        ]
    return _json({"error": " | ".join(reasons[:5]), "field": field} | account, status)


def _reason(row: Arrival | Refused) -> str:
    if isinstance(row, Refused):
        return row.reason
    return f"event_id: {row.event_id} is known with another body"


def _text(body: bytes) -> str:
    return body.decode(errors="backslashreplace")


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
