"""Values in markets, and the whole evaluation on a small log of the real market."""

import copy
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

from recloop.evaluation import (
    Judge,
    Returns,
    compare,
    evaluate,
    mean_interval,
    paired,
    value_in_market,
    write_report,
)
from recloop.evaluation.leakage import LeakageError
from recloop.evaluation.off_policy import predicted_reward
from recloop.features import Catalogue, FeatureSpec, Steps
from recloop.features.build import build_features
from recloop.market import GroundTruth, Outcome, UserModel
from recloop.market.fit import fit_user_model
from recloop.market.log import generate_log
from recloop.policy import Policy, Sampler, load, uniform, write_artefact
from recloop.settings import Params, load_params
from recloop.store import add_items, add_users, open_store, write
from recloop.store.snapshot import Watermark, watermark, write_snapshot

SMALL = {"users": 240, "items": 30, "topics": 4, "horizon": 8, "slate": 3}


class Shop:
    """Two items: 0 is worth 1 with probability .5, 1 is worth nothing; a session ends after L requests."""

    n_items = 2

    def __init__(self, length: int) -> None:
        self.length = length

    def seed(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def reset(self, count: int) -> dict[str, torch.Tensor]:
        self.requests = torch.zeros(count, dtype=torch.int64)
        self.patience = torch.randint(1, self.length + 1, (count,), generator=self.generator)
        return self.observe()

    def observe(self) -> dict[str, torch.Tensor]:
        return {"profile": self.requests[:, None].float()}

    def step(self, slates: torch.Tensor) -> Outcome:
        lucky = torch.rand(len(slates), generator=self.generator) < 0.5
        clicked = lucky & (slates[:, 0] == 0)
        self.requests = self.requests + 1
        return Outcome(
            torch.where(clicked, 0, -1), clicked & False, clicked.float(), self.requests >= self.patience
        )

    def arrive(self, gone: torch.Tensor) -> None:
        raise AssertionError("nobody is replaced while values are measured")


def always(item: int) -> Sampler:
    return Sampler(lambda o: np.tile(np.eye(2, dtype=np.float32)[item], (len(o["profile"]), 1)), 0.01, 0.0)


def test_returns_of_a_market_whose_values_are_known() -> None:
    good = value_in_market(always(0), Shop(3), 20_000, 1, horizon=10, seed=1)
    evenly = value_in_market(uniform(2), Shop(3), 20_000, 1, horizon=10, seed=1)
    bad = value_in_market(always(1), Shop(3), 20_000, 1, horizon=10, seed=1)
    assert good.requests.mean() == pytest.approx(2, abs=0.03)
    assert good.reward.mean() == pytest.approx(1.0, abs=0.03)
    assert evenly.reward.mean() == pytest.approx(0.5, abs=0.03)
    assert bad.reward.sum() == bad.clicks.sum() == 0
    np.testing.assert_array_equal(good.clicks, good.reward)
    assert (good.clicks <= good.requests).all()


def test_the_horizon_ends_every_session() -> None:
    assert value_in_market(always(0), Shop(50), 100, 1, horizon=4, seed=1).requests.max() == 4


def test_the_same_seed_brings_the_same_people_with_the_same_luck() -> None:
    one, two = (value_in_market(always(i), Shop(3), 500, 1, 10, seed=3) for i in (0, 1))
    np.testing.assert_array_equal(one.requests, two.requests)
    np.testing.assert_array_equal(one.reward, value_in_market(always(0), Shop(3), 500, 1, 10, seed=3).reward)
    assert (one.reward != value_in_market(always(0), Shop(3), 500, 1, 10, seed=4).reward).any()


def test_the_mean_and_its_interval() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, 3, loc=4.0, scale=stats.sem(values))
    assert mean == 4.0
    assert (low, high) == pytest.approx(expected)
    assert mean_interval(np.array([3.0])) == (3.0, float("-inf"), float("inf"))


def test_pairing_takes_away_what_both_policies_meet() -> None:
    rng = np.random.default_rng(0)
    luck, none = rng.normal(0, 10, 400), np.zeros(400, np.int64)
    gap = paired(Returns(luck, none, none, none), Returns(luck + 0.5, none, none, none))
    assert gap["difference"] == pytest.approx(0.5)
    assert gap["low"] == pytest.approx(0.5)
    assert gap["high"] == pytest.approx(0.5)
    assert gap["challenger"] - gap["champion"] == pytest.approx(0.5)


def export(judge: Judge, market: GroundTruth, folder: Path, towards: torch.Tensor) -> Policy:
    """A policy that scores items by a fixed float (N,) liking, the same for everyone."""
    spec, n = judge.spec, len(judge.spec.item_ids)
    liking = np.vstack([towards.numpy()] * spec.profile_size).astype(np.float32)
    unused = {"context": spec.context_size, "history": spec.history}
    nodes = [
        helper.make_node("MatMul", ["profile", "W"], ["a"]),
        helper.make_node("MatMul", ["context", "Z"], ["b"]),
        helper.make_node("Cast", ["history"], ["past"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["past", "Y"], ["c"]),
        helper.make_node("Sum", ["a", "b", "c"], ["scores"]),
    ]
    weights = {
        "W": liking,
        "Z": np.zeros((unused["context"], n), np.float32),
        "Y": np.zeros((unused["history"], n), np.float32),
    }
    inputs = [
        helper.make_tensor_value_info("profile", TensorProto.FLOAT, ["b", spec.profile_size]),
        helper.make_tensor_value_info("context", TensorProto.FLOAT, ["b", spec.context_size]),
        helper.make_tensor_value_info("history", TensorProto.INT64, ["b", spec.history]),
    ]
    graph = helper.make_graph(
        nodes,
        "fixed",
        inputs,
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", n])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder.with_suffix(".onnx"))
    write_artefact(
        folder,
        folder.with_suffix(".onnx"),
        spec,
        market.offers.records,
        judge.catalogue.popularity,
        "fixed",
        3,
        0.1,
        0.05,
    )
    return load(folder)


@pytest.fixture(scope="module")
def params() -> Params:
    whole = load_params(Path(__file__).parents[2] / "params.yaml")
    return whole.model_copy(
        update={
            "market": whole.market.model_copy(update=SMALL),
            "user_model": whole.user_model.model_copy(update={"epochs": 12, "dim": 6}),
            "evaluation": whole.evaluation.model_copy(
                update={"users": 400, "bootstrap": 100, "minimum_effective_sample": 40}
            ),
        }
    )


@pytest.fixture(scope="module")
def world(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``features`` and ``user_model`` of a small market's log."""
    folder = tmp_path_factory.mktemp("world")
    market = GroundTruth(params.market, params.reward, params.seed)
    engine = open_store(f"sqlite:///{folder / 'store.db'}")
    add_users(engine, market.people.records)
    add_items(engine, market.offers.records)
    with engine.begin() as connection:
        for shown, acts in generate_log(market, params.seed):
            write(connection, shown, acts)
    mark = watermark(engine)
    assert isinstance(mark, Watermark)
    write_snapshot(engine, mark, folder / "snapshot")
    build_features(folder / "snapshot", folder / "features", params.features, params.reward)
    catalogue = Catalogue.load(folder / "features" / "items.npz")
    for name in ("train", "test"):
        steps = Steps.load(folder / "features" / f"{name}.npz")
        model, _ = fit_user_model(steps, catalogue, params.user_model, params.seed, name)
        model.save(folder / "user_model" / name)
    return folder


@pytest.fixture(scope="module")
def judge(world: Path, params: Params) -> Judge:
    return Judge.load(world / "features", world / "user_model", params, params.seed)


@pytest.fixture(scope="module")
def market(params: Params, judge: Judge) -> GroundTruth:
    return GroundTruth(params.market, params.reward, params.seed).attach(judge.spec)


def test_the_truth_prefers_quality_to_bait(judge: Judge, market: GroundTruth, tmp_path: Path) -> None:
    good = judge.value(export(judge, market, tmp_path / "good", market.offers.quality).sampler, market)
    bait = judge.value(export(judge, market, tmp_path / "bait", market.offers.bait).sampler, market)
    gap = paired(bait, good)
    assert gap["low"] > 0
    assert good.requests.mean() > bait.requests.mean()


def test_a_catalogue_that_is_younger_than_its_log_can_be_judged(
    world: Path, judge: Judge, params: Params, tmp_path: Path
) -> None:
    shutil.copytree(world / "features", tmp_path / "features")
    offers = json.loads((world / "features" / "items.json").read_text())
    late = np.array([offer["created_at"] for offer in offers]) > judge.steps.ts.min()
    assert late.any()
    assert (judge.launched[late] > 0).all()  # they were first shown when they were there
    young = [offer | {"created_at": int(judge.steps.ts.max()) + 1} for offer in offers]
    (tmp_path / "features" / "items.json").write_text(json.dumps(young))
    moved = Judge.load(tmp_path / "features", world / "user_model", params, params.seed)
    shown = np.zeros(len(offers) + 1, bool)
    shown[[*judge.steps.slate.ravel(), *Steps.load(world / "features" / "train.npz").slate.ravel()]] = True
    assert shown[:-1].any()
    assert np.array_equal(moved.launched == 0, shown[:-1])
    assert moved.off_policy(moved.baselines()["random"])["snips"]["value"] is not None


def test_the_report_holds_what_was_measured(
    judge: Judge, market: GroundTruth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = export(judge, market, tmp_path / "policy", market.offers.quality)
    write_report(evaluate(judge, policy, market), tmp_path / "reports")
    assert "evaluate" in capsys.readouterr().err  # the progress bar
    figures = json.loads((tmp_path / "reports" / "evaluation.json").read_text())
    names = {"policy", "random", "most_popular", "myopic"}
    for where in ("user_model", "truth", "off_policy", "ranking"):
        assert set(figures[where]) == names
    value, lift = figures["user_model"], figures["lift"]["random"]
    assert lift["difference"] == pytest.approx(value["policy"]["value"] - value["random"]["value"])
    assert lift["low"] < lift["difference"] < lift["high"]
    with (tmp_path / "reports" / "value.csv").open() as file:
        rows = list(csv.DictReader(file))
    told = {tuple(row["policy"].split(", ")): float(row["value"]) for row in rows}
    assert told == {
        (name, where): pytest.approx(figures[where][name]["value"], abs=1e-5)
        for name in names
        for where in ("user_model", "truth")
    }
    page = (tmp_path / "reports" / "evaluation.html").read_text()
    assert figures["samples"][0]["slate"][0].replace("'", "&#x27;") in page
    assert set(figures["regret"]) == names
    assert 0 < figures["regret"]["policy"]["low"] < figures["regret"]["random"]["regret"]
    assert {"satisfaction"} == set(figures["truth"]["policy"]) - set(figures["user_model"]["policy"])
    assert {row["by"] for row in figures["slices"]} == {"history", "category", "age", "sex", "device", "hour"}
    assert sum(row["people"] for row in figures["slices"] if row["by"] == "sex") == figures["people"]
    assert figures["ranking"]["policy"]["miscalibration"] > 0
    assert figures["ranking_later_leaks"]  # the train people's log goes on after the split
    assert (tmp_path / "reports" / "evaluation.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_seed_gives_the_same_bytes_and_no_truth_is_needed(
    judge: Judge, market: GroundTruth, tmp_path: Path
) -> None:
    policy = export(judge, market, tmp_path / "policy", market.offers.quality)
    for name in ("one", "two"):
        write_report(evaluate(judge, policy, None), tmp_path / name)
    for file in ("evaluation.json", "value.csv", "evaluation.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert "truth" not in json.loads((tmp_path / "one" / "evaluation.json").read_text())


def test_features_that_know_the_answer_stop_the_evaluation(
    judge: Judge, market: GroundTruth, tmp_path: Path
) -> None:
    policy = export(judge, market, tmp_path / "policy", market.offers.quality)
    steps, acted = judge.steps, judge.steps.clicked >= 0
    history = steps.history.copy()
    history[acted, 0] = steps.slate[acted, steps.clicked[acted]]  # as it is after the act
    with pytest.raises(LeakageError, match="histories hold an item that the person acted on only later"):
        evaluate(replace(judge, steps=replace(steps, history=history)), policy, None)
    popularity = judge.catalogue.popularity + np.bincount(judge.acts.item, minlength=SMALL["items"])
    seen = replace(judge, catalogue=replace(judge.catalogue, popularity=popularity))
    with pytest.raises(LeakageError, match="items have other features"):
        evaluate(seen, policy, None)


def test_the_random_policy_is_estimated_near_its_value_on_the_log(judge: Judge) -> None:
    """The log's own policy has a floor of .1 only, but few items: random has support."""
    found = judge.off_policy(judge.baselines()["random"])
    assert found["dr"]["outcome"] == "ok"
    assert 0.8 < float(found["dr"]["mean_weight"] or 0) < 1.2
    assert float(found["dr"]["low"] or 0) < float(found["dr"]["value"] or 0) < float(found["dr"]["high"] or 0)
    assert found["diagnostics"]["outcome"] == found["chosen"]["outcome"] == "ok"
    assert found["chosen"]["estimator"]
    assert found["chosen"]["why"]
    assert float(found["chosen"]["low"] or 0) <= float(found["chosen"]["value"] or 0)
    assert "low" not in found["dm"]  # an interval that leaves out what the model has wrong would mislead
    json.dumps(found, allow_nan=False)


def test_items_that_came_late_are_not_held_against_the_log(judge: Judge) -> None:
    """The market launches some items while its log goes on; without their times the weights are too small."""
    random = judge.baselines()["random"]
    blind = replace(judge, launched=np.zeros_like(judge.launched)).off_policy(random)["diagnostics"]
    told = judge.off_policy(random)["diagnostics"]
    assert float(blind["mean_weight"] or 0) < float(told["mean_weight"] or 0) - 0.03
    assert float(told["mean_weight_p"] or 0) > 0.001


def test_a_log_without_propensities_is_refused_with_the_reason(judge: Judge) -> None:
    steps = replace(judge.steps, propensity=np.full(judge.steps.propensity.shape, np.nan))
    found = replace(judge, steps=steps).off_policy(judge.baselines()["random"])
    for name, figures in found.items():
        assert figures["outcome"] == "no-data", name
        assert figures["why"] == "no request in the log has propensities"
        assert "value" not in figures


def test_the_predicted_reward_is_the_mean_of_what_the_user_model_does(judge: Judge) -> None:
    model, times = judge.unseen, 40_000
    model = UserModel(model.response, model.start, (1.0, 4.0, -0.25), model.longest)
    one = {name: x[:1] for name, x in judge.steps.observation().items()}
    slate, size = np.array([[3, 0, 11]]), len(judge.spec.item_ids)
    predicted = predicted_reward(model, one, slate, np.arange(3)[None])[0]
    model.seed(0)
    model.reset(times)
    for name, x in one.items():
        setattr(model, name, torch.from_numpy(np.repeat(x, times, 0)))
    outcome = model.step(torch.from_numpy(np.repeat(slate, times, 0)))
    place, reward = outcome.clicked.numpy(), outcome.reward.numpy()
    seen = np.array([reward[place == j].sum() for j in range(3)])
    seen[2] += reward[place < 0].sum()
    np.testing.assert_allclose(predicted, seen / times, atol=0.02)
    short = predicted_reward(model, one, np.array([[3, 0, size]]), np.array([[0, 1, -1]]))[0]
    assert short[2] == 0
    assert (short[:2] != predicted[:2]).all()  # fewer to choose from


def test_comparing_a_policy_with_itself_finds_nothing(
    judge: Judge, market: GroundTruth, world: Path, params: Params, tmp_path: Path
) -> None:
    policy = export(judge, market, tmp_path / "policy", market.offers.quality)
    report = compare(policy, policy, world / "user_model", world / "features", params, seed=1)
    json.dumps(report, allow_nan=False)
    assert report["difference"]["difference"] == report["difference"]["low"] == 0
    assert report["champion"] == report["challenger"]
    assert report["slices"]
    assert not any(row["loses"] or row["difference"] for row in report["slices"])


def test_a_better_challenger_is_seen_and_no_champion_leaves_no_difference(
    judge: Judge, market: GroundTruth, world: Path, params: Params, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    judge.learnt.save(models / "train")
    liking = copy.deepcopy(judge.unseen)
    with torch.no_grad():
        liking.response.leaving.lasting_own.copy_(torch.linspace(-1, 1, len(judge.spec.item_ids)))
    liking.save(models / "test")
    liked = liking.response.effects()  # what these people stay for, known because it was planted
    champion = export(judge, market, tmp_path / "champion", -liked)
    challenger = export(judge, market, tmp_path / "challenger", liked)
    report = compare(champion, challenger, models, world / "features", params, seed=1)
    assert report["difference"]["low"] > 0
    assert report["difference"]["challenger"] == report["challenger"]["value"]["value"]
    first = compare(None, challenger, models, world / "features", params, seed=1)
    assert first["difference"] is None
    assert first["champion"] is None
    assert first["challenger"] == report["challenger"]


def test_a_champion_of_an_older_catalogue_can_be_compared(
    judge: Judge, market: GroundTruth, world: Path, params: Params, tmp_path: Path
) -> None:
    challenger = export(judge, market, tmp_path / "challenger", market.offers.quality)
    old = FeatureSpec(**{**judge.spec.model_dump(), "item_ids": judge.spec.item_ids[2:], "devices": ("tv",)})
    older = replace(
        judge, spec=old, catalogue=Catalogue(*(x[2:] for x in vars(judge.catalogue).values())), seed=1
    )
    shop = GroundTruth(params.market, params.reward, params.seed)
    shop.offers.records[:] = shop.offers.records[2:]
    champion = export(older, shop, tmp_path / "champion", market.offers.quality[2:])
    report = compare(champion, challenger, world / "user_model", world / "features", params, seed=1)
    assert report["champion"]["name"] == champion.manifest.name
    assert report["champion"]["ranking"]["coverage"] is not None
