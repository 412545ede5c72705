"""Items by category and by text: all words must be there, each may go on (``store.words``)."""

from sqlalchemy import ColumnElement, Connection, Engine, Select, exists, func, select

from recloop.schema import Item
from recloop.store.catalogue import item_of
from recloop.store.tables import item_words, items
from recloop.store.words import after_all, words_in

MOST_WORDS = 8  # of one question; the longest are taken
COUNTED = 10_000  # a word that more items have is common


def search_items(
    engine: Engine, words: str | None = None, category: str | None = None, after: str = "", limit: int = 20
) -> list[Item]:
    """Items that have all words and are of the category, in the order of their ids; ``after`` goes on.

    Without ``words`` all items are listed. A question without a letter or digit finds nothing.
    """
    query = select(items).where(~items.c.removed).order_by(items.c.item_id).limit(limit)
    with engine.connect() as connection:
        if words is not None:
            asked = sorted(words_in(words), key=len, reverse=True)[:MOST_WORDS]
            if not asked:
                return []
            ids = connection.execute(_matching(connection, asked, category, after, limit)).scalars()
            query = query.where(items.c.item_id.in_(list(ids)))
        else:
            query = query.where(items.c.item_id > after)
            if category is not None:
                query = query.where(items.c.category == category)
        return [item_of(row) for row in connection.execute(query).mappings()]


def _matching(
    connection: Connection, asked: list[str], category: str | None, after: str, limit: int
) -> Select:
    """Ids of the next items that match.

    The rarest word is looked up, and the others in what has it. Where there is but one, and it is common, the
    items are gone through in their order until enough have it.
    """
    counts = {word: _count(connection, word) for word in asked}
    rarest, *others = sorted(asked, key=lambda word: (counts[word], -len(word)))
    query = (
        select(item_words.c.item_id)
        .where(_begins(item_words.c.word, rarest), item_words.c.item_id > after)
        .distinct()
        .order_by(item_words.c.item_id)
        .limit(limit)
    )
    in_order = not others and category is None and counts[rarest] >= COUNTED
    query = query.with_hint(item_words, "NOT INDEXED" if in_order else "INDEXED BY items_by_word", "sqlite")
    for word in others:
        other = item_words.alias()
        query = query.where(
            exists().where(other.c.item_id == item_words.c.item_id, _begins(other.c.word, word))
        )
    if category is not None:
        query = query.where(
            exists().where(items.c.item_id == item_words.c.item_id, items.c.category == category)
        )
    return query


def _count(connection: Connection, word: str) -> int:
    """How many items have the word, ``COUNTED`` at most."""
    some = select(item_words.c.item_id).where(_begins(item_words.c.word, word)).limit(COUNTED)
    some = some.with_hint(item_words, "INDEXED BY items_by_word", "sqlite")
    return connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()


def _begins(column: ColumnElement[str], word: str) -> ColumnElement[bool]:
    return (column >= word) & (column < after_all(word))
