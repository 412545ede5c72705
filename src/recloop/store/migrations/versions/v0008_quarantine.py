"""What is refused again is counted, and what its sender was found to be is kept with it."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
AT_ONCE = 500


def upgrade() -> None:
    """Of rows that are held more than once the first gets the digest; the others stay as they are."""

    def name(length: int) -> sa.String:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    op.add_column("quarantine", sa.Column("traffic", name(16)))
    op.add_column("quarantine", sa.Column("seen", sa.Integer, nullable=False, server_default="1"))
    op.add_column("quarantine", sa.Column("digest", name(32)))
    op.create_index("quarantine_by_digest", "quarantine", ["digest"], unique=True)
    names = ("id", "source", "kind", "failure", "body")
    table = sa.table("quarantine", *map(sa.column, (*names, "digest")))
    columns = [table.c[one] for one in names]
    change = table.update().where(table.c.id == sa.bindparam("number")).values(digest=sa.bindparam("found"))
    connection, last, known = op.get_bind(), 0, set()
    query = sa.select(*columns).order_by(table.c.id).limit(AT_ONCE)
    while rows := connection.execute(query.where(table.c.id > last)).all():
        fresh = []
        for row in rows:
            digest = _digest(row.source, row.kind, row.failure, "", row.body)
            if digest not in known:
                known.add(digest)
                fresh.append({"number": row.id, "found": digest})
        if fresh:
            connection.execute(change, fresh)
        last = rows[-1].id


def _digest(*said: str) -> str:
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:32]
