"""The two-tower network as an RLlib module with a target network."""

from typing import Any

import torch
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from recloop.agents.network import TwoTower

OBSERVATION = ("profile", "context", "history")


class QModule(TorchRLModule, TargetNetworkAPI):
    """Its ``model_config``: ``features`` (N lists of F numbers), sizes ``profile`` and ``context``, ``dim``,
    ``hidden``."""

    def setup(self) -> None:
        """Build the network."""
        config = self.model_config
        features = torch.tensor(config["features"], dtype=torch.float32)
        self.q_net = TwoTower(features, config["profile"], config["context"], config["dim"], config["hidden"])

    def make_target_networks(self) -> None:
        """A copy that learns nothing by itself."""
        self.target_q_net = make_target_network(self.q_net)

    def get_target_network_pairs(self) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
        """The pairs that the learner keeps in step."""
        return [(self.q_net, self.target_q_net)]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Q of the target network at the next observations."""
        return {"q": self.target_q_net(*(batch[f"next_{name}"] for name in OBSERVATION))}

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"q": self.q_net(*(batch[name] for name in OBSERVATION))}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        with torch.no_grad():
            following = self.q_net(*(batch[f"next_{name}"] for name in OBSERVATION))
        return {**self._forward(batch), "next_q": following}
