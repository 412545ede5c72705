"""Markets with a log, features and user models, as the offline loop makes them; for other benchmarks."""

from pathlib import Path

import torch

from recloop.agents import train
from recloop.evaluation import Judge
from recloop.evaluation.translate import sampler_for
from recloop.features import Catalogue, Steps
from recloop.features.build import build_features
from recloop.market import GroundTruth
from recloop.market.fit import fit_user_model
from recloop.market.log import generate_log
from recloop.policy import Sampler, load
from recloop.settings import Params
from recloop.store import add_items, add_users, open_store, remember, write
from recloop.store.snapshot import watermark, write_snapshot

FRESH = 100  # the market's coefficients were chosen while looking at smaller seeds
FORESIGHTS = (1.0, 2.0, 4.0, 8.0)


def prepare(params: Params, home: Path) -> tuple[GroundTruth, Judge]:
    """Write ``features``, ``user_model/train`` and ``user_model/test`` to ``home``, from a market's log."""
    market = _fill(params, home)
    features, models = home / "features", home / "user_model"
    build_features(home / "snapshot", features, params.features, params.reward)
    catalogue = Catalogue.load(features / "items.npz")
    for split in ("train", "test"):
        steps = Steps.load(features / f"{split}.npz")
        fit_user_model(steps, catalogue, params.user_model, params.seed, split)[0].save(models / split)
    judge = Judge.load(features, models, params, params.seed)
    market.attach(judge.spec)
    return market, judge


def trained(params: Params, home: Path) -> tuple[GroundTruth, Judge, Sampler]:
    """``prepare``, and the policy that one round of the offline loop exports to ``home / policy``."""
    market, judge = prepare(params, home)
    train(
        params, home / "features", home / "user_model" / "train", home / "policy", home / "reports",
        home / "checkpoints",
    )  # fmt: skip
    return market, judge, sampler_for(load(home / "policy"), judge.spec)


def _fill(params: Params, home: Path) -> GroundTruth:
    """Generate the log, and take a snapshot of it."""
    market = GroundTruth(params.market, params.reward, params.seed)
    engine = open_store(f"sqlite:///{home / 'store.db'}")
    add_users(engine, market.users)
    add_items(engine, market.items)
    with engine.begin() as connection:
        remember(connection, "source", "market")
        for shown, acts in generate_log(market, params.seed):
            write(connection, shown, acts)
    write_snapshot(engine, watermark(engine), home / "snapshot")
    engine.dispose()
    return market


def oracle_value(market: GroundTruth, foresight: float, params: Params) -> float:
    """Mean return of a session when the best of the oracle's scores are shown."""
    people = params.evaluation.users
    market.seed(params.seed)
    market.reset(people)
    alive, total = torch.ones(people, dtype=torch.bool), torch.zeros(people)
    while alive.any():
        outcome = market.step(market.oracle(foresight).topk(params.serving.slate, 1).indices)
        total += outcome.reward * alive
        alive &= ~outcome.done
    return float(total.mean())


def far_sighted(market: GroundTruth, params: Params) -> float:
    """The best of a few foresights: far from a click model, and no upper bound."""
    return max(oracle_value(market, foresight, params) for foresight in FORESIGHTS)
