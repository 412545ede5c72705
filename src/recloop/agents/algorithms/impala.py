"""IMPALA (Espeholt et al. 2018, arXiv 1802.01561): runners that never wait, corrected by V-trace.

    v_t = V(s_t) + sum_{i>=t} gamma^{i-t} (prod_{j<i} c_j) rho_i (r_i + gamma V(s_{i+1}) - V(s_i))   (eq. 1)
    gradient = E[ rho_t (r_t + gamma v_{t+1} - V(s_t)) grad log pi(A_t | s_t) ],   rho = c = min(1, pi / mu)

With remote runners each sends a rollout as soon as it has one, and gets the newest weights back; the
others go on meanwhile with older ones, which the ratios pi / mu correct. A row is a person's rollout.
"""

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recloop.agents.actor_critic import ActorCritic
from recloop.agents.algorithm import MarketAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.network import OBSERVATION, Columns
from recloop.agents.returns import v_trace

PATIENCE = 60.0  # seconds without a rollout from any runner, after which the round is given up
POLL = 0.002  # seconds; RLlib waits for all runners, up to this long
ROLLOUT = "rollout"


class SequenceModule(ActorCritic):
    """Rows are people's rollouts, float32 (B, T, ...)."""

    def to_columns(self, rollout: Columns) -> Columns:
        """What was seen, drawn and paid; the critic's word on it comes later."""
        left_out = ("value", "item", "clicked", "candidates")
        kept = {k: x for k, x in rollout.items() if k not in left_out and not k.startswith("next_")}
        kept |= {f"next_{name}": rollout[f"next_{name}"][-1:] for name in OBSERVATION}
        if "candidates" in rollout and rollout["candidates"].dim() > 1:
            kept["candidates"] = rollout["candidates"]
        return {name: x.transpose(0, 1).contiguous() for name, x in kept.items()}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        people, steps = batch["reward"].shape
        rows = (*OBSERVATION, "slate", "allowed")
        flat = {name: batch[name].flatten(0, 1) for name in rows if name in batch}
        if "candidates" in batch:
            shared = batch["candidates"].dim() == 1
            flat["candidates"] = batch["candidates"] if shared else batch["candidates"].flatten(0, 1)
        found = super()._forward_train(flat)
        ahead = {name: batch[f"next_{name}"][:, 0] for name in OBSERVATION}
        by_person = {k: found[k].view(people, steps).T for k in ("log_probability", "value")}
        return by_person | {"entropy": found["entropy"], "beyond": self.net.value(self.net.state(ahead))}


class TraceLearner(MarketLearner):
    """V-trace."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Actor, critic and entropy."""
        gradient = self.agent.gradient
        with torch.no_grad():
            target, advantage = v_trace(
                found["log_probability"] - columns["log_probability"].T, columns["reward"].T,
                columns["done"].T, found["value"], found["beyond"], self.agent.gamma,
            )  # fmt: skip
            advantage = advantage / self.size(advantage)
        actor = -(found["log_probability"] * advantage).mean()
        critic = functional.mse_loss(found["value"], target)
        return actor + gradient.value_share * critic - gradient.entropy * found["entropy"].mean()


class Impala(MarketAlgorithm):
    """See the docstring of this module."""

    module, learner = SequenceModule, TraceLearner

    def turn(self) -> None:
        """Learn from the rollouts that have come, a few people's at a time."""
        candidates = self.candidates()
        for columns in self._rollouts(candidates):
            size = max(1, self.agent.gradient.minibatch // self.agent.gradient.rollout)
            for batch in self.minibatches(columns, size):
                self.gradient_step(batch, candidates)
        self.hand_on()

    def _rollouts(self, candidates: Tensor | None) -> list[Columns]:
        """At least one, unless all runners are lost; every runner that is idle is asked for the next."""
        steps = self.agent.gradient.rollout
        if not self.config.num_env_runners or candidates is not None:
            columns = self.collect(steps, candidates)
            return [columns] if columns else []
        group, ask = self.env_runner_group, {"steps": steps, "epsilon": 0.0}
        group.foreach_env_runner_async("sample", tag=ROLLOUT, kwargs=ask)
        found: list[Any] = []
        until = time.monotonic() + PATIENCE
        while not found and time.monotonic() < until:
            found = group.fetch_ready_async_reqs(tags=ROLLOUT, timeout_seconds=POLL)
        for _, part in found:
            if isinstance(part, ValueError):
                raise part
            self.env_steps += part["reward"].numel()
        return [part for _, part in found]
