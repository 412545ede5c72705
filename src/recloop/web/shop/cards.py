"""An item as the shop shows it, in the visitor's language; what is missing is left out or said."""

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from recloop.schema import Item
from recloop.schema.bilingual import PROSE, TITLE, half
from recloop.web.shop.texts import TEXTS

HUES = 8
TRADES = ("design", "programming", "translation", "lessons", "video", "music", "marketing", "writing")


@dataclass(frozen=True)
class Card:
    """One item.

    Attributes:
        category: as the store has it; ``label``: as people read it.
        price: in won, with its sign; empty where there is none.
        stars: the attribute ``rating``, where it is one of up to five stars.
        hue: 0..7, by category; ``shapes``: circles (x, y, radius) of its picture, by id; ``icon``: its name.
    """

    item_id: str
    title: str
    category: str
    label: str
    price: str
    available: bool
    stars: float | None
    text: str
    hue: int
    shapes: tuple[tuple[int, int, int], ...]
    icon: str


def card(item: Item, code: str) -> Card:
    """The item in English (``en``) or Korean (``ko``)."""
    number, category = crc32(item.item_id.encode()), item.category
    stars = item.attributes.get("rating")
    x, y, far, size = ((number >> shift) & 255 for shift in (0, 8, 16, 24))
    return Card(
        item_id=item.item_id,
        title=half(item.title, TITLE, code),
        category=category,
        label=label(category, code),
        price="" if item.price is None else won(item.price, code),
        available=item.available,
        stars=float(stars) if isinstance(stars, int | float) and 0 <= stars <= 5 else None,
        text=half(item.text or "", PROSE, code),
        hue=TRADES.index(category) if category in TRADES else crc32(category.encode()) % HUES,
        shapes=((x + 30, y // 2 - 10, 45 + size // 5), (290 - far, 150, 25 + x // 6)),
        icon=category if category in TRADES else "other",
    )


def cards(items: Iterable[Item], code: str) -> list[Card]:
    """Each of them."""
    return [card(item, code) for item in items]


def label(category: str, code: str) -> str:
    """What people call a category; one that the shop has no word for, as it is."""
    return TEXTS[code].get(f"in_{category}", category)


def won(amount: float, code: str) -> str:
    """A price as it is written."""
    whole = f"{amount:,.0f}" if amount == int(amount) else f"{amount:,.2f}"
    return TEXTS[code]["won"].format(amount=whole)
