"""People who ask at a steady rate, whatever the answers take, and what came of it."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass

import aiohttp


@dataclass(frozen=True)
class Answer:
    """``status`` 0: none came. ``at`` and ``seconds`` by the monotonic clock."""

    status: int
    policy: str
    fallback: bool
    at: float
    seconds: float
    request_id: str
    later: str


class Load:
    """Asks ``rate`` times a second, open loop, from a thread; use as a context manager."""

    def __init__(self, url: str, rate: float = 50.0, people: int = 500) -> None:
        self.url, self.rate, self.people = url, rate, people
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(150)
        assert not self._thread.is_alive()

    @property
    def failed(self) -> list[Answer]:
        return [one for one in self.answers if one.status != 200]

    @property
    def fallbacks(self) -> list[Answer]:
        return [one for one in self.answers if one.fallback]

    def since(self, at: float) -> "Counter[str]":
        """Policies that answered what was asked from then on."""
        return Counter(one.policy for one in self.answers if one.at >= at)

    def told(self) -> str:
        """For the test's report."""
        times = sorted(one.seconds for one in self.answers)
        p50, p99 = (1000 * times[int(q * (len(times) - 1))] for q in (0.5, 0.99))
        return (
            f"{len(times)} requests, {len(self.failed)} failed, {len(self.fallbacks)} fallbacks,"
            f" p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )

    async def _run(self) -> None:
        begun, number, waiting = time.monotonic(), 0, set()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            while not self._stop.is_set():
                task = asyncio.create_task(self._ask(session, f"u{number * 7919 % self.people}"))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                number += 1
                await asyncio.sleep(max(0.0, begun + number / self.rate - time.monotonic()))
            await asyncio.gather(*waiting)

    async def _ask(self, session: aiohttp.ClientSession, user: str) -> None:
        at = time.monotonic()
        status, slate, later = 0, {}, ""
        try:
            limit = aiohttp.ClientTimeout(total=100)
            async with session.post(f"{self.url}/recommend", json={"user_id": user}, timeout=limit) as answer:
                slate, later = await answer.json(), answer.headers.get("retry-after", "")
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            pass
        self.answers.append(
            Answer(
                status, slate.get("policy", ""), slate.get("fallback", False), at, time.monotonic() - at,
                slate.get("request_id", ""), later,
            )
        )  # fmt: skip
