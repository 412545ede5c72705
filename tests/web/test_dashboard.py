"""The dashboard over real HTTP: what it shows, what it lets an operator do, and what stays text."""

import ast
import json
import re
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import pytest

from recloop.delivery import Target, Verdict, gates, rollout, shadow_gate, smoke, trial
from recloop.delivery.meters import Meters
from recloop.delivery.outcomes import moments, outcomes
from recloop.delivery.records import note_gate
from recloop.delivery.wording import words
from recloop.experiments import Clusters
from recloop.experiments.difference import Moments
from recloop.settings.tokens import add_token
from recloop.store import Refused, append
from recloop.store.quarantine import held
from recloop.store.tables import rollouts
from recloop.watch import tell
from recloop.web.dashboard.charts import HEIGHT, WIDTH, lines
from recloop.web.dashboard.progress import stages
from recloop.web.dashboard.rewards import bars, scale
from recloop.web.dashboard.said import answers
from recloop.web.dashboard.texts import TEXTS
from recloop.web.dashboard.traffic import Traffic, quantile
from tests.delivery.live import TOKEN, Live, until
from tests.web.dashboard_browser import NASTY, lineage, stocked
from tests.web.test_pages import nothing_inline

OLD, NEW = Target("http://127.0.0.1:1", "old"), Target("http://127.0.0.1:2", "new")


@pytest.fixture
def live(tmp_path, monkeypatch):
    """A gateway over an empty store, in a project folder of its own."""
    monkeypatch.chdir(tmp_path)
    with Live(tmp_path / "home") as live:
        yield live


def text_of(answer) -> str:
    return " ".join(" ".join(nothing_inline(answer).texts).split())


def shows(live, *parts, query=""):
    """Wait until the page shows all parts; its text."""

    texts = []

    def found():
        texts.append(text_of(live.client.get(f"/dashboard{query}")))
        return all(part in texts[-1] for part in parts)

    until(found)
    return texts[-1]


def wish(live, action, why="because", token=TOKEN, query="", **changes):
    """Ask for a step as the page does, of what it shows now."""
    panel = re.search(r'data-rollout="(\d+)" data-seen="([^"]*)"', live.client.get("/dashboard").text)
    body = {"action": action, "rollout": int(panel[1]), "seen": panel[2], "why": why} | changes
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return live.client.post(f"/dashboard/rollout{query}", json=body, headers=headers)


def canary(live, share=0.25, later=(0.5,)):
    rollout.install(live.engine, "blue", OLD, "test", "first")
    opened = rollout.begin(live.engine, "new", "test", NASTY)
    rollout.start_canary(live.engine, opened.id, "green", NEW, share, "test", "go", later)
    live.settled(2)
    shows(live, "Rollout 1: new against old")
    return opened.id


def state(live, number):
    return rollout.find(live.engine, number).state


def test_it_works_before_anything_was_released_and_without_a_store(live):
    shows(live, "No slot was installed yet", "There was no rollout yet", "No alert was raised", "Nobody has")
    assert "No report of a training" in text_of(live.client.get("/dashboard"))
    rollouts.drop(live.engine)
    text = shows(live, "This could not be read just now (OperationalError)")
    assert "No slot was installed yet" in text, "the other panels go on"


def test_it_shows_routing_rollout_rewards_alerts_and_all_else(live):
    stocked(live, Path("reports"))
    canary(live)
    shows(
        live, "25 % of the people", "75 % of the people", "canary 50 % to come", "slateq-17f6907281",
        "drift-age", "than before the last training", "bigger-slates", "30.5 at best", "category shown",
        "not in the form that is asked for",
        "dismissed 27 times, of 100 acts", "logos (30)", "2d97c7d1", "events 4,600",
        "clicks per request 0.2", "purchases per request 0.9", "off",
    )  # fmt: skip
    page = live.client.get("/dashboard")
    assert NASTY in text_of(page)
    assert NASTY not in page.text
    korean = shows(live, "이용자의 25 %", "분당 실패", query="?lang=ko")
    assert "요청당 보상" in korean
    assert "요청당 클릭 0.2" in korean


def test_a_stream_sends_all_panels_at_first_and_then_what_changes(live):
    rollout.install(live.engine, "blue", OLD, "test", "first")
    seen: dict[str, str] = {}
    with live.client.stream("GET", "/dashboard/stream?lang=en") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        said = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith('data: {"name'))
        for panel in said:
            seen[panel["name"]] = panel["html"]
            if len(seen) == 12:
                break
        assert "no rollout yet" in seen["rollout"]
        rollout.begin(live.engine, "new", "test", NASTY)
        for panel in said:
            if panel["name"] == "rollout":
                break
        assert "Rollout 1: new against old" in panel["html"]
        assert NASTY not in panel["html"]


def test_streams_are_bounded_and_end_by_themselves(live, monkeypatch):
    monkeypatch.setattr("recloop.web.dashboard.routes.LIFE", 0.0)
    assert live.client.get("/dashboard/stream").text.startswith("retry: 1000\n\n")
    assert live.client.head("/dashboard/stream").status_code == 200
    monkeypatch.setattr("recloop.web.dashboard.routes.STREAMS", 0)
    answer = live.client.get("/dashboard/stream")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_an_operator_steps_pauses_resumes_and_promotes(live):
    number = canary(live)
    assert wish(live, "step").status_code == 200
    assert rollout.step_of(live.engine, number).share == 0.5
    for action, after in (("pause", "paused"), ("resume", "canary"), ("promote", "promoted")):
        until(lambda: wish(live, action).status_code == 200)  # noqa: B023
        assert state(live, number) == after
    told = rollout.transitions_of(live.engine, number, 1)[0]
    assert (told.who, told.why) == ("environment (dashboard)", "because")
    until(lambda: wish(live, "rollback").status_code == 200)
    assert state(live, number) == "rolled_back"


def test_the_answer_says_what_was_done_in_the_page_s_language(live):
    canary(live)
    headers = {"authorization": f"Bearer {TOKEN}"}
    body = {"action": "abort", "rollout": 1, "seen": "canary 1", "why": "enough"}
    answer = live.client.post("/dashboard/rollout?lang=ko", json=body, headers=headers)
    assert answer.json()["told"].startswith("배포 1의 현재 상태: 중단됨. 진행 중인 컨트롤러가 없습니다")


def test_gates_reasons_and_alerts_are_in_korean_too(live):
    number = canary(live)
    late = words("slow", p99_ms=900.0, allowed_ms=500.0)
    verdict = Verdict("canary", "fail", late, {"p99_ms": 900.0}, words("be_fast", allowed_ms=500.0))
    said = {"why": late.said, "remedy": verdict.remedy.said}
    note_gate(live.engine, number, "canary", asdict(verdict) | {"said": said})
    note_gate(
        live.engine, number, "ab", asdict(Verdict("ab", "no-data", "too early", {"ko": "아직 이릅니다"}))
    )
    note_gate(live.engine, number, "smoke", asdict(Verdict("smoke", "pass", "28 slates are sound")))
    rollout.refuse(live.engine, number, "test", words("by", gate=words("canary"), told=verdict.told))
    tell(live.engine, [])
    korean = shows(
        live, "99 %가 900 ms 안에 응답받습니다. 500 ms까지 허용됩니다",
        "통과하려면: 500 ms 안에 응답해야 합니다", "카나리: 99 %가 900 ms",
        "카나리 게이트가 new을(를) 거부하여(slow)", "RolloutRefused", query="?lang=ko",
    )  # fmt: skip
    assert "아직 이릅니다" in korean, "a row of a version that kept no codes"
    assert "28 slates are sound" in korean, "and one that has English alone"
    english = shows(
        live, "canary: 99 % are answered within 900 ms; 500 ms are allowed. To pass: answer within"
    )
    assert "the gate canary refused new (slow)" in english
    assert not re.search("허용됩니다|거부하여", english)


def test_reasons_of_the_quarantine_are_in_korean_too(live):
    acts = [
        {"user_id": "u", "item_id": "t", "kind": "stare"},
        {"user_id": "u", "item_id": "t", "kind": "click", "ts": 1},
        {"user_id": "u", "kind": "click"},
    ]
    assert live.client.post("/events", json=acts).status_code == 422
    assert live.client.post("/feedback", content=b"{", headers={"content-type": "application/json"}).is_error
    append(live.engine, refused=[Refused("own", "log", f"of another version {NASTY}", {})])
    korean = shows(
        live, "kind: 다음 가운데 하나여야 합니다: 'view', 'click'", "일 지났습니다. 7일까지 허용됩니다",
        "item_id: 있어야 하는 필드입니다", "body: 중간에 끊겼습니다",
        f"of another version {NASTY}", query="?lang=ko",
    )  # fmt: skip
    assert not re.search("Field required|days old|truncated", korean)
    english = shows(live, "item_id: Field required", "days old, 7 at most", "body: Input data was truncated")
    assert not re.search("있어야 하는|지났습니다", english)
    kept = {row.reason.partition(":")[2] for row in held(live.engine, 9)}
    assert {" Field required", " Input data was truncated"} <= kept, "as the sender was told"


def test_who_saw_something_older_changes_nothing(live):
    number = canary(live)
    for changes in ({"rollout": 7}, {"seen": "shadow 0"}, {"seen": "canary 2"}):
        answer = wish(live, "abort", **changes)
        assert answer.status_code == 409
        assert "moved on" in answer.json()["error"]
    assert wish(live, "resume").json()["error"] == "“Resume” cannot be done while a rollout is: canary."
    assert wish(live, "resume", query="?lang=ko").json()["error"] == (
        "배포가 ‘카나리’ 상태일 때는 ‘다시 진행’을(를) 할 수 없습니다."
    )
    assert (
        wish(live, "abort", seen="shadow 0", query="?lang=ko").json()["error"].startswith("화면에 보인 뒤로")
    )
    assert wish(live, "rollback").status_code == 409
    assert state(live, number) == "canary"


def test_who_may_not_and_who_comes_from_elsewhere_changes_nothing(live):
    number = canary(live)
    reader = add_token(live.places.token_list, "reader", ["read"])
    assert wish(live, "abort", token="").status_code == 401
    assert wish(live, "abort", token="wrong").status_code == 401
    assert wish(live, "abort", token=reader).status_code == 403
    assert wish(live, "abort", why="  ").status_code == 422
    assert wish(live, "delete").status_code == 422
    body = json.dumps({"action": "abort", "rollout": 1, "seen": "canary 1", "why": "x"})
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}

    def post(**more):
        return live.client.post("/dashboard/rollout", content=body, headers=headers | more).status_code

    assert post(origin="http://evil.example") == 403
    assert post(**{"content-type": "text/plain"}) == 415
    assert state(live, number) == "canary"
    assert post(origin=live.url) == 200


def test_from_a_request_to_all_that_led_to_it(live):
    request_id = stocked(live, Path("reports"))
    found = live.client.get("/dashboard/request", params={"id": f" {request_id} ", "lang": "en"})
    assert found.status_code == 303
    page = live.client.get(found.headers["location"])
    text = text_of(page)
    known = lineage("dqn-5a0c9e4b1d" if "dqn" in text else "slateq-17f6907281", 1 if "dqn" in text else 2)
    for part in (known.run_id, known.data_version, known.git_commit, "4,118", "events", "The slate", NASTY):
        assert part in text, part
    assert ("passed" if known.valid else "failed") in text
    assert NASTY not in page.text
    assert "u50" not in text, "whom it was for is not told"
    parts = [float(one) for one in re.findall(r"</svg> ([\d.]+)", page.text)]
    whole = float(re.search(r"as a whole: ([\d.]+\d)", text)[1])
    assert whole == pytest.approx(np.prod(parts), rel=0.01)


def test_a_fallback_an_unknown_and_an_unfit_request_are_told_apart(live):
    shown = live.ask("u1").json()
    page = live.client.get(f"/dashboard/request/{shown['request_id']}")
    assert "No slot answered" in text_of(page)
    unknown = live.client.get("/dashboard/request/nobody")
    assert (unknown.status_code, "Nothing was logged" in unknown.text) == (404, True)
    for wanted in (NASTY, "a b", "x" * 65, "", "\0"):
        answer = live.client.get("/dashboard/request", params={"id": wanted})
        assert answer.status_code == 422
        assert "That is no request id" in text_of(answer)
        assert NASTY not in answer.text
    assert live.client.get("/dashboard/request/%3Cscript%3E").status_code == 422


def test_traffic_is_what_was_asked_and_how_long_it_took(live):
    gateway_meters = Meters()
    traffic = Traffic(gateway_meters)
    traffic._samples.append(traffic._look(0.0))
    for seconds in [0.004] * 50 + [0.03] * 50:
        gateway_meters.answered.labels("/recommend", 200).inc()
        gateway_meters.gateway_seconds.labels("/recommend").observe(seconds)
    gateway_meters.answered.labels("/feedback", 200).inc(20)
    gateway_meters.answered.labels("/feedback", 503).inc(4)
    gateway_meters.fallbacks.inc(2)
    traffic._samples.append(traffic._look(10.0))
    now = traffic.now()
    assert (now.slates, now.acts, now.failed, now.fallbacks) == (10.0, 2.4, 0.4, 0.2)
    assert now.p50 == pytest.approx(5.0)
    assert now.p99 == pytest.approx(20 + 30 * 0.98)
    assert quantile(traffic._samples[1], traffic._samples[1], 0.5) is None


def test_moments_say_what_the_people_say(live):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, 300).astype(float)
    totals = rng.normal(2, 1, 300) * counts
    people = Clusters(totals, counts)
    sums = (totals.sum(), counts.sum(), (totals**2).sum(), (counts**2).sum(), (totals * counts).sum())
    assert Moments(300, *sums).interval() == pytest.approx(people.interval())
    stocked(live, Path("reports"))
    whole = outcomes(live.engine, live.params.reward, since=100)
    summed = moments(live.engine, live.params.reward, 100)
    assert summed.keys() == whole.keys()
    for policy, (requests, found) in summed.items():
        assert (requests, found.people) == (whole[policy].requests, len(whole[policy].people.counts))
        assert found.interval() == pytest.approx(whole[policy].people.interval())


def test_bars_share_one_scale():
    good, lone = bars({"lone": (1, Moments(1, -1, 1, 1, 1, -1)), "good": (6, Moments(3, 9, 6, 29, 12, 18))})
    assert (good.policy, good.mean, good.requests, lone.low) == ("good", 1.5, 6, None)
    assert good.low == pytest.approx(1.5 - 4.302653 * 0.5 / 3**0.5, rel=1e-5)
    assert good.start + good.width == pytest.approx(100)
    assert lone.place == 0
    assert bars({}) == []


def test_lines_fill_their_place_and_leave_gaps():
    line = lines([0, 5, 10], [1.0, None, 3.0])
    assert line.paths == (f"M0.0 {HEIGHT - HEIGHT / 3:.1f}h6M{WIDTH - 6} 0.0h6",)
    assert (line.bottom, line.top, line.first, line.last) == (0.0, 3.0, 0, 10)
    joined = lines([0, 5, 10, 15], [1.0, 2.0, None, 3.0])
    assert joined.paths == (f"M0.0 80.0L{WIDTH / 3:.1f} 40.0M{WIDTH - 6} 0.0h6",)
    assert lines([0], [1.0]) is None
    assert lines([0, 1], [None, float("nan")]) is None


def test_the_way_of_a_rollout(live):
    number = canary(live, 0.25, (0.5,))

    def way():
        told = rollout.transitions_of(live.engine, number)
        here, step = rollout.find(live.engine, number), rollout.step_of(live.engine, number)
        return [(one.name, one.share, one.state) for one in stages(here, told, step, live.params.delivery)]

    planned = [("pending", None), ("canary", 0.25), ("canary", 0.5), ("promoted", 1.0)]
    assert way() == [(*one, s) for one, s in zip(planned, ["done", "now", "next", "next"], strict=True)]
    rollout.grow(live.engine, number, 1, "me", "on")
    rollout.pause(live.engine, number, "me", "wait")
    assert [one[2] for one in way()] == ["done", "done", "now", "next"]
    rollout.abort(live.engine, number, "me", "no")
    assert [one[2] for one in way()] == ["done", "done", "ended", "left"]


def test_answers_of_few_people_are_not_shown():
    told = answers(['{"likes": "logos"}'] * 3 + ['{"likes": "my name is Kim"}', '{"other": 1}'])
    assert told == [("likes", [("logos", 3)], 1), ("other", [], 1)]


def test_both_languages_say_everything():
    english, korean = TEXTS["en"], TEXTS["ko"]
    assert english.keys() == korean.keys()
    same = {"other", "other_language", "utc"}
    assert [
        name for name, text in korean.items() if not re.search("[가-힣]", text) and name not in same
    ] == []
    for name, text in english.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", korean[name])), name


def test_every_figure_of_a_gate_has_its_name():
    source = [Path(module.__file__).read_text() for module in (gates, shadow_gate, smoke, trial)]
    names = {
        key.value
        for node in ast.walk(ast.parse("\n".join(source)))
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
        if getattr(getattr(node, "target", None) or node.targets[0], "id", "") == "figures"
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    }
    assert {"p99_ms", "overlap", "most_ms", "next_look", "baked_s"} <= names
    no_numbers = {"ko", "hurt", "look"}
    assert [name for name in names - no_numbers if f"figure_{name}" not in TEXTS["en"]] == []


def test_a_rollout_shows_where_it_was_ended_and_its_figures_by_name(live):
    number = canary(live)
    verdict = Verdict(
        "canary", "fail", words("look_at_logs"), {"p99_ms": 900.0, "shift_age": 0.3, "odd_one": 1}
    )
    note_gate(live.engine, number, "canary", asdict(verdict))
    rollout.refuse(live.engine, number, "test", "too slow")
    korean = shows(
        live, "카나리 25 % 여기서 끝남", "카나리 50 % 도달하지 않음", "99 백분위(ms) 900", "거리: 나이 0.3",
        "odd one 1", "모든 시각은 UTC", query="?lang=ko",
    )  # fmt: skip
    assert "ended here" not in korean


def test_the_scale_of_the_rewards_has_both_its_ends():
    made = bars({"low": (6, Moments(3, -3, 6, 9, 12, -6)), "good": (6, Moments(3, 9, 6, 29, 12, 18))})
    least, most = scale(made)
    assert (least, most) == (min(bar.low for bar in made), max(bar.high for bar in made))
    assert least < 0 < most
    assert scale([]) == (0.0, 0.0)


def test_nobody_computes_while_nobody_looks(live):
    names = [panel.name for panel in live_board(live).panels if not panel.always]
    assert names
    before = dict(live_board(live)._shown)
    assert set(before) <= {"now"}
    assert httpx.get(f"{live.url}/dashboard").status_code == 200
    until(lambda: set(names) <= live_board(live)._shown.keys())


def live_board(live):
    """The board of the gateway under test: behind its page's route."""
    routes = live.server.config.app.routes
    return next(route.endpoint.__self__.board for route in routes if route.path == "/dashboard")
