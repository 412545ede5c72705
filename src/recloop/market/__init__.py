"""The simulated marketplace: a ground truth, and user models fitted on logs, behind one interface.

Two published tasks stand behind the same interface, for comparison with other people's figures.
"""

from recloop.market.environment import SinglePerson
from recloop.market.ground_truth import GroundTruth
from recloop.market.interest_evolution import InterestEvolution
from recloop.market.interface import Market, Observation, Outcome
from recloop.market.kuai_env import KuaiData, KuaiDataError, KuaiEnv
from recloop.market.nature import Nature
from recloop.market.user_model import UserModel

__all__ = [
    "GroundTruth",
    "InterestEvolution",
    "KuaiData",
    "KuaiDataError",
    "KuaiEnv",
    "Market",
    "Nature",
    "Observation",
    "Outcome",
    "SinglePerson",
    "UserModel",
]
