"""The parameters of a small market, and the specification through which a policy sees it."""

from recloop.features import FeatureSpec
from recloop.market.population import DEVICES, REGIONS, TRADES
from recloop.settings.params import MarketParams, RewardParams

REWARD = RewardParams(view=0, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4)
PARAMS = MarketParams(users=120, items=30, topics=8, horizon=12, slate=4, behaviour_temperature=1.0)


def make_spec(items: int) -> FeatureSpec:
    return FeatureSpec(
        item_ids=tuple(f"t{i:05d}" for i in range(items)),
        categories={"sex": ("F", "M"), "region": REGIONS, "looking_for": tuple(TRADES)},
        scales={},
        devices=DEVICES,
        history=5,
        rating_positive=4,
    )
