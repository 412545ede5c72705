"""Plain loops in torch that learn from a log in memory: what a framework can cost nothing beside."""

import copy
import time

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.race import SEED
from recloop.agents.algorithm import LogAlgorithm
from recloop.agents.log import LoggedRows
from recloop.agents.logged import capped
from recloop.agents.network import Columns, Shape, TwoTower
from recloop.settings import load_params

AGENT = load_params().agent.model_copy(update={"slate": 1, "gamma": 0.0, "num_gpus_per_learner": 0.0})
BATCH, UPDATES = AGENT.train_batch, LogAlgorithm.UPDATES


class Plain:
    """A loop for one algorithm and this log alone; ``run`` is a pass."""

    def __init__(self, name: str, rows: LoggedRows, shape: Shape) -> None:
        self.loss = {"bc": self.bc, "marwil": self.marwil, "cql": self.cql, "iql": self.iql}[name]
        self.rows, self.luck = rows, torch.Generator().manual_seed(SEED)
        torch.manual_seed(SEED)
        nets = [TwoTower(shape, AGENT.network) for _ in range(2)]
        self.net, self.judge, self.target = *nets, copy.deepcopy(nets[name == "iql"]).requires_grad_(False)
        self.followed = nets[name == "iql"]
        self.parameters = [x for net in nets[: 1 + (name == "iql")] for x in net.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, AGENT.learning_rate, fused=True)
        self.updates = 0

    def run(self) -> None:
        """A pass."""
        for _ in range(UPDATES):
            self.update(self.rows)

    def update(self, rows: LoggedRows) -> None:
        """One gradient step."""
        at = torch.randint(len(rows), (BATCH,), generator=self.luck)
        seen = {name: x.index_select(0, at) for name, x in rows.observations.items()}
        loss = self.loss(seen, at, rows.item[at, None], rows.reward[at])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 10.0)
        self.optimiser.step()
        self.updates += 1
        if self.updates % AGENT.value.target_update_every == 0:
            self.target.load_state_dict(self.followed.state_dict())

    def bc(self, seen: Columns, _at: Tensor, item: Tensor, _reward: Tensor) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(self.net.scores(self.net.state(seen)), item[:, 0])

    def marwil(self, seen: Columns, at: Tensor, item: Tensor, _reward: Tensor) -> Tensor:
        """Weighted cross-entropy and the critic."""
        state, logs = self.net.state(seen), AGENT.logs
        value, to_go = self.net.value(state), self.rows.to_go[at]
        gap = (to_go - value).detach()
        weight = capped(gap / (gap.square().mean().sqrt() + 1e-6), logs.advantage_weight, logs.weight_cap)
        each = functional.cross_entropy(self.net.scores(state), item[:, 0], reduction="none")
        critic = functional.mse_loss(value, to_go)
        return (weight * each).mean() + AGENT.gradient.value_share * critic

    def cql(self, seen: Columns, at: Tensor, item: Tensor, reward: Tensor) -> Tensor:
        """Double DQN and the gap."""
        q, ahead = self.net.q(seen), self.ahead(at)
        own = q.gather(1, item)[:, 0]
        with torch.no_grad():
            best = self.net.q(ahead).argmax(1, keepdim=True)
            beyond = self.target.q(ahead).gather(1, best)[:, 0]
        wanted = reward + AGENT.gamma * (~self.done(at)) * beyond
        gap = (q.logsumexp(1) - own).mean()
        return functional.smooth_l1_loss(own, wanted) + AGENT.logs.conservatism * gap

    def iql(self, seen: Columns, at: Tensor, item: Tensor, reward: Tensor) -> Tensor:
        """The three losses."""
        state, logs = self.net.state(seen), AGENT.logs
        value = self.net.value(state)
        with torch.no_grad():
            judged = self.own(self.target, seen, item)
            beyond = self.net.value(self.net.state(self.ahead(at)))
        gap = judged - value
        expectile = ((logs.expectile - (gap < 0).float()).abs() * gap.square()).mean()
        wanted = reward + AGENT.gamma * (~self.done(at)) * beyond
        size = gap.detach().square().mean().sqrt() + 1e-6
        weight = capped(gap.detach() / size, logs.advantage_weight, logs.weight_cap)
        each = functional.cross_entropy(self.net.scores(state), item[:, 0], reduction="none")
        return (
            expectile + functional.mse_loss(self.own(self.judge, seen, item), wanted) + (weight * each).mean()
        )

    @staticmethod
    def own(judge: TwoTower, seen: Columns, item: Tensor) -> Tensor:
        """float32 (B,): Q of the shown items."""
        state = judge.state(seen)
        return judge.value(state) + judge.scores(state, item)[:, 0]

    def ahead(self, at: Tensor) -> Columns:
        """The next observations."""
        after = self.rows.following[at]
        return {name: x.index_select(0, after) for name, x in self.rows.observations.items()}

    def done(self, at: Tensor) -> Tensor:
        """bool (B,)."""
        return self.rows.last[at]


def limit_of(plain: Plain) -> float:
    """Rows per second if an update were its matrix products alone, at the rate of a large one."""
    with FlopCounterMode(display=False) as counter:
        plain.update(plain.rows)
    left, right = torch.rand(2, 1024, 1024)
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    return BATCH / counter.get_total_flops() * 2 * 1024**3 / min(seconds)
