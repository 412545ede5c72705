"""Items by category and by text: all words must be there, each may go on (``store.words``)."""

from collections.abc import Sequence
from unicodedata import normalize

from sqlalchemy import ColumnElement, Connection, Engine, Select, exists, func, select

from recloop.schema import Item
from recloop.store.catalogue import item_of
from recloop.store.tables import item_words, items
from recloop.store.words import after_all, words_in

MOST_WORDS = 8  # of one question; the longest are taken
COMMON = 5000  # a word that so many items have is looked for by going through so many items first


def search_items(
    engine: Engine, words: str | None = None, category: str | None = None, after: str = "", limit: int = 20
) -> list[Item]:
    """Items that have all words and are of the category, in the order of their ids; ``after`` goes on.

    Without ``words`` all items are listed. A question without a letter or digit finds nothing.
    """
    query = select(items).where(~items.c.removed).order_by(items.c.item_id).limit(limit)
    category = None if category is None else normalize("NFC", category)  # as ``schema.Item`` spells it
    with engine.connect() as connection:
        if words is not None:
            asked = sorted(words_in(words), key=len, reverse=True)[:MOST_WORDS]
            if not asked:
                return []
            ids = _matching(connection, asked, category, after, limit)
            query = query.where(items.c.item_id.in_(ids))
        else:
            query = query.where(items.c.item_id > after)
            if category is not None:
                query = query.where(items.c.category == category)
        return [item_of(row) for row in connection.execute(query).mappings()]


def categories(engine: Engine, limit: int = 60) -> list[str]:
    """The first categories in their order; each costs one look at an index, however many items there are."""
    least = select(func.min(items.c.category).label("name")).cte("found", recursive=True)
    here = least.alias()
    further = select(func.min(items.c.category)).where(items.c.category > here.c.name).scalar_subquery()
    found = least.union_all(select(further).where(here.c.name.is_not(None)))
    with engine.connect() as connection:
        query = select(found.c.name).where(found.c.name.is_not(None)).limit(limit)
        return list(connection.execute(query).scalars())


def _matching(
    connection: Connection, asked: list[str], category: str | None, after: str, limit: int
) -> Sequence[str]:
    """Ids of the next items that match.

    All that have the rarest word are looked up, and the others in them. Where even that one is common, enough
    may be found by going through the next items in their order, which takes a few milliseconds at most.
    """
    counts = {word: _count(connection, word) for word in asked}
    rarest, *others = sorted(asked, key=lambda word: (counts[word], -len(word)))
    if counts[rarest] == COMMON:
        next_ones = select(items.c.item_id).where(items.c.item_id > after).order_by(items.c.item_id)
        window = next_ones.limit(COMMON).cte().prefix_with("MATERIALIZED").c.item_id
        found = connection.execute(_having(window, asked, category, after, limit)).scalars().all()
        if len(found) == limit:
            return found
    has = select(item_words.c.item_id).where(_begins(item_words.c.word, rarest))
    ids = has.cte().prefix_with("MATERIALIZED").c.item_id  # else SQLite goes through every item
    return connection.execute(_having(ids, others, category, after, limit)).scalars().all()


def _having(
    ids: ColumnElement[str], words: list[str], category: str | None, after: str, limit: int
) -> Select[str]:
    """Of these ids those that have all words, the first in their order."""
    query = select(ids).where(ids > after).distinct().order_by(ids).limit(limit)
    for word in words:
        other = item_words.alias()
        query = query.where(exists().where(other.c.item_id == ids, _begins(other.c.word, word)))
    if category is not None:
        query = query.where(exists().where(items.c.item_id == ids, items.c.category == category))
    return query


def _count(connection: Connection, word: str) -> int:
    """How many items have the word, ``COMMON`` at most."""
    some = select(item_words.c.item_id).where(_begins(item_words.c.word, word)).limit(COMMON)
    return connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()


def _begins(column: ColumnElement[str], word: str) -> ColumnElement[bool]:
    return (column >= word) & (column < after_all(word))
