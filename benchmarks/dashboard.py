"""The dashboard over a store of a million impressions, beside the start page of MLflow's own UI.

Both are served by their own process on this machine and looked at in a Chromium without a window, in turn.
The figures are the browser's own: the first byte of the page, and its first paint with content in it (of
MLflow's, which is drawn by a script, that is the frame of its page, before its runs are read). *Cold*: the
gateway has just started, and no panel was ever computed. *Under load*: 50 recommendations a second at the
same gateway.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import Engine, text

from benchmarks.race import Row, main, median_ratio
from recloop.delivery import Target, rollout
from recloop.delivery.processes import free_port
from recloop.schema import Item
from recloop.store import add_items, open_store

IMPRESSIONS, SLATE, PEOPLE, POLICIES = 1_000_000, 8, 50_000, 4
LOAD = 50.0  # requests per second
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PEER = "MLflow UI"
TIMES = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  return [performance.getEntriesByType("navigation")[0].responseStart, paint ? paint.startTime : -1];
}"""
NUMBERS = "WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x + 1 < {count})"


def fill(engine: Engine, count: int = IMPRESSIONS) -> None:
    """Items, people, impressions of the last day, and an act for every request."""
    add_items(engine, [Item(item_id=f"i{n}", title=f"Item {n}", category=f"c{n % 9}") for n in range(1000)])
    begin = time.time_ns() // 1000 - 86_400_000_000
    requests = count // SLATE
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO users (user_id, age, sex, region, attributes, created_at)"
                f" {NUMBERS.format(count=PEOPLE)} SELECT 'u' || x, 20 + x % 40, 'F', 'r' || (x % 9),"
                f' \'{{"likes": "logos"}}\', 0 FROM n'
            )
        )
        connection.execute(
            text(
                f"INSERT INTO impressions (request_id, position, user_id, item_id, propensity, policy, slot,"
                f" device, partial, ts) {NUMBERS.format(count=count)} SELECT 'r' || (x / {SLATE}),"
                f" x % {SLATE}, 'u' || ((x / {SLATE}) * 7919 % {PEOPLE}), 'i' || (x * 31 % 1000), 0.1,"
                f" 'dqn-' || ((x / {SLATE}) % {POLICIES}), 'blue', 'phone', FALSE, {begin} + x FROM n"
            )
        )
        connection.execute(
            text(
                f"INSERT INTO events (event_id, user_id, item_id, kind, value, request_id, ts)"
                f" {NUMBERS.format(count=requests)} SELECT 'e' || x, 'u' || (x * 7919 % {PEOPLE}),"
                f" 'i' || (x * {SLATE} * 31 % 1000), CASE x % 5 WHEN 0 THEN 'click' WHEN 1 THEN 'dismiss'"
                f" ELSE 'view' END, 1, 'r' || x, {begin} + x * {SLATE} FROM n"
            )
        )
        connection.execute(text("ANALYZE"))


@contextmanager
def served(command: list[str], url: str, env: dict[str, str]) -> Iterator[None]:
    """A process, once it answers at the address."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=os.environ | env, stdout=quiet, stderr=quiet)
    try:
        for _ in range(1200):
            if process.poll() is not None:
                raise SystemExit(f"{command[2]} ended before it answered")
            try:
                if httpx.get(url, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def gateway(home: Path) -> Iterator[str]:
    """Ours; its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {"RECLOOP_HOME": str(home), "RECLOOP_STORE_URL": "", "RECLOOP_CONSENT": "assumed"}
    with served([sys.executable, "-m", "recloop.web", "--port", str(port)], f"{url}/healthz", env):
        yield url


@contextmanager
def mlflow(home: Path) -> Iterator[str]:
    """The peer, as `recloop up` starts it; its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"]
    with served(command, f"{url}/health", {"MLFLOW_DISABLE_TELEMETRY": "true"}):
        yield url


def visit(browser: Browser, url: str) -> tuple[float, float, Page]:
    """Seconds until the first byte and the first paint, in a browser that remembers nothing; the page."""
    page = browser.new_context().new_page()
    page.goto(url)
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    byte, paint = page.evaluate(TIMES)
    return byte / 1000, paint / 1000, page


def whole(browser: Browser, url: str) -> tuple[float, float, float]:
    """As ``visit``, and seconds until every panel has been read."""
    begun = time.perf_counter()
    byte, paint, page = visit(browser, url)
    done = """() => [...document.querySelectorAll("[data-panel]")].every(
        (one) => !one.textContent.includes("Being read"))"""
    page.wait_for_function(done, timeout=120_000)
    seconds = time.perf_counter() - begun
    page.context.close()
    return byte, paint, seconds


def seen_after(engine: Engine, page: Page, number: int, turn: int) -> float:
    """Seconds from a transition in the store until the page shows it."""
    step, state = (rollout.pause, "paused") if turn % 2 == 0 else (rollout.resume, "pending")
    begun = time.perf_counter()
    step(engine, number, "bench", "to see")
    page.wait_for_function(
        f"() => document.querySelector('[data-panel=rollout] [data-state]').dataset.state.includes('{state}')"
    )
    return time.perf_counter() - begun


@contextmanager
def load(url: str) -> Iterator[None]:
    """Recommendations at a steady rate."""
    over = threading.Event()

    def ask(first: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not over.wait(4 / LOAD):
                client.post("/recommend", json={"user_id": f"u{first}"})

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def lower(case: str, ours: list[float], theirs: list[float] | None = None) -> Row:
    """Medians in seconds."""
    mine = float(np.median(ours))
    if theirs is None:
        return Row(case, "s", mine, None, None, None, None, None, "lower", None)
    ratio = median_ratio(np.array(theirs) / np.array(ours))
    return Row(case, "s", mine, PEER, float(np.median(theirs)), *ratio, better="lower", limit=None)


def cases(repeats: int) -> Iterator[Row]:
    """Cold, beside the peer, and under load."""
    if CHROMIUM is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        engine = open_store(f"sqlite:///{home}/store.db")
        fill(engine)
        rollout.install(engine, "blue", Target("http://127.0.0.1:1", "dqn-0"), "bench", "first")
        number = rollout.begin(engine, "dqn-1", "bench", "try").id
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield from _cold(browser, home, 3)
        with gateway(home) as ours, mlflow(home) as theirs:
            yield from _beside(browser, f"{ours}/dashboard?lang=en", theirs, repeats)
            page = visit(browser, f"{ours}/dashboard?lang=en")[2]
            yield lower(
                "transition until shown", [seen_after(engine, page, number, n) for n in range(repeats)]
            )
            with load(ours):
                yield from _loaded(browser, f"{ours}/dashboard?lang=en", repeats)
                turns = range(repeats, 2 * repeats)
                yield lower(
                    "transition until shown, under load", [seen_after(engine, page, number, n) for n in turns]
                )
        browser.close()
        engine.dispose()


def _cold(browser: Browser, home: Path, repeats: int) -> Iterator[Row]:
    found = []
    for _ in range(repeats):
        with gateway(home) as url:
            found.append(whole(browser, f"{url}/dashboard?lang=en"))
    byte, paint, seconds = (list(column) for column in zip(*found, strict=True))
    yield lower("first byte, cold", byte)
    yield lower("first paint, cold", paint)
    yield lower("all panels read, cold", seconds)


def _beside(browser: Browser, ours: str, theirs: str, repeats: int) -> Iterator[Row]:
    def look(url: str) -> tuple[float, float]:
        byte, paint, page = visit(browser, url)
        page.context.close()
        return byte, paint

    look(ours), look(theirs)
    pairs = [(look(ours), look(theirs)) for _ in range(repeats)]
    for n, name in enumerate(("first byte", "first paint")):
        yield lower(name, [mine[n] for mine, _ in pairs], [other[n] for _, other in pairs])


def _loaded(browser: Browser, url: str, repeats: int) -> Iterator[Row]:
    found = [visit(browser, url) for _ in range(repeats)]
    for n, name in enumerate(("first byte", "first paint")):
        yield lower(f"{name}, under load", [one[n] for one in found])
    for *_, page in found:
        page.context.close()


if __name__ == "__main__":
    main(cases, __doc__ or "", quick=3)
