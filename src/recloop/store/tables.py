"""The store's tables. Times are BIGINT microseconds since 1970, UTC; JSON objects are TEXT.

Whoever changes them adds a migration in ``migrations/versions``, and its number in ``versions.HEAD``.
"""

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
    false,
)

metadata = MetaData()
_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # only as INTEGER does SQLite count by itself


def _name(length: int) -> String:
    """Text that is sorted by its bytes on both."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


facts = Table(
    "facts",  # one line each: schema version, source of the data, market fingerprint
    metadata,
    Column("name", _name(64), primary_key=True),
    Column("value", Text, nullable=False),
)
users = Table(
    "users",
    metadata,
    Column("user_id", _name(64), primary_key=True),
    Column("age", Integer),
    Column("sex", _name(1)),
    Column("region", _name(64)),
    Column("attributes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
persons = Table(
    "persons",  # personal data, sealed per person and field; the keys are in the vault
    metadata,
    Column("user_id", _name(64), primary_key=True),
    Column("field", _name(32), primary_key=True),
    Column("key_id", _name(32), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
consents = Table(
    "consents",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("user_id", _name(64), nullable=False, index=True),
    Column("purpose", _name(32), nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),  # of the terms that the word is about
    Column("ts", BigInteger, nullable=False),
)
accesses = Table(
    "accesses",  # append-only: who looked at, changed or erased what is known of a person
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("who", _name(64), nullable=False),
    Column("what", _name(32), nullable=False),
    Column("user_id", _name(64), nullable=False, index=True),  # after an erasure, its receipt
    Column("ts", BigInteger, nullable=False),
)
erasures = Table(
    "erasures",  # receipts; the person stands there only until nothing of them is left
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("receipt", _name(32), nullable=False, unique=True),
    Column("user_id", _name(64)),
    Column("counts", Text, nullable=False),  # rows that went, by table
    Column("begun", BigInteger, nullable=False),
    Column("done", BigInteger),
)
items = Table(
    "items",
    metadata,
    Column("item_id", _name(64), primary_key=True),
    Column("title", Text, nullable=False),
    Column("category", _name(64), nullable=False),
    Column("price", Float),
    Column("available", Boolean, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("text", Text),
    Column("image", Text),
    Column("removed", Boolean, nullable=False, server_default=false()),  # the log still refers to it
    Index("items_by_category", "category", "item_id"),
)
item_versions = Table(
    "item_versions",  # append-only: what each item was from when on
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("item_id", _name(64), nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("title", Text, nullable=False),
    Column("category", _name(64), nullable=False),
    Column("price", Float),
    Column("available", Boolean, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("text", Text),
    Column("image", Text),
    Column("removed", Boolean, nullable=False),
    UniqueConstraint("item_id", "ts"),
)
item_words = Table(
    "item_words",  # for the search: the words of what is not removed
    metadata,
    Column("item_id", _name(64), primary_key=True),
    Column("word", _name(64), primary_key=True),
    Index("items_by_word", "word", "item_id"),
    sqlite_with_rowid=False,
)
impressions = Table(
    "impressions",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("request_id", _name(64), nullable=False),
    Column("position", Integer, nullable=False),
    Column("user_id", _name(64), nullable=False),
    Column("item_id", _name(64), nullable=False),
    Column("propensity", Float),
    Column("policy", _name(64), nullable=False),
    Column("slot", _name(16), nullable=False),
    Column("device", _name(32), nullable=False),
    Column("partial", Boolean, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("traffic", _name(16)),  # bot or internal: nothing learns from it
    UniqueConstraint("request_id", "position"),
)
events = Table(
    "events",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("event_id", _name(64), nullable=False, unique=True),
    Column("user_id", _name(64), nullable=False),
    Column("item_id", _name(64), nullable=False),
    Column("kind", _name(16), nullable=False),
    Column("value", Float, nullable=False),
    Column("request_id", _name(64)),
    Column("ts", BigInteger, nullable=False),
    Column("received", BigInteger),  # when it came; NULL where nobody noted it
    Column("skew", BigInteger),  # µs that were added to the sender's ts
    Column("traffic", _name(16)),  # bot or internal: nothing learns from it
    Column("extra", Text),  # fields of a later schema version, a JSON object
    Index("events_by_user", "user_id", "ts"),
    Index("events_by_request", "request_id"),
)
quarantine = Table(
    "quarantine",  # what was refused at the door, as it came; what comes again is counted
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("source", _name(64), nullable=False),
    Column("kind", _name(16), nullable=False),
    Column("failure", _name(16), nullable=False),  # one of schema.Failure
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("replayed", BigInteger),  # when it was let in after all
    Column("repaired", Text),  # as what, where that is not the body as it came
    Column("traffic", _name(16)),  # bot or internal: what its sender was found to be
    Column("seen", Integer, nullable=False, server_default="1"),  # how often it came
    Column("digest", _name(32)),  # of what makes two rows the same; NULL: an older one of several that are
    Index("quarantine_by_failure", "failure", "id"),
    Index("quarantine_by_digest", "digest", unique=True),
)
cursors = Table(
    "cursors",  # how far a source that goes on has been read; written with the rows up to there
    metadata,
    Column("name", _name(128), primary_key=True),
    Column("place", Text, nullable=False),  # a JSON object
    Column("ts", BigInteger, nullable=False),
)
routing = Table(
    "routing",  # append-only; the newest row is what every gateway follows
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=True),
    Column("snapshot", Text, nullable=False),
    Column("who", _name(64), nullable=False),
    Column("why", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("challenger", _name(64), nullable=False),
    Column("champion", _name(64)),
    Column("state", _name(16), nullable=False),
    Column("open", Boolean, unique=True),  # true until it has ended, then NULL: one is open at most
    Column("ts", BigInteger, nullable=False),
)
transitions = Table(
    "transitions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("rollout_id", Integer, nullable=False, index=True),
    Column("source", _name(16), nullable=False),
    Column("target", _name(16), nullable=False),
    Column("who", _name(64), nullable=False),
    Column("why", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
leases = Table(
    "leases",  # who controls; the token grows with every taking, the beat with every renewal
    metadata,
    Column("name", _name(64), primary_key=True),
    Column("holder", _name(128), nullable=False),  # empty: given back
    Column("token", Integer, nullable=False),
    Column("beat", Integer, nullable=False),
    Column("term", BigInteger, nullable=False),  # µs
    Column("expires", BigInteger, nullable=False),
)
gateways = Table(
    "gateways",  # one row per gateway process, which it writes again with every beat
    metadata,
    Column("id", _name(64), primary_key=True),
    Column("name", _name(128), nullable=False),  # host and process, for people
    Column("started", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("ended", Boolean, nullable=False),  # it said that it stops
    Column("counts", Text, nullable=False),  # for the gates: by step of a rollout and name
)
alerts = Table(
    "alerts",  # append-only: what was sent, so that the same is not sent again at once
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", _name(192), nullable=False, index=True),
    Column("severity", _name(16), nullable=False),
    Column("summary", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
alert_states = Table(
    "alert_states",  # what the rules find now; a row goes when its alert does
    metadata,
    Column("name", _name(192), primary_key=True),  # of the rule, with the labels
    Column("layer", _name(16), nullable=False),
    Column("severity", _name(16), nullable=False),
    Column("summary", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Column("hold", Float, nullable=False),  # seconds that it must last
    Column("since", BigInteger, nullable=False),  # found first
    Column("told", BigInteger),  # sent last; NULL: not yet
    Column("muted", Boolean, nullable=False),  # what causes it was there when it came
    Column("acked", BigInteger),  # a person has it in hand: it is not sent again
    Column("who", _name(64)),
)
silences = Table(
    "silences",
    metadata,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("pattern", _name(192), nullable=False),  # of alerts' names, with * and ?
    Column("until", BigInteger, nullable=False),
    Column("who", _name(64), nullable=False),
    Column("why", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
minutes = Table(
    "minutes",  # what each gateway process counted, by when it was written
    metadata,
    Column("ts", BigInteger, primary_key=True),
    Column("gateway", _name(64), primary_key=True),
    Column("counts", Text, nullable=False),  # how much each series has grown: its name and labels
)
digests = Table(
    "digests",  # what the log of ten minutes has of each feature; nobody can be found in it
    metadata,
    Column("ts", BigInteger, primary_key=True, autoincrement=False),
    Column("first", BigInteger, nullable=False),  # seq of its first impression
    Column("counts", Text, nullable=False),
)
notes = Table(
    "notes",  # what watching remembers: runs of flows, what a user model expects
    metadata,
    Column("name", _name(128), primary_key=True),
    Column("body", Text, nullable=False),  # a JSON object
    Column("ts", BigInteger, nullable=False),
)
experiments = Table(
    "experiments",
    metadata,
    Column("name", _name(64), primary_key=True),
    Column("layer", _name(64), nullable=False),
    Column("first", Integer, nullable=False),  # buckets of the layer, first <= bucket < last
    Column("last", Integer, nullable=False),
    Column("salt", _name(128), nullable=False),
    Column("arms", Text, nullable=False),  # name: share; the first is the control
    Column("metrics", Text, nullable=False),  # primary, guardrails, others
    Column("design", Text, nullable=False),  # planned people, looks, alpha, power
    Column("looks", Text, nullable=False),  # when the primary metric was tested, in order
    Column("state", _name(16), nullable=False),
    Column("who", _name(64), nullable=False),
    Column("why", Text, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("ended", BigInteger),
)
claims = Table(
    "claims",  # buckets of running experiments: the key refuses an overlap, also to whoever is a moment late
    metadata,
    Column("layer", _name(64), primary_key=True),
    Column("bucket", Integer, primary_key=True),
    Column("experiment", _name(64), nullable=False, index=True),
)
exposures = Table(
    "exposures",  # the first time that a person met an experiment
    metadata,
    Column("experiment", _name(64), primary_key=True),
    Column("user_id", _name(64), primary_key=True),
    Column("arm", _name(64), nullable=False),
    Column("ts", BigInteger, nullable=False),
)
