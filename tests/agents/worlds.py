"""Features and a user model in which chasing clicks is a mistake."""

import json
from pathlib import Path

import numpy as np
import torch

from recloop.features import Catalogue, FeatureSpec
from recloop.market import UserModel
from recloop.market.response import Response
from recloop.market.user_model import Start
from recloop.schema import Item, User
from recloop.settings import Params, load_params

ITEMS, HISTORY = 12, 4
BAIT, GOOD = range(0, 4), range(4, 6)


def params(**agent: object) -> Params:
    found = load_params()
    small = {
        "algorithm": "dqn",
        "env_steps": 16_384,
        "users_at_once": 128,
        "train_batch": 128,
        "num_gpus_per_learner": 0.0,
    }
    small |= {
        "network": found.agent.network.model_copy(update={"dim": 8, "hidden": 32}),
        "value": found.agent.value.model_copy(update={"replay_capacity": 20_000}),
    }
    return found.model_copy(update={"agent": found.agent.model_copy(update=small | agent)})


def world(root: Path, items: int = ITEMS) -> None:
    """Bait is clicked more than what is good, but who took it leaves; the rest is dull."""
    spec = FeatureSpec(
        item_ids=tuple(f"i{n}" for n in range(items)), categories={}, scales={}, devices=("phone",),
        history=HISTORY, rating_positive=4.0,
    )  # fmt: skip
    features = root / "features"
    features.mkdir(parents=True)
    spec.save(features / "spec.json")
    numbers = np.eye(items, 3, dtype=np.float32)
    Catalogue(numbers, np.arange(items, dtype=np.float32), np.ones(items, bool)).save(features / "items.npz")
    records = [Item(item_id=name, title=name).model_dump(mode="json") for name in spec.item_ids]
    (features / "items.json").write_text(json.dumps(records))
    torch.manual_seed(0)
    response = Response(torch.from_numpy(numbers), spec.profile_size, spec.context_size, 5, 4)
    with torch.no_grad():
        liking, lasting = response.trait_own[:, 0], response.leaving.lasting_own
        liking.fill_(-1.5)
        liking[BAIT], liking[GOOD] = 3.0, 1.5
        lasting[BAIT], lasting[GOOD] = -3.0, 2.0
    start = Start(
        torch.zeros(8, spec.profile_size), torch.zeros(8, spec.context_size), torch.full((8, HISTORY), items)
    )
    UserModel(response, start, (1.0, 0.0, 0.0), longest=15).save(root / "user_model")


def tasting(root: Path) -> None:
    """One request a session. Half of the people take items of kind x alone, half of kind y, by their taste;
    their hair and the items' colours say nothing."""
    spec = FeatureSpec(
        item_ids=tuple(f"i{n}" for n in range(ITEMS)), scales={}, devices=("phone",), history=HISTORY,
        categories={"hair": ("long", "short"), "taste": ("x", "y")}, rating_positive=4.0,
    )  # fmt: skip
    features = root / "features"
    features.mkdir(parents=True)
    spec.save(features / "spec.json")
    rng = np.random.default_rng(0)
    kind, colour = np.arange(ITEMS) % 2, rng.integers(2, size=ITEMS)
    numbers = np.concatenate([np.eye(2)[kind], np.eye(2)[colour]], 1).astype(np.float32)
    groups = np.array(["category", "category", "colour", "colour"])
    Catalogue(numbers, np.ones(ITEMS, np.float32), np.ones(ITEMS, bool), groups).save(features / "items.npz")
    torch.manual_seed(0)
    response = Response(torch.from_numpy(numbers), spec.profile_size, spec.context_size, 5, 4)
    taste = spec.profile_groups["taste"].start
    with torch.no_grad():
        for layer in (response.item_map, response.encoder[0], response.heads):
            layer.weight.zero_()
            layer.bias.zero_()
        response.item_own.zero_()
        response.item_map.weight[0, :2] = torch.tensor([1.0, -1.0])
        response.encoder[0].weight[0, taste : taste + 2] = torch.tensor([3.0, -3.0])
        response.heads.weight[0, 0] = 5.0
    people = [
        User(user_id=f"u{n}", attributes={"hair": ("long", "short")[n % 2], "taste": "xy"[n // 2 % 2]})
        for n in range(8)
    ]
    moments = np.zeros(8, np.int64)
    start = Start(
        torch.from_numpy(spec.profiles(people)), torch.from_numpy(spec.contexts(["phone"] * 8, moments)),
        torch.full((8, HISTORY), ITEMS),
    )  # fmt: skip
    UserModel(response, start, (1.0, 0.0, 0.0), longest=1).save(root / "user_model")
