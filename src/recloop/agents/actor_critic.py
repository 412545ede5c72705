"""The module of all policy gradients: slates drawn by a softmax over scores, and a critic."""

from typing import Any

import torch
from torch import Tensor, nn

from recloop.agents.module import MarketModule
from recloop.agents.network import OBSERVATION, Columns, TwoTower
from recloop.agents.plackett_luce import NEVER, log_probability, sample
from recloop.agents.returns import advantages


class ActorCritic(MarketModule):
    """The two-tower network's scores are logits of a Plackett-Luce policy, its value is the critic.

    Where the catalogue is large, a rollout is offered the same few items, drawn uniformly: the policy that
    is learnt chooses among those, its probabilities are exact, and no correction is needed. Serving orders
    all items by the same scores.
    """

    net: TwoTower
    ahead = False
    keep = 1.0  # lambda of the advantages

    def make(self) -> nn.Module:
        """Actor and critic on one trunk."""
        return TwoTower(self.shape, self.agent.network)

    def logits(self, state: Tensor, observation: Columns) -> Tensor:
        """float32 (B, n): of the first pick among what is offered."""
        scores = self.net.scores(state, observation.get("candidates"))
        able = self.choosable(observation)
        return scores if able is None else scores.masked_fill(~able, NEVER)

    def explore(self, observation: Columns, luck: torch.Generator, epsilon: float) -> Columns:
        """A slate with its log-probability and the state's value."""
        state = self.net.state(observation)
        logits = self.logits(state, observation)
        slate, chance = sample(logits, min(self.agent.slate, logits.shape[1]), luck)
        return {"slate": slate, "log_probability": chance, "value": self.net.value(state)}

    def to_columns(self, rollout: Columns) -> Columns:
        """Rows (T * B) with ``advantage`` and ``target``, what the critic should have said."""
        found = advantages(
            rollout["reward"], rollout["done"], rollout["value"], self.beyond(rollout), self.agent.gamma,
            self.keep,
        )  # fmt: skip
        rollout = rollout | {"advantage": found, "target": found + rollout["value"]}
        left_out = ("value", "done", "item", "clicked", "candidates")
        kept = {k: x for k, x in rollout.items() if k not in left_out and not k.startswith("next_")}
        return {name: x.flatten(0, 1) for name, x in kept.items()} | _own_candidates(rollout)

    def beyond(self, rollout: Columns) -> Tensor:
        """float32 (B,): the value of what is seen after the last request."""
        return self.net.value(self.net.state({name: rollout[f"next_{name}"][-1] for name in OBSERVATION}))

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        state = self.net.state(batch)
        found, entropy = log_probability(self.logits(state, batch), batch["slate"])
        return {"log_probability": found, "value": self.net.value(state), "entropy": entropy}


def _own_candidates(rollout: Columns) -> Columns:
    """What each person was offered by the market; what the algorithm offered to all goes another way."""
    offered = rollout.get("candidates")
    return {} if offered is None or offered.dim() == 1 else {"candidates": offered.flatten(0, 1)}
