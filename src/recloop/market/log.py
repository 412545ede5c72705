"""Logged sessions: the generated people under a behaviour policy whose propensities are exact."""

from collections.abc import Iterator

import numpy as np
import torch

from recloop.market.ground_truth import GroundTruth
from recloop.market.interface import Outcome
from recloop.market.population import DAY_US, DAYS, DEVICES, EPOCH_US
from recloop.policy import Slates, draw
from recloop.schema import Event, EventKind, Impression

SESSIONS = 2
RETURNING = 0.7  # share of people who come a second time
WINDOW_US = DAYS * DAY_US // SESSIONS  # each session has its own, so that a person's never meet
PAUSE_US = DAY_US // 2  # nobody arrives so late in a window
FLOOR = 0.1  # uniform share of the behaviour policy's picks
BEHAVIOUR = "behaviour"
Batch = tuple[list[Impression], list[Event]]


def generate_log(market: GroundTruth, seed: int) -> Iterator[Batch]:
    """Everyone comes once, most come twice; yields one request of all who are there at a time.

    Nobody comes before having signed up, and no item is shown before its launch. The behaviour policy
    knows what a shop knows on its first day: a merchandiser's liking for some items (which leans towards
    bait) and the trade that a person says to look for.
    """
    rng = np.random.default_rng([seed, 2])
    liking = 0.3 * market.offers.bait.numpy() + rng.standard_normal(market.n_items)
    wish, joined = (x[: len(market.users)].numpy() for x in (market.people.wish, market.people.joined))
    came = np.zeros(len(wish), bool)
    scores = liking[None] + 2.0 * (market.offers.trade.numpy()[None] == wish[:, None])
    for session in range(SESSIONS):
        market.seed(seed * SESSIONS + session)
        market.reset_to(torch.arange(len(wish)))
        arrival = rng.integers(0, WINDOW_US - PAUSE_US, len(wish))
        arrival += EPOCH_US + session * WINDOW_US
        market.ts = torch.from_numpy(arrival).to(market.device)
        alive = (arrival >= joined) & ~(came & (rng.random(len(wish)) > RETURNING))
        came |= alive
        step = 0
        while alive.any():
            here = np.flatnonzero(alive)
            hidden = ~market.available().cpu().numpy()[here]
            params = market.params
            drawn = draw(scores[here], params.slate, rng, params.behaviour_temperature, FLOOR, hidden)
            slates = np.full((len(wish), drawn.items.shape[1]), market.n_items)
            slates[here] = drawn.items
            ts = market.ts.cpu().numpy()
            outcome = market.step(torch.from_numpy(slates))
            yield _records(market, here, f"{session}-{step}", drawn, ts, outcome)
            alive &= ~outcome.done.cpu().numpy()
            step += 1


def _records(
    market: GroundTruth, people: np.ndarray, name: str, slates: Slates, ts: np.ndarray, outcome: Outcome
) -> Batch:
    ids = [item.item_id for item in market.items]
    shown, acts = [], []
    clicked, bought, devices = (x.cpu().numpy() for x in (outcome.clicked, outcome.bought, market.devices))
    items, propensities = slates.items.tolist(), slates.propensities.tolist()
    for row, b in enumerate(people.tolist()):
        user_id, moment, request = market.users[b].user_id, int(ts[b]), f"log-{b}-{name}"
        shown += [
            Impression.model_construct(
                request_id=request, position=j, user_id=user_id, item_id=ids[i], propensity=p,
                policy=BEHAVIOUR, slot="", device=DEVICES[devices[b]], partial=False, ts=moment,
            )
            for j, (i, p) in enumerate(zip(items[row], propensities[row], strict=True))
        ]  # fmt: skip
        if clicked[b] >= 0:
            item_id = ids[items[row][clicked[b]]]
            acts += feedback(request, user_id, item_id, moment, bool(bought[b]))
    return shown, acts


def feedback(request_id: str, user_id: str, item_id: str, ts: int, bought: bool) -> list[Event]:
    """The events of one click, and of the purchase that came of it."""
    kinds = [(EventKind.CLICK, 5_000_000)] + [(EventKind.PURCHASE, 20_000_000)] * bought
    return [
        Event(
            event_id=f"{request_id}-{kind}", user_id=user_id, item_id=item_id, kind=kind,
            request_id=request_id, ts=ts + later,
        )
        for kind, later in kinds
    ]  # fmt: skip
