"""The rounds of the demo: learn, release, browse, challenge, measure."""

import csv
import json
import threading
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import torch
from matplotlib.figure import Figure

from flows.demo_record import Record, peak, sampled_memory
from flows.ingest import ingest
from flows.release import Nothing, release, summary
from flows.retrain import retrain
from recloop.cli.system import serve_champion
from recloop.delivery import read_routing, rollout, slots
from recloop.delivery.visitors import Visit, Visitors
from recloop.evaluation import mean_interval
from recloop.features import FeatureSpec
from recloop.market import GroundTruth, Market, UserModel
from recloop.market.population import DEVICES
from recloop.registry import connect, resolve
from recloop.settings import Places, load_params
from recloop.store import open_store
from recloop.store.snapshot import Watermark

LOOK = {
    "validate": "reports/data_docs/index.html",
    "user_model": "reports/user_model.json",
    "train": "reports/learning_curve.csv",
    "evaluate": "reports/evaluation.png",
    "register": "MLflow: mlflow.db",
}
SAID = {
    "pending": "waits",
    "paused": "is paused: too little was seen to decide",
    "shadow": "is still a shadow: too few requests were copied to decide",
    "canary": "is still in its canary: too little was seen to decide",
    "ab": "is still in its A/B test",
    "promoted": "was promoted",
    "retired": "was promoted, and the champion before it has retired",
    "refused": "was turned down",
    "aborted": "was aborted",
    "rolled_back": "was rolled back",
}
VISITORS = {1: 0, 2: 1, 3: 0}  # which half of the people comes when: nobody comes twice within a session
SHADOWED = 60  # people of round 1 who come back while the challenger is a shadow


def learn(record: Record, number: int) -> None:
    """One round of the offline half, through Prefect."""
    if number > 1:
        ingest()
    with sampled_memory() as samples:
        runs = retrain()
    for run in runs:
        figure = _figure(run.name) if run.ran else "unchanged"
        memory = peak(samples, run.began, run.began + run.seconds)
        record.add(f"{number} {run.name}", run.seconds, memory, figure, LOOK.get(run.name, "data/, models/"))
    figures = json.loads(Path("reports/evaluation.json").read_text())
    place = "truth" if "truth" in figures else "user_model"
    with Path("reports/learning_curve.csv").open() as file:
        curve = [(float(row["env_steps"]), float(row["mean_return"])) for row in csv.DictReader(file)]
    rounds = record.figures.setdefault("rounds", [])
    rounds.append({"values": figures[place], "place": place, "curve": curve})


def _figure(stage: str) -> str:
    def report(name: str) -> dict:
        return json.loads(Path(f"reports/{name}.json").read_text())

    match stage:
        case "collect" | "snapshot":
            mark = Watermark.load(Path("data/watermark.json"))
            return f"{mark.impressions:,} impressions, {mark.events:,} events"
        case "validate":
            return "clean rows go on, bad ones to quarantine"
        case "preprocess":
            return f"{report('features')['train_requests']:,} requests to learn from"
        case "user_model":
            return f"click calibration error {report('user_model')['train']['click_calibration_error']:.3f}"
        case "train":
            found = report("training")
            return f"{found['env_steps']:,} env steps at {found['steps_per_second']:,.0f} a second"
        case "evaluate":
            gap = report("evaluation")["lift"]["most_popular"]
            return f"most popular {gap['difference']:+.2f} ({gap['low']:+.2f} to {gap['high']:+.2f})"
        case "register":
            return f"version {report('registered')['version']}"
        case "package":
            return str(report("bento")["tag"])
    return ""


def slots_now(where: Places) -> tuple[str | None, str]:
    """The champion's slot, if there is one, and the slot for who comes next."""
    routing = read_routing(open_store(where.store))
    if routing is None:
        return None, slots.COLOURS[0]
    return routing[1].champion, slots.other(routing[1].champion)


def first_round(where: Places) -> str:
    """Release the first policy; where there is a champion already, it goes on serving."""
    colour, champion = slots_now(where)[0], resolve(connect(where), "champion")
    if colour and champion:
        serve_champion(where, champion)
        return f"the champion of an earlier run, version {champion.version}, goes on serving"
    verdicts = release()
    return ", ".join(f"{verdict.name} {verdict.outcome}" for verdict in verdicts)


def crowd(number: int, wave: int) -> tuple[Market, list[str], list[str] | None]:
    """People who are there to browse, the names under which they are known, and their devices.

    In the generated market half of its people, who come back in every wave; with real data strangers who
    react like the test people's user model.
    """
    params = load_params()
    if is_generated():
        market = GroundTruth(params.market, params.reward, params.seed)
        market.seed(params.seed + number + 100 * wave)
        half = torch.arange(VISITORS[number], params.market.users, 2)
        half = half[:SHADOWED] if number == 3 else half
        market.reset_to(half)
        names = [market.users[i].user_id for i in half.tolist()]
        return market, names, [DEVICES[i] for i in market.devices.tolist()]
    spec = FeatureSpec.load(Path("data/features/spec.json"))
    model = UserModel.load(Path("models/user_model/test"))
    model.seed(params.seed + number + 100 * wave)
    people = SHADOWED if number == 3 else params.market.users // 2
    model.reset(people)
    model.profile = torch.from_numpy(spec.profile(None)).expand(people, -1).clone()
    model.history = torch.full((people, spec.history), len(spec.item_ids))
    return model, [f"visitor-{number}-{wave}-{i}" for i in range(people)], None


def browse(where: Places, requests: int, number: int, record: Record) -> str:
    """Let people browse through the gateway."""
    visit = come(where, requests, number, "people browse")
    record.figures[f"visit_{number}"] = _rewards(visit)
    record.figures["slate"] = visit.titles
    return said(visit)


def is_generated() -> bool:
    """Whether the store holds the generated market."""
    return Watermark.load(Path("data/watermark.json")).source == "market"


def come(where: Places, requests: int, number: int, label: str) -> Visit:
    """Crowds before the gateway, until that many slates were asked for."""
    item_ids = FeatureSpec.load(Path("data/features/spec.json")).item_ids
    visit = Visit()
    for wave in count():
        if visit.requests >= requests:
            break
        market, user_ids, devices = crowd(number, wave)
        url = f"http://{where.host}:{where.gateway_port}"
        Visitors(url, market, user_ids, item_ids, visit, devices).browse(requests, label)
    return visit


def said(visit: Visit) -> str:
    """A visit in one line."""
    return (
        f"{visit.requests:,} requests, {visit.failed} failed, {visit.fallbacks} fallbacks,"
        f" p99 {1000 * np.quantile(visit.times, 0.99):.0f} ms"
    )


def _rewards(visit: Visit) -> dict[str, list[float]]:
    return {policy: list(mean_interval(np.array(rewards))) for policy, rewards in visit.rewards.items()}


def challenge(where: Places, requests: int, seconds: float, record: Record, changes: dict) -> str:
    """Release the second policy while people browse: a few while it is a shadow, others for its canary."""
    found: list[Visit] = []
    engine = open_store(where.store)
    decided = threading.Event()

    def browse_canary() -> None:
        shadowed = False
        while not decided.wait(0.1):
            role = role_of_challenger(where)
            if role == "shadow" and not shadowed:
                come(where, 2 * SHADOWED, 3, "people browse, the challenger gets copies")
                shadowed = True
            elif role == "challenger":
                found.append(come(where, requests, 2, "people browse, some with the challenger"))
                return

    thread = threading.Thread(target=browse_canary)
    thread.start()
    try:
        verdicts = release(canary_seconds=seconds, changes=changes)
    except Nothing as nothing:
        return str(nothing)
    finally:
        decided.set()
        thread.join()
    record.figures["visit_2"] = _rewards(found[0]) if found else {}
    record.figures["verdicts"] = summary(verdicts)
    record.figures["verdict"] = [f"{v.name}: {v.outcome}. {v.why}" for v in verdicts]
    last = next(iter(rollout.history(engine, 1)), None)
    state = f"{last.challenger} {SAID[last.state]}" if last else "there was no champion to challenge"
    return f"{state}; {said(found[0]) if found else 'nobody met the challenger'}"


def role_of_challenger(where: Places) -> str:
    """What the gateway, which looks at the routing now and then, has the challenger do; empty for nothing."""
    routing = httpx.get(f"http://{where.host}:{where.gateway_port}/status", timeout=10).json()["routing"]
    return next((role for role in ("challenger", "shadow") if routing and routing[role]), "")


def measure(where: Places, record: Record) -> str:
    """Draw ``reports/demo.png``; the figure is how the last policy compares in its market."""
    rounds = record.figures["rounds"]
    _plot(rounds, Path("reports/demo.png"))
    last = rounds[-1]["values"]
    rivals = {name: last[name] for name in ("random", "most_popular", "myopic")}
    mine = last["policy"]
    clear = standing(mine, rivals)
    place = (
        "the generated market itself" if rounds[-1]["place"] == "truth" else "the test people's user model"
    )
    text = f"in {place} a session is worth {mine['value']:.2f} ({mine['low']:.2f} to {mine['high']:.2f})"
    others = ", ".join(f"{name.replace('_', ' ')} {row['value']:.2f}" for name, row in rivals.items())
    record.figures.setdefault("verdict", []).append(f"{text}; {others}: {clear}")
    return clear


def standing(mine: dict[str, float], rivals: dict[str, dict[str, float]]) -> str:
    """Whom the policy clearly beats and by whom it is clearly beaten: the intervals do not touch."""
    above = [name.replace("_", " ") for name, row in rivals.items() if mine["low"] > row["high"]]
    below = [name.replace("_", " ") for name, row in rivals.items() if mine["high"] < row["low"]]
    parts = [
        f"clearly {word} than {', '.join(names)}"
        for word, names in (("more", above), ("less", below))
        if names
    ]
    return "; ".join(parts) or "not clearly more than any baseline"


def _plot(rounds: list[dict], path: Path) -> None:
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, one in enumerate(rounds, 1):
        steps, returns = zip(*one["curve"], strict=True)
        left.plot(steps, returns, marker=".", label=f"round {number}")
    left.set(
        title="Learning curve", xlabel="env steps", ylabel="mean return of a session (greedy, in training)"
    )
    left.legend()
    for name, label in (
        ("policy", "policy"),
        ("random", "random"),
        ("most_popular", "most popular"),
        ("myopic", "myopic click model"),
    ):
        rows = [one["values"][name] for one in rounds]
        values = np.array([row["value"] for row in rows])
        errors = [values - [row["low"] for row in rows], [row["high"] for row in rows] - values]
        right.errorbar(np.arange(1, len(rows) + 1), values, yerr=errors, marker="o", capsize=4, label=label)
    place = "in the generated market" if rounds[-1]["place"] == "truth" else "in the test people's user model"
    right.set(title=f"Reward of a session {place}", xlabel="round", ylabel="mean return, 95 % interval")
    right.set_xticks(range(1, len(rounds) + 1))
    right.margins(x=0.1, y=0.3)
    right.legend(ncols=2, fontsize=9, loc="upper center")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
