"""An HTTP load generator that costs little, in a process of its own: closed loop and open loop.

    python -m benchmarks.load URL (--connections 16 | --rate 300 [--spread 0]) (--seconds 5 | --requests 9999)

prints one JSON object: ``requests``, ``failed`` (no answer, not 200, or a fallback), ``seconds``, and
``p50``, ``p99``, ``most`` in ms. In a closed loop each connection asks again when it is answered. In an
open loop requests come whether or not the last was answered, as a Poisson process or, with ``--spread 0``,
evenly; time counts from when a request was due, so that a stall is not hidden (Schroeder, Wierman and
Harchol-Balter, NSDI 2006). Times of the first ``--skip`` seconds, while connections are opened, are left out.
"""

import argparse
import asyncio
import ctypes
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
PEOPLE = 1000


class Connection(asyncio.Protocol):
    """One kept connection with one request under way; opened again where the other side closes it."""

    def __init__(self, load: "Load") -> None:
        self.load, self.due = load, 0.0
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, due: float) -> None:
        self.due = due
        self.transport.write(self.load.request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        found = LENGTH.search(self.buffer, 0, head) if head >= 0 else None
        if head < 0 or (found and len(self.buffer) < head + 4 + int(found[1])):
            return
        well = self.buffer.startswith(b"HTTP/1.1 200") and b'"fallback":true' not in self.buffer
        last = b"connection: close" in self.buffer[:head].lower()
        self.buffer.clear()
        self.load.answered(self, well, last)

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self.load.lost(self)


class Alarm:
    """Wakes whoever waits at a time to some microseconds; uvloop's own timers are of whole milliseconds.

    Linux alone has what it needs (timerfd).
    """

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.timer = self.libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.timer, self._rings)

    async def until(self, due: float) -> None:
        """Of ``time.perf_counter``."""
        self.rung = self.loop.create_future()
        seconds, rest = divmod(round(due * 1e9), 10**9)
        when = (ctypes.c_long * 4)(0, 0, seconds, rest)  # no repetition; the time as it is, not from now
        self.libc.timerfd_settime(self.timer, 1, when, None)
        await self.rung

    def _rings(self) -> None:
        os.read(self.timer, 8)
        self.rung.set_result(None)


class Load:
    """One run."""

    def __init__(
        self,
        url: str,
        connections: int,
        rate: float,
        seconds: float,
        requests: int,
        spread: float,
        skip: float,
    ) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.path = parts.hostname, parts.port, parts.path
        self.connections, self.rate, self.seconds, self.requests = connections, rate, seconds, requests
        self.spread, self.skip = spread, skip
        self.times: list[float] = []
        self.sent = self.failed = 0
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.done = asyncio.Event()
        self.tasks: set[asyncio.Task] = set()

    def request(self) -> bytes:
        self.sent += 1
        body = b'{"user_id":"p%06d"}' % (self.sent * 7919 % PEOPLE)
        head = f"POST {self.path} HTTP/1.1\r\nhost: {self.host}\r\ncontent-type: application/json\r\n"
        return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body

    @property
    def over(self) -> bool:
        return time.perf_counter() >= self.end or bool(self.requests and self.sent >= self.requests)

    def answered(self, one: Connection, well: bool, last: bool) -> None:
        now = time.perf_counter()
        if one.due >= self.counts:
            self.times.append(now - one.due)
        self.failed += not well
        one.due = 0.0
        if last:  # the other side says that it will close
            one.transport.close()
        else:
            self.next(one, now)

    def next(self, one: Connection, now: float) -> None:
        if self.rate:
            if self.waiting:
                one.send(self.waiting.popleft())
            else:
                self.idle.append(one)
        elif self.over:
            self.finished += 1
            if self.finished == self.connections:
                self.done.set()
        else:
            one.send(now)

    def lost(self, one: Connection) -> None:
        """A request under way has failed; a connection that was closed between two is only opened again."""
        if one in self.idle:
            self.idle.remove(one)
        if one.due:
            self.failed += 1
            self.times.append(time.perf_counter() - one.due)
        if not self.done.is_set():
            task = asyncio.ensure_future(self.open())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def open(self) -> None:
        for _ in range(200):
            try:
                _, one = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self), self.host, self.port
                )
                self.next(one, time.perf_counter())
                return
            except OSError:
                self.failed += 1
                await asyncio.sleep(0.02)
        raise SystemExit(f"nobody listens on {self.host}:{self.port}")

    async def run(self) -> dict:
        begun = time.perf_counter()
        self.end, self.counts, self.finished = begun + (self.seconds or float("inf")), begun + self.skip, 0
        await asyncio.gather(*(self.open() for _ in range(self.connections)))
        if self.rate:
            await self.arrive()
        else:
            await self.done.wait()
        self.done.set()
        taken = time.perf_counter() - begun
        p50, p99 = np.quantile(self.times, [0.5, 0.99]) * 1000
        return {
            "requests": len(self.times), "failed": self.failed, "seconds": taken, "p50": p50, "p99": p99,
            "most": max(self.times) * 1000,
        }  # fmt: skip

    async def arrive(self) -> None:
        rng, due, alarm = np.random.default_rng(0), time.perf_counter(), Alarm()
        while not self.over:
            due += (self.spread * rng.exponential() + 1 - self.spread) / self.rate
            if due > time.perf_counter():
                await alarm.until(due)
            if self.idle:
                self.idle.popleft().send(due)
            else:
                self.waiting.append(due)
        while self.waiting or len(self.idle) < self.connections:
            await asyncio.sleep(0.01)


def command(url: str, **options: float) -> list[str]:
    """What starts a run as a process."""
    words = [word for name, x in options.items() for word in (f"--{name}", str(x))]
    return [sys.executable, "-m", "benchmarks.load", url, *words]


def measure(url: str, **options: float) -> dict:
    """One run in a process of its own; keywords as the options above."""
    root = Path(__file__).parents[1]
    done = subprocess.run(command(url, **options), stdout=subprocess.PIPE, check=True, cwd=root, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--skip", type=float, default=0.0)
    asked = parser.parse_args()

    async def run() -> dict:
        return await Load(**vars(asked)).run()

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
