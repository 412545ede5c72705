"""Consents know the version of their terms; accesses to personal data and erasures have tables."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """What was said before there were versions was said to the first."""

    def name(length: int) -> sa.String:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("consents", sa.Column("version", sa.Integer, nullable=False, server_default="1"))
    op.create_table(
        "accesses",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("who", name(64), nullable=False),
        sa.Column("what", name(32), nullable=False),
        sa.Column("user_id", name(64), nullable=False, index=True),
        sa.Column("ts", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "erasures",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("receipt", name(32), nullable=False, unique=True),
        sa.Column("user_id", name(64)),
        sa.Column("counts", sa.Text, nullable=False),
        sa.Column("begun", sa.BigInteger, nullable=False),
        sa.Column("done", sa.BigInteger),
    )
