"""Items get text, a picture's reference, versions and words. What is there holds from when it was created."""

import json

import sqlalchemy as sa
from alembic import op

from recloop.store.words import words_in

revision = "0006"
down_revision = "0005"
AT_ONCE = 5000
KEPT = "item_id, title, category, price, available, attributes, created_at, text, image, removed"


def upgrade() -> None:
    """Each item's present state is its first version."""

    def name(length: int) -> sa.String:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    op.add_column("items", sa.Column("text", sa.Text))
    op.add_column("items", sa.Column("image", sa.Text))
    op.add_column("items", sa.Column("removed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("items_by_category", "items", ["category", "item_id"])
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "item_versions",
        sa.Column("seq", number, primary_key=True, autoincrement=True),
        sa.Column("item_id", name(64), nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("category", name(64), nullable=False),
        sa.Column("price", sa.Float),
        sa.Column("available", sa.Boolean, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("image", sa.Text),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.UniqueConstraint("item_id", "ts"),
    )
    words = op.create_table(
        "item_words",
        sa.Column("item_id", name(64), primary_key=True),
        sa.Column("word", name(64), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("items_by_word", "item_words", ["word", "item_id"])
    op.execute(
        f"INSERT INTO item_versions ({KEPT}, ts) SELECT {KEPT}, created_at FROM items ORDER BY item_id"
    )
    connection, last = op.get_bind(), ""
    rest = "FROM items WHERE item_id > :last ORDER BY item_id LIMIT :n"
    query = sa.text(f"SELECT item_id, title, category, attributes {rest}")
    while rows := connection.execute(query, {"last": last, "n": AT_ONCE}).all():
        found = [
            {"item_id": row.item_id, "word": word}
            for row in rows
            for word in words_in(f"{row.title} {row.category} {_spoken(row.attributes)}")
        ]
        if found:
            connection.execute(words.insert(), found)
        last = rows[-1].item_id


def _spoken(attributes: str) -> str:
    return " ".join(value for value in json.loads(attributes).values() if isinstance(value, str))
