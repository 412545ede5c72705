"""What all agents have in common: from runners or a log to gradient steps, and the weights back."""

import copy
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from torch import Tensor

from recloop.agents.learner import MarketLearner
from recloop.agents.log import LoggedRows
from recloop.agents.module import MarketModule
from recloop.agents.network import Columns
from recloop.agents.replay import Replay
from recloop.agents.runner import NotFiniteError
from recloop.settings.params import AgentParams


class MarketConfig(AlgorithmConfig):
    """RLlib's configuration with ours beside it: ``agent`` (AgentParams)."""

    agent: AgentParams

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module of the algorithm."""
        return RLModuleSpec(module_class=self.algo_class.module)

    def get_default_learner_class(self) -> type:
        """The learner of the algorithm."""
        return self.algo_class.learner

    def build_learner_connector(self, *_: Any, **__: Any) -> None:
        """None: learners get columns, not episodes."""


class MarketAlgorithm(Algorithm):
    """An RLlib algorithm over columns.

    Attributes:
        module: how it acts, and its network.
        learner: its loss.
        from_log: whether it learns from logged requests instead of a market.
        env_steps: requests answered, or logged rows learnt from.
        device: where rows are kept: a learner's in this process, else the CPU, from where they are sent.
    """

    module: ClassVar[type[MarketModule]]
    learner: ClassVar[type[MarketLearner]]
    from_log: ClassVar[bool] = False

    def setup(self, config: Any) -> None:
        """Build RLlib's parts."""
        super().setup(config)
        self.agent: AgentParams = self.config.agent
        self.env_steps = 0
        self.device = torch.device("cpu")
        if self.learner_group.is_local:
            (place,) = self.learner_group.foreach_learner(lambda one: one._device).ignore_errors()
            self.device = place.get()
        self._loss, self._updates = torch.zeros(()), 0
        self._luck = torch.Generator().manual_seed((self.config.seed or 0) + 1)

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """A configuration for this class."""
        return MarketConfig(algo_class=cls)

    @property
    def epsilon(self) -> float:
        """The exploration's share now; 0 where the policy is random by itself."""
        return 0.0

    def training_step(self) -> None:
        """One round; RLlib calls it from ``step``."""
        self.turn()
        if not torch.isfinite(self._loss):
            raise NotFiniteError(
                "the loss is not finite: training has diverged. Lower agent.learning_rate, or check the"
                " features and the rewards for very large numbers"
            )

    def turn(self) -> None:
        """Sample, learn, hand the weights on."""
        raise NotImplementedError  # pragma: no cover, each family has its own

    def candidates(self) -> Tensor | None:
        """int64 (n,): what is offered to everyone for a while where the catalogue is large; else None.

        Each item is as likely as any other, and none comes twice.
        """
        sizes, count = self.agent.network, self._modules_items()
        if count <= sizes.full_catalogue:
            return None
        order = torch.randperm(count, generator=self._luck)
        return order[: sizes.candidates]

    def _modules_items(self) -> int:
        return len(self.config.rl_module_spec.model_config["shape"].features)

    def collect(self, steps: int, candidates: Tensor | None) -> Columns:
        """``steps`` requests of everyone, of all runners that are alive.

        Raises:
            NotFiniteError: a market pays what is no number.
        """
        ask = {"steps": steps, "epsilon": self.epsilon, "candidates": candidates}
        if self.config.num_env_runners:
            parts = self.env_runner_group.foreach_env_runner("sample", kwargs=ask, local_env_runner=False)
        else:
            parts = [self.env_runner.sample(**ask)]
        for part in parts:
            if isinstance(part, NotFiniteError):
                raise part
        if not parts:
            return {}
        columns: Columns = parts[0]
        if len(parts) > 1:
            columns = {name: torch.cat([part[name] for part in parts]) for name in columns}
        self.env_steps += steps * self.agent.users_at_once * len(parts)
        return {name: x.to(self.device) for name, x in columns.items()}

    def gradient_step(self, columns: Columns, candidates: Tensor | None = None) -> list[dict[str, Tensor]]:
        """One step of all learners, each on its share of the rows; what each noted.

        A learner in this process gets the rows as they are, the others through RLlib's batches.
        Losses are summed in place: small tensors that are kept lie between the large ones of each step,
        whose memory is then fetched anew from the system.
        """
        if self.learner_group.is_local:
            rows = columns if candidates is None else columns | {"candidates": candidates}
            found = self.learner_group.foreach_learner(lambda one: one.learn(rows))
            results = [one.get() for one in found.ignore_errors()]
        else:
            batch = MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, len(columns["reward"]))
            results = self.learner_group.update(batch=batch, timesteps={}, candidates=candidates)
        for one in results:
            self._loss = self._loss.to(one["loss"].device).add_(one["loss"])
        self._updates += len(results)
        return results

    def minibatches(self, columns: Columns, size: int) -> Iterator[Columns]:
        """The rows in random order, ``size`` at a time; the rest that is smaller is left out."""
        count = len(columns["reward"])
        order = torch.randperm(count, generator=self._luck).to(columns["reward"].device)
        for part in order.split(min(size, count)):
            if len(part) == min(size, count):
                yield {name: x.index_select(0, part) for name, x in columns.items()}

    def hand_on(self) -> None:
        """Give the runners the learner's weights; within one process by copying, not through Ray."""
        if not self.config.num_learners and not self.config.num_env_runners:
            acting = self.env_runner.acting.net
            self.learner_group.foreach_learner(lambda one: acting.load_state_dict(one.plain.net.state_dict()))
            return
        self.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group, inference_only=True
        )

    def finished(self) -> tuple[Tensor, Tensor]:
        """Returns and lengths of the sessions that ended since the last call."""
        if not self.config.num_env_runners:
            return self.env_runner.finished()
        parts = self.env_runner_group.foreach_env_runner("finished", local_env_runner=False)
        none = torch.zeros(0)
        return torch.cat([none, *(p[0] for p in parts)]), torch.cat([none, *(p[1] for p in parts)])

    def mean_loss(self) -> float:
        """Mean loss of the updates since the last call; NaN without any."""
        mean = float(self._loss) / self._updates if self._updates else math.nan
        self._loss, self._updates = torch.zeros(()), 0
        return mean

    def learning_state(self) -> dict[str, Any]:
        """All that learning goes on from, as arrays, numbers and strings."""
        learner = self.learner_group.get_state()[COMPONENT_LEARNER]
        names = (COMPONENT_RL_MODULE, COMPONENT_OPTIMIZER, WEIGHTS_SEQ_NO)
        kept = {name: learner[name] for name in names if name in learner}
        return {"learner": kept, "env_steps": self.env_steps, "luck": self._luck.get_state()}

    def set_learning_state(self, state: dict[str, Any]) -> None:
        """Go on from what ``learning_state`` gave."""
        self.learner_group.set_state({COMPONENT_LEARNER: state["learner"]})
        self.env_steps = state["env_steps"]
        self._luck.set_state(torch.as_tensor(state["luck"]))
        self.hand_on()

    def network(self) -> torch.nn.Module:
        """The learnt network as it is exported, on the CPU."""
        module = self.env_runner.module[DEFAULT_MODULE_ID]
        module.set_state(self.learner_group.get_weights()[DEFAULT_MODULE_ID])
        net = module.exported()
        if all(p.device.type == "cpu" for p in net.parameters()):
            return net
        return copy.deepcopy(net).cpu()


class ReplayAlgorithm(MarketAlgorithm):
    """Sample with epsilon-greedy, remember, and learn from what is remembered."""

    STEPS = 4  # requests of everyone between two handings on of the weights

    def setup(self, config: Any) -> None:
        """Begin with an empty memory."""
        super().setup(config)
        value = self.agent.value
        self.replay = Replay(
            value.replay_capacity, self.config.seed or 0, value.priority_exponent, self.device
        )

    @property
    def epsilon(self) -> float:
        """Linear from the first to the last value, then constant."""
        value = self.agent.value
        falling = max(1.0, value.epsilon_decay_share * self.agent.env_steps)
        done = min(1.0, self.env_steps / falling)
        return value.epsilon_start + (value.epsilon_end - value.epsilon_start) * done

    def turn(self) -> None:
        """Some requests of everyone, then the updates that are due for them."""
        before, steps = self.env_steps, max(self.STEPS, self.agent.value.n_step)
        columns = self.collect(steps, self.candidates())
        if columns:
            self.replay.add(columns)
        if self.replay.size < self.agent.train_batch:
            return
        asked = (self.env_steps - before) / self.agent.users_at_once * self.agent.value.updates_per_step
        for _ in range(round(asked)):
            places, batch = self.replay.draw(self.agent.train_batch, self.env_steps / self.agent.env_steps)
            results = self.gradient_step(batch, self.candidates())
            if self.replay.exponent:
                self.replay.note(places, torch.cat([one["errors"].to(self.device) for one in results]))
        self.hand_on()

    def learning_state(self) -> dict[str, Any]:
        """The memory too."""
        return super().learning_state() | {"replay": self.replay.get_state()}

    def set_learning_state(self, state: dict[str, Any]) -> None:
        """The memory too."""
        super().set_learning_state(state)
        self.replay.set_state(state["replay"])


class RolloutAlgorithm(MarketAlgorithm):
    """Sample with the newest weights, learn from that alone, throw it away.

    Attributes:
        whole: whether a rollout is one batch, learnt from once, or some epochs of minibatches.
        steps: requests of everyone in a rollout; None: ``gradient.rollout``.
    """

    whole: ClassVar[bool] = False
    steps: ClassVar[int | None] = None

    def turn(self) -> None:
        """Requests of everyone, then the updates on them, with standardised advantages."""
        gradient, candidates = self.agent.gradient, self.candidates()
        columns = self.collect(self.steps or gradient.rollout, candidates)
        if not columns:
            return
        advantage = columns["advantage"]
        columns["advantage"] = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        for _ in range(1 if self.whole else gradient.epochs):
            for batch in [columns] if self.whole else self.minibatches(columns, gradient.minibatch):
                self.gradient_step(batch, candidates)
        self.hand_on()


class LogAlgorithm(MarketAlgorithm):
    """Learn from logged requests; no runner steps anybody.

    Attributes:
        ahead: whether the loss asks what was seen after a request.
        rows: the log; not in the configuration, which RLlib copies often and sends to learners.
    """

    from_log = True
    ahead: ClassVar[bool] = False
    rows: LoggedRows
    UPDATES = 50  # between two looks at what has been learnt

    def turn(self) -> None:
        """Some updates on rows drawn from the log."""
        for _ in range(self.UPDATES):
            batch = self.rows.draw(self.agent.train_batch, self._luck, self.ahead)
            self.gradient_step(batch, self.candidates())
            self.env_steps += self.agent.train_batch

    def hand_on(self) -> None:
        """Nobody acts."""

    def finished(self) -> tuple[Tensor, Tensor]:
        """No sessions."""
        return torch.zeros(0), torch.zeros(0)
