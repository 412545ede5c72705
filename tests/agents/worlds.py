"""Features and a user model in which chasing clicks is a mistake."""

import json
from pathlib import Path

import numpy as np
import torch

from recloop.features import Catalogue, FeatureSpec
from recloop.market import UserModel
from recloop.market.response import Response
from recloop.market.user_model import Start
from recloop.schema import Item
from recloop.settings import Params, load_params

ITEMS, HISTORY = 12, 4
BAIT, GOOD = range(0, 4), range(4, 6)


def params(**agent: object) -> Params:
    found = load_params()
    small = {"env_steps": 16_384, "users_at_once": 128, "train_batch": 128, "num_gpus_per_learner": 0.0}
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
