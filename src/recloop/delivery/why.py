"""Why this item? In words, from what the log knows of the answer in which it was shown."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from recloop.delivery.outcomes import FALLBACK
from recloop.schema.bilingual import TITLE, half
from recloop.store import acted_on, find_items
from recloop.store.consent import PERSONALISATION, allowed, words_of
from recloop.store.tables import impressions, items

NAMED = 3  # items of the past that are named
TEXTS = {
    "en": {
        "unknown": "We have no record of having shown you this.",
        "fallback": "The recommender could not answer just then, so you saw what most people like.",
        "policy": "The policy {policy} chose it among {items} items; it learns from what people did before.",
        "personal": "It looked at your profile and at what you did before.",
        "stranger": "It did not look at you: neither your profile nor anything that you did before.",
        "alike": "You chose {titles} before, of the same category, {category}.",
        "past": "Of what you chose before, the newest are {titles}; none is of the category {category}.",
        "new": "It knew nothing yet that you had chosen.",
        "chance": "Its chance to stand there was {chance} %; every answer is partly drawn by lot, to learn.",
        "lot": "Here the lot decided more than the policy: an even draw would have given it {even} %.",
    },
    "ko": {
        "unknown": "이 항목을 보여 드린 기록이 없습니다.",
        "fallback": "그 순간 추천이 응답하지 못해, 가장 인기 있는 항목을 보여 드렸습니다.",
        "policy": "{items}개 항목 가운데 정책 {policy}이(가) 골랐습니다. 정책은 지난 행동에서 배웁니다.",
        "personal": "회원님의 프로필과 이전 행동을 참고했습니다.",
        "stranger": "회원님의 프로필이나 이전 행동은 보지 않았습니다.",
        "alike": "전에 같은 분류({category})의 {titles}을(를) 고르셨습니다.",
        "past": "전에 고르신 것 중 최근 항목은 {titles}이며, {category} 분류는 없었습니다.",
        "new": "아직 고르신 항목이 없었습니다.",
        "chance": "그 자리에 나올 확률은 {chance} %였습니다. 배우기 위해 추천의 일부는 추첨으로 정해집니다.",
        "lot": "이번에는 정책보다 추첨의 몫이 컸습니다. 고른 추첨이라면 확률은 {even} %였습니다.",
    },
}


@dataclass(frozen=True)
class Shown:
    """One item as it was shown, and what was known then.

    Attributes:
        category: the item's.
        past: (title, category) of what the person had chosen before, newest first; without repeats.
        personal: whether profile and past could be looked at.
    """

    policy: str
    propensity: float | None
    items: int
    category: str
    past: list[tuple[str, str]]
    personal: bool


def why(
    engine: Engine,
    user_id: str,
    request_id: str,
    item_id: str,
    assumed: bool,
    language: str,
    called: Callable[[str], str] = str,
) -> list[str]:
    """Sentences in ``en`` or ``ko``; ``assumed``: silence on consent was a yes; ``called`` names a category.

    They tell what went in and how it was drawn. What a network made of it cannot be told in words.
    """
    here = impressions.c
    query = select(here.policy, here.propensity, here.ts).where(
        here.user_id == user_id, here.request_id == request_id, here.item_id == item_id
    )
    with engine.connect() as connection:
        row = connection.execute(query).one_or_none()
        if row is None:
            return [TEXTS[language]["unknown"]]
        offered = select(func.count()).select_from(items).where(~items.c.removed)
        count = connection.execute(offered).scalar_one()
    may = allowed(words_of(engine, [user_id], row.ts).get(user_id, {}), {}, assumed)
    chosen = acted_on(engine, user_id, ("click", "purchase"), 50, row.ts)
    offers = {item.item_id: item for item in find_items(engine, [item_id, *chosen])}
    category = called(offers[item_id].category) if item_id in offers else ""
    liked = [offers[one] for one in chosen if one in offers and one != item_id]
    past = [(half(one.title, TITLE, language), called(one.category)) for one in liked]
    personal = PERSONALISATION in may
    return sentences(Shown(row.policy, row.propensity, count, category, past, personal), language)


def sentences(shown: Shown, language: str) -> list[str]:
    """What ``why`` says."""
    text = TEXTS[language]
    if shown.policy == FALLBACK:
        return [text["fallback"], text["stranger"]]
    said = [text["policy"].format(policy=shown.policy, items=shown.items)]
    said.append(text["personal" if shown.personal else "stranger"])
    if shown.personal:
        alike = [title for title, category in shown.past if category == shown.category]
        titles = ", ".join((alike or [title for title, _ in shown.past])[:NAMED])
        which = "new" if not shown.past else "alike" if alike else "past"
        said.append(text[which].format(titles=titles, category=shown.category))
    if shown.propensity is not None:
        said.append(text["chance"].format(chance=_percent(shown.propensity)))
        if shown.items and shown.propensity < 1 / shown.items:
            said.append(text["lot"].format(even=_percent(1 / shown.items)))
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.2g}"
