"""The simulated marketplace: a ground truth, and user models fitted on logs, behind one interface."""

from recloop.market.environment import SinglePerson
from recloop.market.ground_truth import GroundTruth
from recloop.market.interface import Market, Observation, Outcome
from recloop.market.nature import Nature
from recloop.market.user_model import UserModel

__all__ = ["GroundTruth", "Market", "Nature", "Observation", "Outcome", "SinglePerson", "UserModel"]
