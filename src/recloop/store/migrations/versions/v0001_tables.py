"""The tables as they were when migrations began.

A store from before then has some of them, at oldest without ``rollouts.open``; it gets what it lacks.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

revision = "0001"
down_revision = None

metadata = MetaData()

facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
users = Table(
    "users",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("age", Integer),
    Column("sex", String(1)),
    Column("region", String(64)),
    Column("attributes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
persons = Table(
    "persons",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("field", String(32), primary_key=True),
    Column("key_id", String(32), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
consents = Table(
    "consents",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("purpose", String(32), nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
items = Table(
    "items",
    metadata,
    Column("item_id", String(64), primary_key=True),
    Column("title", Text, nullable=False),
    Column("category", String(64), nullable=False),
    Column("price", Float),
    Column("available", Boolean, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
impressions = Table(
    "impressions",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("request_id", String(64), nullable=False),
    Column("position", Integer, nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("item_id", String(64), nullable=False),
    Column("propensity", Float),
    Column("policy", String(64), nullable=False),
    Column("slot", String(16), nullable=False),
    Column("device", String(32), nullable=False),
    Column("partial", Boolean, nullable=False),
    Column("ts", BigInteger, nullable=False),
    UniqueConstraint("request_id", "position"),
)
events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("event_id", String(64), nullable=False, unique=True),
    Column("user_id", String(64), nullable=False),
    Column("item_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("value", Float, nullable=False),
    Column("request_id", String(64)),
    Column("ts", BigInteger, nullable=False),
    Index("events_by_user", "user_id", "ts"),
    Index("events_by_request", "request_id"),
)
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("source", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
routing = Table(
    "routing",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=True),
    Column("snapshot", Text, nullable=False),
    Column("who", String(64), nullable=False),
    Column("why", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("challenger", String(64), nullable=False),
    Column("champion", String(64)),
    Column("state", String(16), nullable=False),
    Column("open", Boolean, unique=True),
    Column("ts", BigInteger, nullable=False),
)
transitions = Table(
    "transitions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("rollout_id", Integer, nullable=False, index=True),
    Column("source", String(16), nullable=False),
    Column("target", String(16), nullable=False),
    Column("who", String(64), nullable=False),
    Column("why", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("token", Integer, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
)
alerts = Table(
    "alerts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False, index=True),
    Column("severity", String(16), nullable=False),
    Column("summary", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
experiments = Table(
    "experiments",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("layer", String(64), nullable=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("salt", String(128), nullable=False),
    Column("arms", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("design", Text, nullable=False),
    Column("looks", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("who", String(64), nullable=False),
    Column("why", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("ended", BigInteger),
)
claims = Table(
    "claims",
    metadata,
    Column("layer", String(64), primary_key=True),
    Column("bucket", Integer, primary_key=True),
    Column("experiment", String(64), nullable=False, index=True),
)
exposures = Table(
    "exposures",
    metadata,
    Column("experiment", String(64), primary_key=True),
    Column("user_id", String(64), primary_key=True),
    Column("arm", String(64), nullable=False),
    Column("ts", BigInteger, nullable=False),
)


def upgrade() -> None:
    """Make what is missing."""
    metadata.create_all(op.get_bind())
    if "open" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("rollouts")}:
        with op.batch_alter_table("rollouts") as batch:
            batch.add_column(sa.Column("open", Boolean))
            batch.create_unique_constraint("rollouts_open_key", ["open"])
        open_states = ("pending", "canary", "paused")
        rollouts = metadata.tables["rollouts"]
        op.execute(rollouts.update().where(rollouts.c.state.in_(open_states)).values(open=True))
