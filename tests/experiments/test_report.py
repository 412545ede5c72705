"""From the store to a sentence: what was logged is counted right, and each world gets its verdict."""

import itertools
import re
import string

import numpy as np
import pytest

from recloop.experiments import Clusters, catalogue
from recloop.experiments.catalogue import Conflict, Experiment, Look
from recloop.experiments.cuped import Covariate
from recloop.experiments.metrics import METRICS, Sample, baseline, measure, metric_named
from recloop.experiments.report import judge, report
from recloop.experiments.verdict import TEXTS, sentences
from recloop.schema import Event, Impression
from recloop.settings.params import RewardParams
from recloop.store import append, open_store, set_consents

REWARD = RewardParams(view=0.1, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4)
HANGUL = re.compile("[가-힣]")


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def planned(**changes):
    plan = {
        "name": "bigger-photos", "arms": {"now": 0.5, "bigger": 0.5}, "primary": "clicks_per_request",
        "guardrails": ("buyers", "dismissals_per_request"), "people": 1000, "effect": 0.05, "looks": 4,
    }  # fmt: skip
    return Experiment.model_validate(plan | changes)


def asked(request, user, ts, **changes):
    row = {"request_id": request, "position": 0, "user_id": user, "item_id": "a", "propensity": 0.5}
    return Impression.model_validate(row | {"policy": "p", "ts": ts} | changes)


def acted(number, user, kind, ts, value=1.0):
    return Event(event_id=f"e{number}", user_id=user, item_id="a", kind=kind, value=value, ts=ts)


def test_what_people_did_is_counted_from_their_exposure_on(engine):
    begun = catalogue.start(engine, planned(), "t", "t")
    users = [f"u{n}" for n in range(8)]
    arms = catalogue.expose(engine, begun, users, ts=100)
    shown = [asked(f"r{u}{n}", u, ts) for u in users[:7] for n, ts in enumerate((50, 100, 150))]
    shown += [asked("x", "u0", 120, position=1), asked("y", "u0", 121, partial=True)]
    acts = [
        acted(1, "u0", "click", 99), acted(2, "u0", "click", 100), acted(3, "u0", "purchase", 130, 30.0),
        acted(4, "u1", "purchase", 130, 5.0), acted(5, "u1", "purchase", 131, 7.0),
        acted(6, "u1", "dismiss", 60), acted(7, "stranger", "click", 140), acted(8, "u0", "rating", 140, 5.0),
        acted(9, "u0", "click", 500), acted(10, "u0", "dwell", 141, 60.0),
    ]  # fmt: skip
    append(engine, shown, acts)

    def found(name, until=None):
        samples = measure(engine, metric_named(name), REWARD, "bigger-photos", until)
        whose = {arm: [u for u in users if arms[u] == arm] for arm in samples}
        return {
            user: (total, count, before)
            for arm, sample in samples.items()
            for user, total, count, before in zip(
                [u for u in whose[arm] if u != "u7" or METRICS[name].per == "person"],
                sample.people.totals, sample.people.counts, sample.before.values, strict=True,
            )
        }  # fmt: skip

    assert found("clicks_per_request")["u0"] == (2, 2, 1)
    assert found("clicks_per_request", until=499)["u0"] == (1, 2, 1)
    assert "u7" not in found("clicks_per_request"), "who asked for nothing has no rate"
    assert found("reward_per_request")["u0"] == pytest.approx((1 + 4 + 1 + 1, 2, 1))
    assert found("dismissals_per_request")["u1"] == (0, 2, 1)
    assert found("requests_per_person")["u0"] == (2, 1, 1)
    assert found("requests_per_person")["u7"] == (0, 1, 0)
    assert found("purchases_per_person")["u1"] == (2, 1, 0)
    assert found("buyers")["u1"] == (1, 1, 0)
    assert found("revenue_per_person")["u1"] == (12, 1, 0)
    before = measure(engine, METRICS["buyers"], REWARD, "bigger-photos")
    assert all((s.before.measured < s.before.exposed).all() for s in before.values())
    with pytest.raises(ValueError, match="'joy' is no metric; there are: reward_per_request"):
        metric_named("joy")


def test_who_withdraws_is_out_of_the_figures_at_once_and_who_comes_back_is_in(engine):
    begun = catalogue.start(engine, planned(), "t", "t")
    arms = catalogue.expose(engine, begun, ["u0", "u1", "u2"], ts=100)
    append(engine, [asked(f"r{u}", u, 150) for u in arms], [acted(1, "u0", "click", 151)])

    def clicks():
        samples = measure(engine, metric_named("clicks_per_request"), REWARD, "bigger-photos")
        return sum(sample.people.totals.sum() for sample in samples.values())

    assert (sum(report(engine, begun, REWARD).people.values()), clicks()) == (3, 1)
    set_consents(engine, "u0", {"service": True, "training": True})
    set_consents(engine, "u0", {"service": False})
    assert (sum(report(engine, begun, REWARD).people.values()), clicks()) == (2, 0)
    assert baseline(engine, metric_named("clicks_per_request"), REWARD, 30).people == 2
    set_consents(engine, "u1", {"training": False, "personalisation": False})
    assert sum(report(engine, begun, REWARD).people.values()) == 2, "who stays in service is counted"
    set_consents(engine, "u0", {"service": True})
    assert (sum(report(engine, begun, REWARD).people.values()), clicks()) == (3, 1)


def test_sqlite_s_work_for_a_report_grows_with_the_log_and_not_with_its_square(tmp_path):
    def steps(people):
        engine = open_store(f"sqlite:///{tmp_path}/{people}.db")
        users = [f"u{n}" for n in range(people)]
        catalogue.expose(engine, catalogue.start(engine, planned(), "t", "t"), users, ts=100)
        append(engine, [asked(f"r{u}{n}", u, 150) for u in users for n in range(2)])
        count = itertools.count()
        with engine.connect() as connection:  # the pool gives the same one to who asks next
            connection.connection.dbapi_connection.set_progress_handler(lambda: next(count) and None, 100)
        measure(engine, metric_named("clicks_per_request"), REWARD, "bigger-photos")
        return next(count)

    few, many = steps(300), steps(1200)
    assert few > 100, "they are counted"
    assert many < 6 * few


def test_a_baseline_is_that_of_the_newest_days(engine):
    day = 86_400_000_000
    shown = [asked(f"r{u}{d}", f"u{u}", d * day) for u in range(6) for d in (1, 9, 10)]
    acts = [acted(u, f"u{u}", "click", 9 * day + 5) for u in range(3)]
    append(engine, shown, acts)
    found = baseline(engine, METRICS["clicks_per_request"], REWARD, days=2)
    assert (found.people, found.per_day, found.mean) == (6, 3.0, 0.25)
    assert found.sd == pytest.approx(
        Clusters(np.array([1.0] * 3 + [0] * 3), np.full(6, 2.0)).linear.std(ddof=1)
    )
    with pytest.raises(ValueError, match="give the baseline by hand"):
        baseline(open_store("sqlite://"), METRICS["buyers"], REWARD, days=2)


def sample(totals, counts=None):
    n = len(totals)
    covariate = Covariate(np.zeros(n), np.full(n, -1), np.zeros(n))
    return Sample(Clusters(np.asarray(totals, float), np.ones(n) if counts is None else counts), covariate)


def world(clicks, buyers=(0.1, 0.1), dismissals=(0.1, 0.1), people=(500, 500), seed=1):
    """People per arm and their samples of the three metrics, from rates of (now, bigger)."""
    rng = np.random.default_rng(seed)
    rates = dict(
        zip(
            ("clicks_per_request", "buyers", "dismissals_per_request"),
            (clicks, buyers, dismissals),
            strict=True,
        )
    )
    arms = ("now", "bigger")
    samples = {
        name: {arm: sample(rng.random(n) < p) for arm, p, n in zip(arms, pair, people, strict=True)}
        for name, pair in rates.items()
    }
    return dict(zip(arms, people, strict=True)), samples


def standing(*looks, **changes):
    return catalogue.Standing(
        experiment=planned(**changes), salt="s", state="running",
        looks=tuple(Look(people=int(1000 * t), fraction=t, outcomes={"bigger": said}) for t, said in looks),
        who="t", why="t", ts=0, ended=None,
    )  # fmt: skip


LATER = ((0.25, "keep_going"), (0.5, "keep_going"), (0.75, "keep_going"))


@pytest.mark.parametrize(
    ("outcome", "world_", "looks"),
    [
        ("win", world((0.2, 0.4)), LATER),
        ("win", world((0.2, 0.5), people=(250, 250)), LATER[:1]),
        ("lose", world((0.4, 0.2)), LATER),
        ("no_difference", world((0.3, 0.3)), LATER),
        ("no_difference", world((0.32, 0.29), people=(375, 375)), LATER[:2]),
        ("keep_going", world((0.3, 0.33), people=(125, 125)), ()),
        ("keep_going", world((0.2, 0.5), people=(300, 300)), LATER[:2]),
        ("win", world((0.3, 0.3)), ((0.25, "win"),)),
        ("harmed", world((0.2, 0.4), buyers=(0.3, 0.1)), LATER),
        ("harmed", world((0.2, 0.4), dismissals=(0.1, 0.3)), LATER),
        ("win", world((0.2, 0.4), buyers=(0.1, 0.3), dismissals=(0.3, 0.1)), LATER),
        ("blocked", world((0.2, 0.4), people=(600, 400)), LATER),
    ],
)  # fmt: skip
def test_each_world_gets_its_verdict(outcome, world_, looks):
    found, look = judge(standing(*looks), *world_)
    assert found.outcomes == {"bigger": outcome}
    assert (look is None) == (
        outcome == "blocked" or looks[-1:] == ((0.25, "win"),) or (sum(world_[0].values()) == 600)
    )
    for language in ("en", "ko"):
        text = sentences(found, language)["bigger"]
        assert "{" not in text
        assert bool(HANGUL.search(text)) == (language == "ko")
        assert METRICS["clicks_per_request"].titles[language] in text or outcome == "blocked"
    if outcome == "harmed":
        assert len(found.hurt["bigger"]) == 1


def test_a_look_that_is_due_and_was_not_taken_is_named():
    """As in a glance at the dashboard, which tests nothing."""
    here = standing().model_copy(update={"state": "stopped"})
    for people, due in ((100, False), (125, True)):
        found, look = judge(here, *world((0.3, 0.33), people=(people, people)))
        assert look is None
        assert found.next_look == 250
        assert ("look at 250 people is due" in sentences(found, "en")["bigger"]) == due
        assert ("250명에서 할 판정 차례" in sentences(found, "ko")["bigger"]) == due


def test_before_there_are_figures_none_are_told():
    found, look = judge(standing(), *world((0.3, 0.33), people=(1, 0)))
    assert look is None
    assert sentences(found, "en")["bigger"] == (
        "Too early to say: 1 of 1,000 people have met the experiment, too few for figures."
        " Keep going until 250 people, and change nothing on the way."
    )
    assert "수치를 내기에는 너무 적습니다" in sentences(found, "ko")["bigger"]


def test_other_metrics_are_told_and_decide_nothing():
    people, samples = world((0.3, 0.3), buyers=(0.4, 0.1), dismissals=(0.4, 0.1))
    here = standing(*LATER, guardrails=(), others=("buyers", "dismissals_per_request"))
    found, _ = judge(here, people, samples)
    assert found.outcomes == {"bigger": "no_difference"}
    assert [line.role for line in found.lines] == ["primary", "other", "other"]
    assert all(line.p is not None and line.p < 0.001 for line in found.lines[1:])
    assert found.hurt == {"bigger": ()}
    text = sentences(found, "en")["bigger"]
    assert f"the {0.05 / found.lines[0].gap.control:+.1%} that was planned" in text


def test_lower_is_better_for_some_metrics():
    people, samples = world((0.3, 0.3), dismissals=(0.4, 0.2))
    here = standing(*LATER, primary="dismissals_per_request", guardrails=())
    assert judge(here, people, samples)[0].outcomes == {"bigger": "win"}


def test_at_a_look_the_interval_says_what_the_verdict_says():
    for seed in range(40):
        found, look = judge(standing(*LATER, guardrails=()), *world((0.3, 0.37), seed=seed))
        gap = found.lines[0].gap
        assert look is not None
        assert (found.outcomes["bigger"] == "win") == (gap.low > 0)


def test_two_treatments_share_alpha():
    people, samples = world((0.2, 0.29))
    both = {name: {**arms, "bold": arms["bigger"]} for name, arms in samples.items()}
    arms = {"now": 1 / 3, "bigger": 1 / 3, "bold": 1 / 3}
    here = standing(arms=arms, people=1500, looks=1, guardrails=())
    found, look = judge(here, {**people, "bold": 500}, both)
    alone, _ = judge(standing(looks=1, guardrails=()), people, samples)
    assert set(found.outcomes) == {"bigger", "bold"}
    width = [one.lines[0].gap.high - one.lines[0].gap.low for one in (found, alone)]
    assert width[0] > 1.1 * width[1]
    assert look is not None
    assert look.outcomes.keys() == {"bigger", "bold"}


def test_a_look_is_kept_and_what_it_said_stays(engine):
    begun = catalogue.start(engine, planned(guardrails=(), people=40, looks=2), "t", "t")
    users = [f"u{n}" for n in range(60)]
    arms = catalogue.expose(engine, begun, users[:30], ts=100)
    shown = [asked(f"r{u}", u, 110) for u in users[:30]]
    clicks = [
        acted(n, u, "click", 120) for n, u in enumerate(users[:30]) if arms[u] == "bigger" or n % 7 == 0
    ]
    append(engine, shown, clicks)
    first = report(engine, begun, REWARD)
    kept = catalogue.find(engine, "bigger-photos")
    assert [look.people for look in kept.looks] == [30]
    assert first.outcomes == kept.looks[0].outcomes == {"bigger": "win"}
    with pytest.raises(Conflict, match="somebody else has looked"):
        report(engine, begun, REWARD)
    catalogue.expose(engine, kept, users[30:], ts=130)
    append(engine, [asked(f"s{u}", u, 140) for u in users[30:]])
    assert report(engine, kept, REWARD).outcomes == {"bigger": "win"}
    assert catalogue.find(engine, "bigger-photos").looks == kept.looks
    stopped = catalogue.stop(engine, "bigger-photos", "t", "t")
    assert report(engine, stopped, REWARD).outcomes == {"bigger": "win"}


def test_both_languages_say_the_same():
    fields = {
        language: {
            key: {name for _, name, _, _ in string.Formatter().parse(text) if name}
            for key, text in texts.items()
        }
        for language, texts in TEXTS.items()
    }
    assert fields["en"].keys() == fields["ko"].keys()
    for key, names in fields["en"].items():
        # a loser needs no name of who stays in one language and not in the other
        assert names == fields["ko"][key], key
    for metric in METRICS.values():
        assert metric.titles.keys() == TEXTS.keys()
        assert HANGUL.search(metric.titles["ko"])
        assert not HANGUL.search(metric.titles["en"])
    assert not any(HANGUL.search(text) for text in TEXTS["en"].values())
    assert all(HANGUL.search(text) for text in TEXTS["ko"].values())
