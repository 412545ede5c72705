"""``POST /profiles``: sign-up forms, surveys and readings of sensors, on disk when the answer leaves."""

from functools import partial

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from recloop.delivery.door import Door
from recloop.delivery.problems import Problem, decoded, require_json
from recloop.intake.profiles import judge_profiles
from recloop.store import Refused, consented
from recloop.store.consent import PERSONALISATION
from recloop.store.profiles import Change, change_profiles

BODY_LIMIT = 1 << 18  # bytes
MOST_ROWS = 500  # of one request
UNCONSENTED = "user_id: the person has not agreed that anything is stored"


class Profiles:
    """The route of one gateway."""

    def __init__(self, engine: Engine, door: Door) -> None:
        self._engine, self._door, self._rows = engine, door, msgspec.json.Decoder(list)

    async def take(self, request: Request) -> Response:
        """Change the profiles that can be changed, quarantine the other rows."""
        raw = decoded(self._rows, await require_json(request, BODY_LIMIT))
        if len(raw) > MOST_ROWS:
            raise Problem(413, f"{len(raw)} rows in one request, {MOST_ROWS} at most", "body")
        admitted = await self._door.admit([Refused("http", "profile", "", body) for body in raw])
        let_in = [row.body for row in admitted if isinstance(row, Refused)]
        try:
            refused = await run_in_threadpool(self._write, let_in)
        except SQLAlchemyError as error:
            raise Problem(503, "the store cannot be written now: send it again later", later=True) from error
        said = [row.reason for row in refused] + [UNCONSENTED] * (len(raw) - len(let_in))
        reasons = list(dict.fromkeys(said))
        if said and len(said) == len(raw):
            raise Problem(422, " | ".join(reasons[:5]), reasons[0].partition(":")[0])
        answer = {"accepted": len(raw) - len(said), "refused": said}
        return Response(msgspec.json.encode(answer), media_type="application/json")

    def _write(self, raw: list) -> list[Refused]:
        agreed = partial(consented, self._engine, purpose=PERSONALISATION, terms=self._door.terms)
        rows = judge_profiles(raw, agreed)
        refused = [row for row in rows if isinstance(row, Refused)]
        change_profiles(self._engine, [row for row in rows if isinstance(row, Change)], refused)
        return refused
