"""Rows per second of learning from a log: ours beside RLlib's own from the same Parquet file, and beside
plain loops in torch. One thread learns; RLlib prepares its batches in two processes more.

Everyone has the same network, optimiser, rate, discount 0, batches of 512 rows and one gradient update per
batch; the objective of both MARWILs is then the same. *From the file* counts all from the file's name to the
weights: reading, building the algorithm, every update; Ray runs already. A pass is as many rows as the file
has. RLlib maps the file through its episodes and connectors in Ray Data: once for BC, which it keeps, and in
each pass for MARWIL, whose batches hold a second, masked row for every row. *Once mapped* is BC when that is
over. Loss on held-out people is what was learnt by then. The limit is the arithmetic of the matrix products
of one update at the rate of a large product on one thread, measured in the same run.
"""

import gc
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from gymnasium import spaces
from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.algorithms.marwil import MARWILConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns as Names
from ray.rllib.core.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from benchmarks.machine import rest
from benchmarks.market import ground_truth
from benchmarks.plain import AGENT, BATCH, UPDATES, Plain, limit_of
from benchmarks.race import SEED, Row, main, median_ratio, race
from recloop.agents.algorithm import LogAlgorithm
from recloop.agents.build import build
from recloop.agents.cluster import cluster
from recloop.agents.log import LoggedRows
from recloop.agents.logged import capped
from recloop.agents.network import Columns, Shape, TwoTower
from recloop.features import Steps

ROWS = BATCH * UPDATES  # of the file: a pass
PASSES = {"bc": 10, "marwil": 4}  # four are what the shipped parameters take of a log as long
SHORT = 3  # runs of ours whose median counts: each takes a second at most, RLlib's twenty
RLLIB = f"RLlib {ray.__version__}"
PLAIN = "a plain loop in torch"


class Net(TorchRLModule, ValueFunctionAPI):
    """Our network as RLlib's algorithms want it; an observation is one vector."""

    def setup(self) -> None:
        """Build it."""
        self.shape: Shape = self.model_config["shape"]
        self.net = TwoTower(self.shape, AGENT.network)

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        state = self.net.state(parted(batch[Names.OBS], self.shape))
        return {Names.ACTION_DIST_INPUTS: self.net.scores(state), Names.EMBEDDINGS: state}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Any:
        """The critic."""
        if embeddings is None:
            embeddings = self.net.state(parted(batch[Names.OBS], self.shape))
        return self.net.value(embeddings)


def parted(vector: Tensor, shape: Shape) -> Columns:
    """Profile, context and history of float32 (B, P + C + H)."""
    profile, context, history = vector.split([shape.profile, shape.context, shape.history], 1)
    return {"profile": profile, "context": context, "history": history.long()}


def write_log(path: Path, people: int, seed: int) -> Shape:
    """Sessions in the market, one item a request, under a behaviour policy that prefers some items.

    One row per request, at most ``ROWS``, person by person, in the columns that RLlib reads.
    """
    market, luck = ground_truth(), torch.Generator().manual_seed(SEED)
    liking = torch.randn(market.n_items, generator=luck).softmax(0)
    luck.manual_seed(seed)
    market.seed(seed)
    seen, alive, steps = market.reset(people), torch.ones(people, dtype=torch.bool), []
    shape = Shape(np.eye(market.n_items, 16, dtype=np.float32), *(x.shape[1] for x in seen.values()))
    while alive.any():
        item = torch.multinomial(liking.expand(people, -1), 1, generator=luck)
        before = torch.cat([seen["profile"], seen["context"], seen["history"].float()], 1)
        outcome, seen = market.step(item), market.observe()
        after = torch.cat([seen["profile"], seen["context"], seen["history"].float()], 1)
        steps.append((alive, before, after, item[:, 0], outcome.reward, outcome.done))
        alive = alive & ~outcome.done
    there, *columns = (torch.stack(x, 1) for x in zip(*steps, strict=True))
    before, after, item, reward, done = (x[there][:ROWS].numpy() for x in columns)
    done[-1] = True
    table = {
        "eps_id": there.nonzero()[:ROWS, 0].numpy(), "obs": _lists(before), "new_obs": _lists(after),
        "actions": item, "rewards": reward, "terminateds": done, "truncateds": np.zeros_like(done),
    }  # fmt: skip
    pq.write_table(pa.table(table), path)
    return shape


def _lists(matrix: np.ndarray) -> pa.Array:
    ends = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(ends, matrix.ravel())


def read_log(path: Path, shape: Shape) -> LoggedRows:
    """Our rows of the file."""
    table = pq.read_table(path, columns=["eps_id", "obs", "actions", "rewards", "terminateds"])
    session, item, reward, done = (
        table[name].to_numpy() for name in ("eps_id", "actions", "rewards", "terminateds")
    )
    vector = table["obs"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    seen = {name: x.numpy() for name, x in parted(torch.from_numpy(vector.copy()), shape).items()}
    nothing = np.zeros(len(table), np.int64)
    steps = Steps(
        user=session, session=session, ts=nothing, **seen, slate=item[:, None],
        propensity=np.full((len(table), 1), np.nan), position=nothing[:, None], clicked=nothing,
        reward=reward, done=done,
    )  # fmt: skip
    return LoggedRows.of(steps, len(shape.features), AGENT.gamma)


def ours(name: str, path: Path, shape: Shape, seed: int = SEED) -> LogAlgorithm:
    """Ours, ready to learn from the file; a ``step`` is a pass."""
    agent = AGENT.model_copy(update={"algorithm": name})
    found = build(agent, seed, shape, ground_truth, read_log(path, shape))
    assert isinstance(found, LogAlgorithm)
    return found


def stock(name: str, path: Path, shape: Shape, seed: int = SEED) -> Any:
    """RLlib's, ready to learn from the file; a ``train`` is a pass."""
    width = shape.profile + shape.context + shape.history
    config: Any = BCConfig() if name == "bc" else MARWILConfig()
    config.environment(
        observation_space=spaces.Box(-1e6, 1e6, (width,), np.float32),
        action_space=spaces.Discrete(len(shape.features)),
    )
    config.env_runners(num_env_runners=0)
    masked = 1 if name == "bc" else 2  # rows of a batch for each row of the log
    config.training(
        lr=AGENT.learning_rate, gamma=AGENT.gamma, train_batch_size_per_learner=masked * BATCH, grad_clip=10.0
    )
    if name == "marwil":  # c^2 of the batch, as ours
        config.training(beta=AGENT.logs.advantage_weight, moving_average_sqd_adv_norm_update_rate=1.0)
    config.offline_data(input_=[str(path)], dataset_num_iters_per_learner=UPDATES)
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=Net, model_config={"shape": shape}))
    config.reporting(min_time_s_per_iteration=None)
    config.debugging(seed=seed, log_level="ERROR")
    return config.build_algo()


def learn(start: Callable[[], Any], passes: int) -> tuple[Any, np.ndarray]:
    """What ``start`` makes, after so many passes; seconds until the end of each, float64 (passes,)."""
    gc.collect()  # what another run has left, threads and processes that end, is not counted as this one's
    rest()
    began, seconds = time.perf_counter(), []
    algorithm = start()
    step = algorithm.step if isinstance(algorithm, LogAlgorithm) else algorithm.train
    for _ in range(passes):
        step()
        seconds.append(time.perf_counter() - began)
    return algorithm, np.array(seconds)


def loss_of(net: TwoTower, held_out: LoggedRows, weighted: bool) -> float:
    """Mean negative log-likelihood of what was shown, in nats; weighted by exp(standardised reward)."""
    with torch.no_grad():
        scores = net.scores(net.state(held_out.observations))
        each = functional.cross_entropy(scores, held_out.item, reduction="none")
    if not weighted:
        return float(each.mean())
    reward, logs = held_out.reward, AGENT.logs
    weight = capped((reward - reward.mean()) / reward.std(), logs.advantage_weight, logs.weight_cap)
    return float((weight * each).sum() / weight.sum())


def from_file(
    name: str, path: Path, shape: Shape, held_out: LoggedRows, limit: float, repeats: int
) -> Iterator[Row]:
    """Rows per second after one pass and after some, and what has been learnt by then."""
    taken, losses = np.zeros((repeats, 2, PASSES[name])), np.zeros((repeats, 2))
    for place in tqdm(range(repeats), desc=f"{name} from the file", mininterval=1):
        for who, (kind, times) in enumerate(((ours, SHORT), (stock, 1))):
            found = []
            for _ in range(times):
                algorithm, seconds = learn(partial(kind, name, path, shape, SEED + place), PASSES[name])
                found.append(seconds)
                losses[place, who] = loss_of(network_of(algorithm), held_out, name == "marwil")
                algorithm.stop()
            taken[place, who] = np.median(found, 0)
    for passes in (1, PASSES[name]):
        seconds = taken[:, :, passes - 1]
        mine, theirs = passes * ROWS / np.median(seconds, 0)
        case, ratio = f"{name}, from the file, passes: {passes}", median_ratio(seconds[:, 1] / seconds[:, 0])
        yield Row(case, "rows/s", float(mine), RLLIB, float(theirs), *ratio, better="higher", limit=limit)
    mine, theirs = np.median(losses, 0)
    case, ratio = f"{name}, loss on held-out people", median_ratio(losses[:, 1] / losses[:, 0])
    yield Row(case, "nats/row", float(mine), RLLIB, float(theirs), *ratio, better="lower", limit=None)


def network_of(algorithm: Any) -> TwoTower:
    """What was learnt, by either."""
    if isinstance(algorithm, LogAlgorithm):
        return algorithm.learner_group._learner.plain.net
    return algorithm.learner_group._learner.module[DEFAULT_MODULE_ID].net


def cases(repeats: int) -> Iterator[Row]:
    """Both of RLlib's from the file, BC once mapped, and all four beside plain loops."""
    torch.set_num_threads(1)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, cluster(workers=3, store_bytes=2**30):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 2**21  # several blocks of the file, so that both processes map it
        path, other = Path(folder) / "log.parquet", Path(folder) / "held_out.parquet"
        shape = write_log(path, ROWS // 8, SEED)
        write_log(other, 1000, SEED + 1)
        rows, held_out = read_log(path, shape), read_log(other, shape)
        assert len(rows) == ROWS
        limits = {name: limit_of(Plain(name, rows, shape)) for name in ("bc", "marwil", "cql", "iql")}
        mine, theirs = (learn(partial(kind, "bc", path, shape), 1)[0] for kind in (ours, stock))  # warm
        yield race("bc, once mapped", mine.step, RLLIB, theirs.train, ROWS, "rows/s", repeats, limits["bc"])
        mine.stop(), theirs.stop()
        for name in PASSES:
            yield from from_file(name, path, shape, held_out, limits[name], repeats)
        for name, limit in limits.items():
            algorithm, plain = ours(name, path, shape), Plain(name, rows, shape)
            yield race(name, algorithm.step, PLAIN, plain.run, ROWS, "rows/s", max(9, repeats), limit)
            algorithm.stop()


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=5)
