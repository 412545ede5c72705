"""Logged sessions: the generated people under a behaviour policy whose propensities are exact."""

from collections.abc import Iterator

import numpy as np
import torch

from recloop.market.ground_truth import GroundTruth
from recloop.market.population import DEVICES
from recloop.policy import draw
from recloop.schema import Event, EventKind, Impression

SESSIONS = 2
FLOOR = 0.1  # uniform share of the behaviour policy's picks
BEHAVIOUR = "behaviour"


def generate_log(market: GroundTruth, seed: int) -> Iterator[tuple[list[Impression], list[Event]]]:
    """Everyone comes twice; yields a batch of impressions and events per request of all who are there.

    The behaviour policy knows what a shop knows on its first day: a merchandiser's liking for some
    items (which leans towards bait) and the trade that a person says to look for.
    """
    rng = np.random.default_rng([seed, 2])
    liking = 0.3 * market.offers.bait.numpy() + rng.standard_normal(market.n_items)
    wish = market.people.wish.numpy()
    scores = liking[None] + 2.0 * (market.offers.trade.numpy()[None] == wish[:, None])
    for session in range(SESSIONS):
        market.seed(seed * SESSIONS + session)
        market.reset_to(torch.arange(len(wish)))
        alive = np.ones(len(wish), bool)
        step = 0
        while alive.any():
            slates = draw(scores, market.params.slate, rng, market.params.behaviour_temperature, FLOOR)
            ts = market.ts.numpy().copy()
            outcome = market.step(torch.from_numpy(slates.items))
            people = np.flatnonzero(alive)
            yield _records(market, people, f"{session}-{step}", slates, ts, outcome)
            alive &= ~outcome.done.numpy()
            step += 1


def _records(market, people, name, slates, ts, outcome) -> tuple[list[Impression], list[Event]]:  # type: ignore[no-untyped-def]
    ids = [item.item_id for item in market.offers.records]
    shown, acts = [], []
    clicked, bought, devices = outcome.clicked.numpy(), outcome.bought.numpy(), market.devices.numpy()
    for b in people.tolist():
        user_id, moment, request = market.people.records[b].user_id, int(ts[b]), f"log-{b}-{name}"
        shown += [
            Impression.model_construct(
                request_id=request, position=j, user_id=user_id, item_id=ids[i], propensity=float(p),
                policy=BEHAVIOUR, slot="", device=DEVICES[devices[b]], partial=False, ts=moment,
            )
            for j, (i, p) in enumerate(zip(slates.items[b], slates.propensities[b], strict=True))
        ]  # fmt: skip
        if clicked[b] >= 0:
            item_id = ids[slates.items[b, clicked[b]]]
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
