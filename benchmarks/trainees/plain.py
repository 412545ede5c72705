"""PPO and double DQN as loops in torch for this market alone: what a framework can cost nothing beside."""

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.trainees.world import Trainee, market, shape
from recloop.agents.network import TwoTower
from recloop.agents.plackett_luce import draw
from recloop.agents.replay import Replay
from recloop.agents.returns import advantages
from recloop.settings.params import AgentParams

TITLE = "a plain loop in torch"


def plain(chosen: AgentParams, seed: int) -> Trainee:
    """The loop of the algorithm."""
    return (_ppo if chosen.algorithm == "ppo" else _dqn)(chosen, seed)


def _ppo(chosen: AgentParams, seed: int) -> Trainee:
    torch.manual_seed(seed)
    gradient, world, people = chosen.gradient, market(), chosen.users_at_once
    net, luck = TwoTower(shape(), chosen.network), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), chosen.learning_rate, fused=True)
    world.seed(seed)
    world.reset(people)

    def collect() -> dict[str, Tensor]:
        steps = []
        for _ in range(gradient.rollout):
            seen = world.observe()
            state = net.state(seen)
            share = net.scores(state).log_softmax(1)
            slate = draw(share, 1, luck)
            row = seen | {"slate": slate, "old": share.gather(1, slate)[:, 0], "value": net.value(state)}
            outcome = world.step(slate)
            world.arrive(outcome.done)
            steps.append(row | {"reward": outcome.reward, "done": outcome.done})
        whole = {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
        beyond = net.value(net.state(world.observe()))
        found = advantages(
            whole["reward"], whole["done"], whole["value"], beyond, chosen.gamma, gradient.gae_lambda
        )
        whole |= {
            "target": found + whole["value"],
            "advantage": (found - found.mean()) / (found.std() + 1e-6),
        }
        return {name: x.flatten(0, 1) for name, x in whole.items()}

    def learn(rows: dict[str, Tensor]) -> None:
        state = net.state(rows)
        share = net.scores(state).log_softmax(1)
        ratio = (share.gather(1, rows["slate"])[:, 0] - rows["old"]).exp()
        clipped = ratio.clamp(1 - gradient.clip, 1 + gradient.clip)
        actor = -torch.minimum(ratio * rows["advantage"], clipped * rows["advantage"]).mean()
        critic = functional.mse_loss(net.value(state), rows["target"])
        entropy = -(share.exp() * share).sum(1)
        loss = actor + gradient.value_share * critic - gradient.entropy * entropy.mean()
        _descend(optimiser, net, loss)

    def run(steps: int) -> None:
        for _ in range(steps // (people * gradient.rollout)):
            with torch.no_grad():
                rows = collect()
            for _ in range(gradient.epochs):
                for part in torch.randperm(len(rows["reward"]), generator=luck).split(gradient.minibatch):
                    learn({name: x.index_select(0, part) for name, x in rows.items()})

    return Trainee(TITLE, run, lambda: net)


def _dqn(chosen: AgentParams, seed: int) -> Trainee:
    torch.manual_seed(seed)
    value, world, people = chosen.value, market(), chosen.users_at_once
    net, target = TwoTower(shape(), chosen.network), TwoTower(shape(), chosen.network)
    target.load_state_dict(net.state_dict())
    optimiser = torch.optim.Adam(net.parameters(), chosen.learning_rate, fused=True)
    memory = Replay(value.replay_capacity, seed, value.priority_exponent)
    luck = torch.Generator().manual_seed(seed)
    world.seed(seed)
    world.reset(people)
    done_steps = updates = 0

    def act() -> None:
        seen = world.observe()
        with torch.no_grad():
            best = net.q(seen).argmax(1)
        anything = torch.randint(world.n_items, (people,), generator=luck)
        past = min(1.0, done_steps / (value.epsilon_decay_share * chosen.env_steps))
        epsilon = value.epsilon_start + (value.epsilon_end - value.epsilon_start) * past
        item = torch.where(torch.rand(people, generator=luck) < epsilon, anything, best)
        outcome = world.step(item[:, None])
        ahead = {f"next_{name}": x for name, x in world.observe().items()}
        memory.add(seen | ahead | {"item": item, "reward": outcome.reward, "done": outcome.done})
        world.arrive(outcome.done)

    def learn() -> None:
        nonlocal updates
        places, rows = memory.draw(chosen.train_batch, done_steps / chosen.env_steps)
        ahead = {name: rows[f"next_{name}"] for name in ("profile", "context", "history")}
        with torch.no_grad():
            best = net.q(ahead).argmax(1, keepdim=True)
            beyond = target.q(ahead).gather(1, best)[:, 0]
        wanted = rows["reward"] + chosen.gamma * (~rows["done"]) * beyond
        q = net.q(rows).gather(1, rows["item"][:, None])[:, 0]
        each = functional.smooth_l1_loss(q, wanted, reduction="none")
        _descend(optimiser, net, (each * rows.get("weight", 1.0)).mean())
        if memory.exponent:
            memory.note(places, (wanted - q).detach())
        updates += 1
        if updates % value.target_update_every == 0:
            target.load_state_dict(net.state_dict())

    def run(steps: int) -> None:
        nonlocal done_steps
        for _ in range(steps // people):
            act()
            done_steps += people
            if memory.size >= chosen.train_batch:
                for _ in range(value.updates_per_step):
                    learn()

    return Trainee(TITLE, run, lambda: net)


def _descend(optimiser: torch.optim.Optimizer, net: torch.nn.Module, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    optimiser.step()
