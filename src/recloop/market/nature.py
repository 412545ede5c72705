"""The coefficients of the generated marketplace: how people choose, buy, feel and leave.

With u a person's interests, h its thrift, q, z, b an item's topic, quality and bait, j its position (0
first), a the satiation per topic, s the satisfaction:

    choice       v_j = fit <u, q> + lure b - dear h log price - sated <a, q> - p_j - r,
                 P(j) = e^v_j / (1 + sum e^v); what is not launched yet cannot be chosen
    position     p_j = position[device] j
    reserve      r = reserve + night max(0, cos(2 pi (hour - 4) / 24)) - weekend [Saturday or Sunday]
    purchase     log-odds  buy + buy_fit <u, q> + buy_quality z - buy_price (price - 1)
    satisfaction s <- keep s + glad z - sorry b after a click, s <- keep s - bored without one
    leaving      log-odds  leave - patience s, and always at the horizon
    interests    u <- u + drift (q - u / |u|) after a click
    satiation    a <- rest a, plus tiring q after a click

Bait is the short way to a click and the long way to an empty shop: the choice rewards it, the
satisfaction pays for it. The values make people stay 8 to 12 requests with the behaviour policy, and
set these policies apart, in this order: most popular and random, greedy for clicks, far-sighted.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Nature:
    """The coefficients above; ``position`` is per phone, desktop and tablet."""

    fit: float = 2.2
    lure: float = 0.4
    sated: float = 0.8
    reserve: float = 2.2
    night: float = 0.4
    weekend: float = 0.2
    dear: float = 0.2
    position: tuple[float, float, float] = (0.25, 0.15, 0.2)
    buy: float = -2.4
    buy_fit: float = 0.8
    buy_quality: float = 1.0
    buy_price: float = 0.5
    keep: float = 0.8
    glad: float = 0.3
    sorry: float = 0.2
    bored: float = 0.3
    leave: float = -2.8
    patience: float = 0.75
    drift: float = 0.03
    tiring: float = 0.3
    rest: float = 0.85
