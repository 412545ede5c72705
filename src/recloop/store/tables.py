"""The store's tables. Times are BIGINT microseconds since 1970, UTC; JSON objects are TEXT."""

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

metadata = MetaData()

facts = Table(
    "facts",  # one line each: schema version, source of the data, market fingerprint
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
    "persons",  # personal data, sealed per person and field
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
    "quarantine",  # what was refused at the door, as it came
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("source", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
routing = Table(
    "routing",  # append-only; the newest row is what every gateway follows
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
    Column("open", Boolean, unique=True),  # true until it has ended, then NULL: one is open at most
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
    "leases",  # who controls; the token grows with every taking, the beat with every renewal
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(128), nullable=False),  # empty: given back
    Column("token", Integer, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("term", BigInteger, nullable=False),  # µs
    Column("expires", BigInteger, nullable=False),
)
alerts = Table(
    "alerts",  # append-only: what was sent, so that the same is not sent again at once
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
    Column("first", Integer, nullable=False),  # buckets of the layer, first <= bucket < last
    Column("last", Integer, nullable=False),
    Column("salt", String(128), nullable=False),
    Column("arms", Text, nullable=False),  # name: share; the first is the control
    Column("metrics", Text, nullable=False),  # primary, guardrails, others
    Column("design", Text, nullable=False),  # planned people, looks, alpha, power
    Column("looks", Text, nullable=False),  # when the primary metric was tested, in order
    Column("state", String(16), nullable=False),
    Column("who", String(64), nullable=False),
    Column("why", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("ended", BigInteger),
)
claims = Table(
    "claims",  # buckets of running experiments: the key refuses an overlap, also to whoever is a moment late
    metadata,
    Column("layer", String(64), primary_key=True),
    Column("bucket", Integer, primary_key=True),
    Column("experiment", String(64), nullable=False, index=True),
)
exposures = Table(
    "exposures",  # the first time that a person met an experiment
    metadata,
    Column("experiment", String(64), primary_key=True),
    Column("user_id", String(64), primary_key=True),
    Column("arm", String(64), nullable=False),
    Column("ts", BigInteger, nullable=False),
)
