"""What watching keeps: states of alerts, silences, counts of gateways by the minute, digests of the log."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """All of them begin empty."""

    def name(length: int) -> sa.String:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    op.create_table(
        "alert_states",
        sa.Column("name", name(192), primary_key=True),
        sa.Column("layer", name(16), nullable=False),
        sa.Column("severity", name(16), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("figures", sa.Text, nullable=False),
        sa.Column("hold", sa.Float, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("told", sa.BigInteger),
        sa.Column("muted", sa.Boolean, nullable=False),
        sa.Column("acked", sa.BigInteger),
        sa.Column("who", name(64)),
    )
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "silences",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("pattern", name(192), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("who", name(64), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "minutes",
        sa.Column("ts", sa.BigInteger, primary_key=True),
        sa.Column("gateway", name(64), primary_key=True),
        sa.Column("counts", sa.Text, nullable=False),
    )
    op.create_table(
        "digests",
        sa.Column("ts", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("counts", sa.Text, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("name", name(128), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
    )
    # alerts bear their labels in their names now
    with op.batch_alter_table("alerts") as alerts:
        alerts.alter_column("name", type_=name(192), existing_nullable=False)
