"""Gradient steps straight over columns."""

from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from torch import Tensor, nn

from recloop.agents.memory import keep_freed_memory
from recloop.agents.module import MarketModule
from recloop.agents.network import Columns
from recloop.settings.params import AgentParams


def as_one(parameters: list[nn.Parameter]) -> nn.Parameter:
    """A vector whose parts, and its gradient's, the parameters become: clipped and stepped at once."""
    whole = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    whole.grad = torch.zeros_like(whole)
    sizes = [p.numel() for p in parameters]
    for p, values, gradient in zip(
        parameters, whole.detach().split(sizes), whole.grad.split(sizes), strict=True
    ):
        p.data, p.grad = values.view_as(p), gradient.view_as(p)
    return whole


class MarketLearner(TorchLearner):
    """One ``update`` is one gradient step on one batch of columns; a subclass states its loss.

    RLlib's episodes, connectors and metrics are left out: they took most of the time. Several learners
    average their gradients (DDP), so a batch that is split evenly gives what one learner would get.
    """

    def build(self) -> None:
        """Make the optimiser, and the target network where there is one."""
        keep_freed_memory()
        super().build()
        self.updates = 0
        self.agent: AgentParams = self.config.agent
        if isinstance(self.plain, TargetNetworkAPI):
            self.plain.make_target_networks()
            self.plain.target.to(self._device)
        self._optimiser = self.get_optimizer(DEFAULT_MODULE_ID)
        (self._learnt,) = self._optimiser.param_groups[0]["params"]

    @property
    def plain(self) -> MarketModule:
        """The module without the wrapper of several learners."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Adam, in one kernel, over one vector."""
        whole = as_one(self.get_parameters(self._module[module_id]))
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam([whole], lr=config.lr, fused=True),
            params=[whole],
            lr_or_lr_schedule=config.lr,
        )

    def update(
        self, *, training_data: TrainingData, candidates: Tensor | None = None, **_: Any
    ) -> dict[str, Tensor]:
        """``learn``, from what RLlib sends to a learner in another process."""
        offered = {} if candidates is None else {"candidates": candidates}
        return self.learn(dict(training_data.batch[DEFAULT_MODULE_ID].items()) | offered)

    def learn(self, rows: Columns) -> dict[str, Tensor]:
        """Take one step; returns ``loss``, and what ``loss`` notes per row.

        ``candidates`` int64 (n,) among the rows: what is offered to everyone, where the catalogue is large.
        """
        columns = self.here(rows)
        self.notes: dict[str, Tensor] = {}
        found = self.module[DEFAULT_MODULE_ID]._forward_train(columns)  # no network of ours has modes to set
        loss = self.loss(found, columns)
        self._learnt.grad.zero_()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([self._learnt], self.config.grad_clip)
        self._optimiser.step()
        self.updates += 1
        self.after_step()
        return {"loss": loss.detach(), **self.notes}

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """``loss``, under the name that RLlib demands."""
        return self.loss(fwd_out, batch)

    def here(self, rows: Columns) -> Columns:
        """The rows on this learner's device."""
        return {name: torch.as_tensor(x).to(self._device) for name, x in rows.items()}

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """The scalar to be minimised, from what ``_forward_train`` found."""
        raise NotImplementedError  # pragma: no cover, each algorithm has its own

    def size(self, values: Tensor) -> Tensor:
        """The root mean square of float32 (B,) over the rows of all learners, not quite 0."""
        square = values.detach().square().mean()
        if self.config.num_learners > 1:
            torch.distributed.all_reduce(square)
            square = square / self.config.num_learners
        return square.sqrt() + 1e-6

    def after_step(self) -> None:
        """Renew the target network when it is due."""
        if (
            isinstance(self.plain, TargetNetworkAPI)
            and self.updates % self.agent.value.target_update_every == 0
        ):
            for main, target in self.plain.get_target_network_pairs():
                target.load_state_dict(main.state_dict())
