"""A row for each gateway: its beat, and what it counts for a rollout's gates."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Gateways that are running write their row when they start with this version."""

    def name(length: int) -> sa.String:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    op.create_table(
        "gateways",
        sa.Column("id", name(64), primary_key=True),
        sa.Column("name", name(128), nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
    )
