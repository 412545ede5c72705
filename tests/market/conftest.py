"""A small market."""

import pytest

from recloop.market import GroundTruth
from tests.market.small import PARAMS, REWARD, make_spec


@pytest.fixture
def market() -> GroundTruth:
    return GroundTruth(PARAMS, REWARD, seed=3, spec=make_spec(PARAMS.items))
