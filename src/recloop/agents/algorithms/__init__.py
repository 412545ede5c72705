"""Every algorithm by its word in params.yaml; docs/agents.md says which is good for what."""

from recloop.agents.algorithm import MarketAlgorithm
from recloop.agents.algorithms.a2c import A2C
from recloop.agents.algorithms.bandits import LinUCB, Logistic, Thompson
from recloop.agents.algorithms.bc import BC
from recloop.agents.algorithms.cql import CQL
from recloop.agents.algorithms.dqn import DQN
from recloop.agents.algorithms.ensemble import Ensemble
from recloop.agents.algorithms.impala import Impala
from recloop.agents.algorithms.iql import IQL
from recloop.agents.algorithms.marwil import Marwil
from recloop.agents.algorithms.ppo import PPO
from recloop.agents.algorithms.q_learning import QLearning
from recloop.agents.algorithms.reinforce import Reinforce
from recloop.agents.algorithms.slateq import SlateQ
from recloop.agents.algorithms.top_k_reinforce import TopKReinforce
from recloop.settings.params import AlgorithmName

ALGORITHMS: dict[AlgorithmName, type[MarketAlgorithm]] = {
    "q_learning": QLearning,
    "dqn": DQN,
    "slateq": SlateQ,
    "ensemble": Ensemble,
    "reinforce": Reinforce,
    "a2c": A2C,
    "ppo": PPO,
    "impala": Impala,
    "bc": BC,
    "marwil": Marwil,
    "top_k_reinforce": TopKReinforce,
    "cql": CQL,
    "iql": IQL,
    "lin_ucb": LinUCB,
    "thompson": Thompson,
    "logistic": Logistic,
}

__all__ = ["ALGORITHMS"]
