"""From rewards in time to what is learnt from them; all tensors are (T, B), time first."""

import torch
from torch import Tensor

from recloop.agents.network import Columns


def n_step(rollout: Columns, n: int, gamma: float) -> Columns:
    """T * B transitions over up to n requests each, fewer at the rollout's end (Sutton 1988).

    ``reward`` becomes sum_{i<m} gamma^i r_{t+i}; ``discount`` is gamma^m, 0 where the person has left by
    then; ``next_...`` is what was seen m requests on. What was offered to everyone, (n,), is left out.
    """
    reward, done = rollout["reward"], rollout["done"]
    steps = len(reward)
    total, power = reward.clone(), torch.full_like(reward, gamma)
    alive, last = ~done, torch.arange(steps, device=reward.device)[:, None].expand_as(done).clone()
    for i in range(1, min(n, steps)):
        goes_on = alive[:-i]
        total[:-i] += goes_on * power[:-i] * reward[i:]
        last[:-i] += goes_on
        power[:-i] = torch.where(goes_on, power[:-i] * gamma, power[:-i])
        alive[:-i] = goes_on & ~done[i:]
    ahead: Columns = {}
    if n > 1:
        people = torch.arange(done.shape[1], device=reward.device).expand_as(done)
        ahead = {name: x[last, people] for name, x in rollout.items() if name.startswith("next_")}
    changed = rollout | ahead | {"reward": total, "discount": power * alive}
    return {name: x.flatten(0, 1) for name, x in changed.items() if x.dim() > 1}


def advantages(
    reward: Tensor, done: Tensor, value: Tensor, beyond: Tensor, gamma: float, keep: float
) -> Tensor:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, eq. 16), lambda = ``keep``.

    ``value`` (T, B) of what was seen, ``beyond`` (B,) of what is seen after the last request. With lambda 1
    it is the return less the baseline; what lies beyond the rollout is taken from the baseline.
    """
    found, running = torch.zeros_like(reward), torch.zeros_like(beyond)
    ahead = beyond
    for t in range(len(reward) - 1, -1, -1):
        goes_on = (~done[t]).float()
        error = reward[t] + gamma * goes_on * ahead - value[t]
        running = error + gamma * keep * goes_on * running
        found[t], ahead = running, value[t]
    return found


def v_trace(
    log_ratio: Tensor, reward: Tensor, done: Tensor, value: Tensor, beyond: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """V-trace targets and policy-gradient advantages (Espeholt et al. 2018, arXiv 1802.01561, eq. 1 and
    section 4.2), both caps 1; ``log_ratio`` is log pi / mu, ``value`` and ``beyond`` are of pi's critic."""
    rho = log_ratio.exp().clamp(max=1)
    goes_on = gamma * (~done).float()
    ahead = torch.cat([value[1:], beyond[None]])
    error = rho * (reward + goes_on * ahead - value)
    running, excess = torch.zeros_like(beyond), torch.zeros_like(value)
    for t in range(len(reward) - 1, -1, -1):
        running = error[t] + goes_on[t] * rho[t] * running
        excess[t] = running
    target = value + excess
    following = torch.cat([target[1:], beyond[None]])
    return target, rho * (reward + goes_on * following - value)
