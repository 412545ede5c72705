"""Simulated people who browse over real HTTP, and whose feedback goes the way of everybody's.

They step in lockstep: everyone who is there asks for a slate, the market says what each does with
it, the feedback is sent, and the next round begins.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import torch
from tqdm import tqdm

from recloop.market import Market
from recloop.market.threads import single_thread

AT_ONCE = 16  # requests in flight


@dataclass
class Visit:
    """What a crowd of visitors saw.

    Attributes:
        requests: slates that were asked for.
        failed: requests without a slate.
        fallbacks: slates that no slot gave.
        seconds: wall time.
        times: seconds to each slate.
        rewards: per policy, the reward of each request.
        titles: of the last slate, as the person saw them.
    """

    requests: int = 0
    failed: int = 0
    fallbacks: int = 0
    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    rewards: dict[str, list[float]] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)


class Visitors:
    """A crowd, one person per place of the market's batch.

    Args:
        url: the gateway's base URL.
        market: how they react; already reset to as many people as there are ``user_ids``.
        user_ids: B names under which they are known.
        item_ids: N item ids, in the market's index order.
        visit: what to add to where crowds come one after another.
        devices: B names of what they hold in their hands; None: they do not say.
    """

    def __init__(
        self,
        url: str,
        market: Market,
        user_ids: Sequence[str],
        item_ids: Sequence[str],
        visit: Visit | None = None,
        devices: Sequence[str] | None = None,
    ) -> None:
        self.visit = Visit() if visit is None else visit
        self.url, self.market, self.user_ids, self.item_ids = url, market, list(user_ids), list(item_ids)
        self._index = {item_id: i for i, item_id in enumerate(item_ids)}
        self._contexts = [{"device": name} for name in devices] if devices else [{}] * len(self.user_ids)
        self._times: list[float] = []
        self._turn = asyncio.Semaphore(AT_ONCE)

    def browse(self, requests: int, label: str = "people browse") -> Visit:
        """Browse until everyone has left or the visit has at least ``requests`` requests."""
        asyncio.run(self._browse(requests, label))
        return self.visit

    async def _browse(self, requests: int, label: str) -> None:
        visit, alive = self.visit, np.ones(len(self.user_ids), bool)
        start = time.monotonic()
        bar = tqdm(total=requests, initial=visit.requests, desc=label, unit=" requests", mininterval=1)
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        async with aiohttp.ClientSession(self.url, connector=connector) as session:
            while alive.any() and visit.requests < requests:
                people = np.flatnonzero(alive)
                slates = await asyncio.gather(*(self._ask(session, int(b)) for b in people))
                alive &= await self._react(session, people, slates, visit)
                visit.requests += len(people)
                bar.update(len(people))
        bar.close()
        visit.seconds += time.monotonic() - start
        visit.times += self._times

    async def _ask(self, session: aiohttp.ClientSession, person: int) -> dict | None:
        body = {"user_id": self.user_ids[person], "context": self._contexts[person]}
        async with self._turn:
            start = time.monotonic()
            try:
                async with session.post("/recommend", json=body) as answer:
                    slate = await answer.json() if answer.status == 200 else None
            except (aiohttp.ClientError, TimeoutError):
                slate = None
            self._times.append(time.monotonic() - start)
        return slate

    async def _react(
        self, session: aiohttp.ClientSession, people: np.ndarray, slates: Sequence[dict | None], visit: Visit
    ) -> np.ndarray:
        """bool (B,): who stays. People without a slate leave."""
        got = {int(b): slate for b, slate in zip(people, slates, strict=True) if slate}
        visit.failed += len(people) - len(got)
        if not got:
            return np.zeros(len(self.user_ids), bool)
        width = min(len(slate["items"]) for slate in got.values())
        shown = torch.zeros((len(self.user_ids), width), dtype=torch.int64)
        for b, slate in got.items():
            shown[b] = torch.tensor([self._index[item] for item in slate["items"][:width]])
        with single_thread():
            outcome = self.market.step(shown)
        clicked, bought = outcome.clicked.tolist(), outcome.bought.tolist()
        reward, done = outcome.reward.tolist(), outcome.done.numpy()
        acts = []
        for b, slate in got.items():
            visit.fallbacks += slate["fallback"]
            visit.titles = slate["titles"]
            visit.rewards.setdefault(slate["policy"], []).append(reward[b])
            if clicked[b] >= 0:
                kinds = ["click"] + ["purchase"] * bought[b]
                act = {"user_id": self.user_ids[b], "item_id": slate["items"][clicked[b]]}
                acts += [act | {"kind": kind, "request_id": slate["request_id"]} for kind in kinds]
        await self._tell(session, acts)
        stays = np.zeros(len(self.user_ids), bool)
        stays[list(got)] = ~done[list(got)]
        return stays

    async def _tell(self, session: aiohttp.ClientSession, acts: list[dict]) -> None:
        for start in range(0, len(acts), 100):
            async with session.post("/events", json=acts[start : start + 100]) as answer:
                answer.raise_for_status()
