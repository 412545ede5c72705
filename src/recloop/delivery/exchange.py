"""Asking a slot over kept connections, and believing only an answer that holds together."""

import time
from collections.abc import Collection, Mapping, Sequence

import aiohttp
import msgspec
from pydantic import ValidationError

from recloop.delivery.meters import Meters
from recloop.delivery.routing import Target
from recloop.delivery.wording import Words, program_said, words
from recloop.schema import Slate
from recloop.serving.messages import HISTORY, STRANGERS, Ask

LONGEST_ANSWER = 1 << 20  # bytes
SLOT_HEADER = "x-recloop-slot"  # the colour, for a router between gateway and slots
IN_A_ROW = 5  # failures after which a slot rests: it is asked last
REST_SECONDS = 1.0  # between two tries of a slot that rests
IDLE_SECONDS = 4  # below the five after which a slot's server closes an idle connection


class SlotFailure(RuntimeError):
    """The slot gave no valid answer; ``outcome`` says how: timeout, unreachable, status or invalid."""

    def __init__(self, outcome: str, why: Words) -> None:
        super().__init__(why)
        self.outcome, self.why = outcome, why


class Exchange:
    """The gateway's side of the connections to all slots; use as an async context manager.

    ``meters`` count attempts; None where they are not people's.
    """

    def __init__(self, meters: Meters | None, timeout: float, token: str = "") -> None:
        self._meters, self._timeout = meters, aiohttp.ClientTimeout(total=timeout)
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._failing: dict[Target, tuple[int, float]] = {}  # failures in a row, and when to try again

    async def __aenter__(self) -> "Exchange":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def in_turn(self, colours: Sequence[str], slots: Mapping[str, Target]) -> list[str]:
        """Those that rest last, so that nobody waits for a slot that hangs; none where all rest.

        Each second one request tries a slot that rests.
        """
        now = time.monotonic()
        awake: list[str] = []
        resting: list[str] = []
        for colour in colours:
            failures, again = self._failing.get(slots[colour], (0, 0.0))
            (resting if failures >= IN_A_ROW and now < again else awake).append(colour)
        if not awake:
            return []
        failures, _ = self._failing.get(slots[awake[0]], (0, 0.0))
        if failures >= IN_A_ROW:
            self._failing[slots[awake[0]]] = failures, now + REST_SECONDS
        return awake + resting

    async def ask(
        self, colour: str, target: Target, wanted: Ask, request_id: str, known: Collection[str]
    ) -> Slate:
        """One attempt. ``known``: the catalogue; empty where it could not be read.

        Raises:
            SlotFailure: no answer in time, or one that must not be passed on.
        """
        begun, outcome = time.perf_counter(), "ok"
        try:
            raw, history = await self._post(colour, target.url, wanted, request_id)
            slate = believe(raw, wanted, request_id, target.policy, known)
        except SlotFailure as failure:
            outcome = failure.outcome
            failures = self._failing.get(target, (0, 0.0))[0] + 1
            self._failing[target] = failures, time.monotonic() + REST_SECONDS
            raise
        else:
            self._failing.pop(target, None)
            if history in STRANGERS and self._meters is not None:
                self._meters.strangers.labels(colour, target.policy, history).inc()
            return slate
        finally:
            if self._meters is not None:
                self._meters.asked.labels(colour, target.policy, outcome).inc()
                self._meters.slot_seconds.labels(colour, target.policy).observe(time.perf_counter() - begun)

    async def _post(self, colour: str, url: str, wanted: Ask, request_id: str) -> tuple[bytes, str | None]:
        """The answer's body, and its header ``HISTORY``."""
        headers = {"content-type": "application/json", "x-request-id": request_id, SLOT_HEADER: colour}
        headers |= self._headers
        body = msgspec.json.encode(wanted)
        raw = bytearray()
        try:
            async with self._session.post(
                f"{url}/recommend", data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise SlotFailure("status", words("status", status=response.status))
                history = response.headers.get(HISTORY)
                async for part in response.content.iter_any():
                    raw += part
                    if len(raw) > LONGEST_ANSWER:
                        raise SlotFailure("invalid", words("long_answer", most=LONGEST_ANSWER))
        except TimeoutError as error:
            raise SlotFailure("timeout", words("late_answer", seconds=self._timeout.total)) from error
        except (aiohttp.ClientError, OSError) as error:
            why = words("unreachable", fault=f"{type(error).__name__}: {error}")
            raise SlotFailure("unreachable", why) from error
        return bytes(raw), history


def believe(raw: bytes, wanted: Ask, request_id: str, policy: str, known: Collection[str]) -> Slate:
    """The slate in an answer.

    Raises:
        SlotFailure: it is no slate, or not one for this request by this policy.
    """
    try:
        slate = Slate.model_validate_json(raw)
    except ValidationError as error:
        raise SlotFailure("invalid", words("no_slate", why=program_said(error.errors()[0]["msg"]))) from error
    size = len(slate.items)
    faults = {
        "unfit_length": not 0 < size <= (wanted.k or 0),
        "uneven_lists": {len(slate.titles), len(slate.scores), len(slate.propensities)} != {size},
        "item_twice": len(set(slate.items)) != size,
        "excluded_item": not set(slate.items).isdisjoint(wanted.exclude),
        "unknown_item": bool(known) and any(item not in known for item in slate.items),
        "other_request": slate.request_id != request_id,
        "other_policy": slate.policy != policy,
    }
    for fault, present in faults.items():
        if present:
            raise SlotFailure("invalid", words(fault, policy=slate.policy, routed=policy))
    return slate
