"""A marketplace in the middle of a rollout, as the dashboard shows it, and Chromium to look at it with."""

import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from recloop.delivery import Target, Verdict, rollout
from recloop.delivery.controller import Controller, Hands
from recloop.delivery.lease import take
from recloop.experiments.catalogue import Experiment, expose, start
from recloop.schema import Arrival, Event, Impression, Item, User, now_us
from recloop.store import Refused, add_items, add_users, append
from recloop.store.data_versions import note_version
from recloop.store.lineage import Lineage, note_lineage
from recloop.watch import Alert, notify
from recloop.watch.notes import expect as note_expected
from tests.delivery.live import Live

expect.set_options(timeout=60_000)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NASTY = '<script>window.hacked = 1</script><img src=x onerror="window.hacked=1">'
SHAPES = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}
ITEMS = ["로고 디자인", "Voice-over in Korean", NASTY, "Wedding film", "중국어 번역", "Excel tutoring"]


def lineage(policy: str, version: int) -> Lineage:
    """Of a made-up policy."""
    tables = {"events": {"rows": 4120, "kept": 4118, "quarantined": 2}, "users": {"rows": 90, "kept": 90}}
    return Lineage(
        policy=policy,
        version=version,
        run_id=f"{version}d97c7d17412d46a0be5264a9b048239",
        registered=now_us() - (10 - version) * 3_600_000_000,
        data_version=f"{version}123456789abcdef0123456789abcdef.dir",
        data_source="market",
        git_commit=f"{version}be265a9f3c1d5e7a9b0c2d4e6f8a0b1c2d3e4f5"[:40],
        git_dirty=version == 1,
        valid=version != 2,
        tables=tables,
    )


def stocked(live: Live, reports: Path) -> str:
    """Fill the store and the reports with what the panels show; the id of a request."""
    engine, rng, now = live.engine, np.random.default_rng(3), now_us()
    items = [Item(item_id=f"t{n}", title=title, category=f"c{n % 3}") for n, title in enumerate(ITEMS)]
    add_items(engine, items)
    likes = ["logos", "film", NASTY]
    add_users(
        engine,
        [
            User(user_id=f"u{n}", age=20 + n % 40, sex="FMX"[n % 3], attributes={"likes": likes[n % 3]})
            for n in range(90)
        ],
    )
    shown, acts = [], []
    for n in range(600):
        policy = ("slateq-17f6907281", "dqn-5a0c9e4b1d")[int(rng.random() < 0.3)]
        for position in range(4):
            item = f"t{(n + position) % len(ITEMS)}"
            shown.append(
                Impression(
                    request_id=f"r{n}",
                    position=position,
                    user_id=f"u{n % 90}",
                    item_id=item,
                    propensity=float(rng.uniform(0.05, 0.6)),
                    policy=policy,
                    slot="blue",
                    device=("phone", "desktop")[n % 2],
                    ts=now - (600 - n) * 1_000_000,
                )
            )
        kind = str(rng.choice(["click", "view", "dismiss", "purchase", "rating"]))
        acts.append(
            Event(
                event_id=f"e{n}",
                user_id=f"u{n % 90}",
                item_id=f"t{n % len(ITEMS)}",
                kind=kind,
                value=4.0 if kind == "rating" else 1.0,
                request_id=f"r{n}",
                ts=now - (600 - n) * 1_000_000,
            )
        )
    refused = [Refused("http", "event", f"kind: {NASTY} is none", {"kind": "stare"})] * 3
    append(engine, shown, [Arrival(**act.model_dump(), received=now) for act in acts], refused)
    for version, policy in ((1, "dqn-5a0c9e4b1d"), (2, "slateq-17f6907281")):
        note_lineage(engine, lineage(policy, version))
    note_version(live.places.home, "a" * 32, "market", {"events": 4000}, 3, 3)
    note_version(live.places.home, "b" * 32, "market", {"events": 4600}, 1, 4)
    notify(engine, [Alert("quiet", "critical", "no feedback for 30 hours: is the storefront up?", {})], [])
    notify(engine, [Alert("drift-age", "warning", f"age has drifted {NASTY}", {"distance": 0.3})], [])
    note_expected(engine, "slateq-17f6907281", {"click": 0.2, "purchase": 0.9}, now)
    plan = Experiment(
        name="bigger-slates",
        arms={"usual": 0.5, "bigger": 0.5},
        primary="reward_per_request",
        guardrails=("dismissals_per_request",),
        people=400,
        effect=0.1,
    )
    expose(engine, start(engine, plan, "test", "to see"), [f"u{n}" for n in range(90)], now - 700_000_000)
    reports.mkdir(exist_ok=True)
    curve = [f"{4096 * n},{20 + 9 * (1 - 0.8**n) + rng.normal():.3f},{12 + n:.3f}" for n in range(1, 21)]
    (reports / "learning_curve.csv").write_text(
        "\n".join(["env_steps,mean_return,exploring_return", *curve]) + "\n"
    )
    figures = {"algorithm": "slateq", "seconds": 23.4, "final_return": 28.4, "best_return": 30.5}
    (reports / "training.json").write_text(json.dumps(figures))
    mark = {"source": "market", "impressions": 1200, "events": 300, "catalogue": "f" * 64}
    (reports.parent / "data").mkdir(exist_ok=True)
    (reports.parent / "data" / "watermark.json").write_text(json.dumps(mark))
    return "r500"


@contextmanager
def controlled(live: Live, url: str, policy: str, verdict: Verdict) -> Iterator[int]:
    """A controller that drives a rollout, and whose gate says the verdict for ever; the rollout's number."""
    hands = Hands(
        judge=lambda: Verdict("offline", "pass", "challenger minus champion is within [0.1, 0.9] at 95 %"),
        start=lambda: Target(url, policy),
        smoke=lambda _: Verdict("smoke", "pass", "28 slates are sound", {"slates": 28, "warm_ms": 1.04}),
        ask=lambda here: verdict,
        plan=dict,
        ready=lambda _: Verdict("switch", "pass", ""),
    )
    params = live.params.delivery.model_copy(update={"shadow_requests": 0, "step_seconds": 600.0})
    opened = rollout.begin(live.engine, policy, "release flow", f"the registry's challenger {NASTY}")

    def drive() -> None:
        with take(live.engine, "release flow (host:1)", patience=0) as lease:
            colour = "green"
            Controller(live.engine, lease, hands, params, colour, "release flow", print).drive(opened.id)

    thread = threading.Thread(target=drive)
    thread.start()
    try:
        yield opened.id
    finally:
        if rollout.current(live.engine) is not None:
            rollout.abort(live.engine, opened.id, "test", "over")
        thread.join(60)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened_page(browser: Browser, url: str, shape: str = "light", **more) -> Page:
    """A page in a context of its own; ``page.problems`` lists what the browser complained of."""
    page = browser.new_context(locale="en", **(SHAPES[shape] | more)).new_page()
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.on("console", lambda said: said.type == "error" and problems.append(said.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.problems = problems
    page.goto(url)
    return page


def faults(page: Page) -> list[str]:
    """What axe finds serious or critical, each with its places."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['html'] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def sticking_out(page: Page, but: str = "svg") -> list[str]:
    """What is wider than its place: the page, a table than its wrapper, a cut-off text; not ``but``."""
    return page.evaluate(
        """but => {
          const found = [], root = document.documentElement, most = root.clientWidth;
          if (root.scrollWidth > most) found.push(`page ${root.scrollWidth} > ${most}`);
          for (const one of document.querySelectorAll("body *")) {
            const style = getComputedStyle(one), box = one.getBoundingClientRect();
            if (one.clientWidth <= 1 || one.closest(`${but}, svg, .unseen, .hidden, thead`)) continue;
            const hides = style.overflowX !== "visible" && one.tagName !== "INPUT";
            if (hides && one.scrollWidth > one.clientWidth + 1)
              found.push(`${one.tagName}.${one.className} ${one.scrollWidth} > ${one.clientWidth}`);
            if (box.right > most + 1)
              found.push(`${one.tagName}.${one.className} ends at ${Math.round(box.right)}`);
          }
          return found;
        }""",
        but,
    )


def roles(page: Page) -> dict[str, int]:
    """How often each role is in what Chromium tells a screen reader."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return Counter(node["role"]["value"] for node in nodes if not node["ignored"])
