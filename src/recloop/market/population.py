"""Who and what there is in the generated marketplace: what can be seen of it, and what cannot."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recloop.market.wording import AUDIENCES, text_of, title_of
from recloop.schema import Item, User

TRADES = {
    "design": ("Logo", "Brand guide", "Poster", "Packaging", "Icon set", "Illustration", "Menu card"),
    "programming": (
        "Web shop",
        "Mobile app",
        "Chat bot",
        "Data pipeline",
        "Automation",
        "API",
        "Game prototype",
    ),
    "translation": ("Contract", "Subtitles", "Thesis", "Product manual", "Web site", "Novel", "Patent"),
    "lessons": ("Piano", "English", "Mathematics", "Drawing", "Korean", "Yoga", "Python"),
    "video": ("Wedding film", "Short clip", "Motion graphic", "Vlog edit", "Product film", "Colour grading"),
    "music": ("Jingle", "Mix and master", "Vocal guide", "Film score", "Beat", "Podcast edit"),
    "marketing": ("Search advert", "Blog series", "Social media plan", "Newsletter", "Market study"),
    "writing": ("Cover letter", "Speech", "Press release", "Product text", "Script", "Letter"),
}
REGIONS = ("Seoul", "Busan", "Incheon", "Daegu", "Daejeon", "Gwangju", "Jeju")
DEVICES = ("phone", "desktop", "tablet")
DEVICE_SHARES = (0.65, 0.28, 0.07)
EPOCH_US = 1_767_225_600_000_000  # 2026-01-01, UTC
DAY_US = 86_400_000_000
TEMPTATION = -0.4  # correlation of bait with quality
DAYS = 14  # from EPOCH_US: what the generated log covers
LAUNCHED = 0.1  # share of items that come to the market while the log is written
JOINED = 0.1  # share of people who sign up in the first half of that time
STRANGERS = 0.1  # people who come after the log and whom it does not know, as a share of those it knows
SKEW = 0.5  # the share of people who mainly want the j-th trade falls as (j + 1) ** -SKEW


@dataclass(frozen=True)
class Offers:
    """N items. ``topic`` float32 (N, d), unit length; ``quality``, ``bait``, ``price`` float32 (N,).

    Quality makes people glad afterwards; bait makes them click and sorry afterwards. Their correlation
    is ``TEMPTATION``, and neither can be seen; an offer's rating and price hint at quality, its
    headline at bait. ``trade`` int64 (N,) is the category. Before ``launch`` int64 (N,), µs since 1970,
    UTC, an item cannot be had.
    """

    records: list[Item]
    trade: Tensor
    topic: Tensor
    quality: Tensor
    bait: Tensor
    price: Tensor
    launch: Tensor


@dataclass(frozen=True)
class People:
    """U persons. ``interest`` float32 (U, d) and ``thrift`` float32 (U,), how much a price matters, cannot
    be seen; the young are thriftier. ``wish`` int64 (U,), the trade that they say they look for, is
    theirs with probability 0.7; ``joined`` int64 (U,), µs since 1970, UTC, is when they signed up."""

    records: list[User]
    interest: Tensor
    thrift: Tensor
    wish: Tensor
    joined: Tensor


def make_offers(count: int, topics: int, rng: np.random.Generator) -> Offers:
    """Draw a catalogue."""
    names = list(TRADES)
    trade = rng.permutation(np.arange(count) % topics)
    topic = 0.35 * rng.standard_normal((count, topics)) / np.sqrt(topics)
    topic[np.arange(count), trade] += 1
    topic /= np.linalg.norm(topic, axis=1, keepdims=True)
    quality = rng.standard_normal(count)
    bait = TEMPTATION * quality + math.sqrt(1 - TEMPTATION**2) * rng.standard_normal(count)
    price = np.exp(0.4 * rng.standard_normal(count) + 0.15 * quality)
    stars = 4.3 + 0.3 * (0.6 * quality + 0.8 * rng.standard_normal(count))
    bold = bait + rng.standard_normal(count) > 0.8
    launch = EPOCH_US + _moments(count, LAUNCHED, DAYS * DAY_US, rng)
    seen: dict[tuple[str, str], int] = {}
    records = []
    for i in range(count):
        category = names[trade[i] % len(names)]
        named = str(rng.choice(TRADES[category])), str(rng.choice(AUDIENCES[category]))
        earlier = seen.get(named, 0)
        seen[named] = earlier + 1
        records.append(
            Item(
                item_id=f"t{i:05d}",
                title=title_of(*named, earlier),
                category=category,
                price=round(float(price[i]) * 50_000, -2),
                attributes={
                    "rating": round(float(np.clip(stars[i], 1, 5)), 1),
                    "headline": "bold" if bold[i] else "plain",
                },
                text=text_of(category),
                created_at=int(launch[i]),
            )
        )
    to = {"topic": topic, "quality": quality, "bait": bait, "price": price}
    return Offers(
        records,
        torch.tensor(trade),
        launch=torch.tensor(launch),
        **{k: torch.tensor(v, dtype=torch.float32) for k, v in to.items()},
    )


def _moments(count: int, late: float, within: int, rng: np.random.Generator) -> np.ndarray:
    """int64 (count,), µs: a share of ``late`` comes ``within`` that time, the others came long before."""
    before = -rng.integers(1, 400, count) * DAY_US
    return np.where(rng.random(count) < late, rng.integers(0, within, count), before)


def make_people(count: int, topics: int, rng: np.random.Generator) -> People:
    """Draw a population; age, sex and region tell a little of a person's interests, the wish tells more."""
    names = list(TRADES)
    age, sex = rng.integers(16, 70, count), rng.integers(0, 2, count)
    region = rng.integers(0, len(REGIONS), count)
    shares = (1.0 + np.arange(topics)) ** -SKEW
    drawn = rng.choice(topics, count, p=shares / shares.sum())
    main = np.where(rng.random(count) < 0.25, age * topics // 70, drawn)
    interest = 0.25 * rng.standard_normal((count, topics))
    interest += 0.2 * rng.standard_normal((2, topics))[sex]
    interest += 0.2 * rng.standard_normal((len(REGIONS), topics))[region]
    interest[np.arange(count), main] += 1.5
    interest[np.arange(count), rng.integers(0, topics, count)] += 0.7
    wish = np.where(rng.random(count) < 0.7, main, rng.integers(0, topics, count))
    thrift = np.exp(0.4 * rng.standard_normal(count) - 0.01 * (age - 40))
    joined = EPOCH_US + _moments(count, JOINED, DAYS * DAY_US // 2, rng)
    records = [
        User(
            user_id=f"p{i:06d}",
            age=int(age[i]),
            sex="FM"[sex[i]],
            region=REGIONS[region[i]],
            attributes={"looking_for": names[wish[i] % len(names)]},
            created_at=int(joined[i]),
        )
        for i in range(count)
    ]
    likes, saves = (torch.tensor(x, dtype=torch.float32) for x in (interest, thrift))
    return People(records, likes, saves, torch.tensor(wish), torch.tensor(joined))
