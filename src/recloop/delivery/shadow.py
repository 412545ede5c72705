"""The shadow: copies of people's requests for the challenger's slot, whose answers nobody gets.

A copy leaves after the person's own answer has come, and nothing waits for it. What is under way is bounded;
who comes beyond the bound is not copied, and counted. Nothing of it is written to the store.
"""

import asyncio
import time
from collections.abc import Collection

from recloop.delivery.exchange import Exchange, SlotFailure
from recloop.delivery.routing import Routing
from recloop.delivery.tally import Tally
from recloop.experiments import place
from recloop.schema import Slate
from recloop.serving.messages import Ask

UNDER_WAY = 16  # copies that wait for an answer at most


class Shadow:
    """The gateway's sender of copies; use as an async context manager."""

    def __init__(self, tally: Tally, timeout: float, token: str = "") -> None:
        self._tally = tally
        # Its own connections: what the shadow does is not the slot's among people.
        self._exchange = Exchange(None, timeout, token)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Shadow":
        await self._exchange.__aenter__()
        return self

    async def __aexit__(self, *reason: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._exchange.__aexit__(*reason)

    def copy(
        self, routing: Routing | None, asked: Ask, slate: Slate, seconds: float, known: Collection[str]
    ) -> None:
        """Send the request to the shadow too, if there is one and it is this request's turn; returns at once.

        Args:
            asked: as the champion got it.
            slate: what the champion answered.
            seconds: how long that took.
            known: the catalogue.
        """
        if routing is None or routing.shadow is None:
            return
        if place(slate.request_id, routing.salt) >= routing.shadow_share:
            return
        if len(self._tasks) >= UNDER_WAY:
            self._tally.drop(routing.salt)
            return
        task = asyncio.create_task(self._ask(routing, routing.shadow, asked, slate, seconds, known))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(
        self, routing: Routing, colour: str, asked: Ask, slate: Slate, seconds: float, known: Collection[str]
    ) -> None:
        begun, outcome = time.perf_counter(), "ok"
        try:
            target = routing.slots[colour]
            answer = await self._exchange.ask(colour, target, asked, slate.request_id, known)
        except SlotFailure as failure:
            outcome = failure.outcome
        else:
            self._tally.compare(routing.salt, answer, slate)
        self._tally.copy(routing.salt, outcome, time.perf_counter() - begun, seconds)
