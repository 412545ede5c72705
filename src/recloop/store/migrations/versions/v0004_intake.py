"""What is noted of an event at the door, typed failures that can be replayed, and cursors of sources."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
FAILURES = {  # by what the reasons of the former version say; the others are of the schema
    "duplicate": "%repeats an earlier row",
    "reference": "%not among the % kept",
    "too-old": "ts: % days old%",
    "range": "%: no number from %",
}


def upgrade() -> None:
    """Rows that came before keep what they say; nobody noted when they came."""

    def name(length: int) -> sa.String:
        return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")

    op.add_column("impressions", sa.Column("traffic", name(16)))
    for column in ("received", "skew"):
        op.add_column("events", sa.Column(column, sa.BigInteger))
    op.add_column("events", sa.Column("traffic", name(16)))
    op.add_column("events", sa.Column("extra", sa.Text))
    op.add_column("quarantine", sa.Column("failure", name(16)))
    op.add_column("quarantine", sa.Column("replayed", sa.BigInteger))
    op.add_column("quarantine", sa.Column("repaired", sa.Text))
    quarantine = sa.table("quarantine", sa.column("failure"), sa.column("reason"))
    op.execute(quarantine.update().values(failure="schema"))
    for failure, pattern in FAILURES.items():
        op.execute(quarantine.update().where(quarantine.c.reason.like(pattern)).values(failure=failure))
    with op.batch_alter_table("quarantine") as batch:
        batch.alter_column("failure", existing_type=name(16), nullable=False)
        batch.create_index("quarantine_by_failure", ["failure", "id"])
    op.create_table(
        "cursors",
        sa.Column("name", name(128), primary_key=True),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
    )
