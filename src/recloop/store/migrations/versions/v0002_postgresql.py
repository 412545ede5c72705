"""PostgreSQL: numbers of the log beyond 2^31, and names in the order of their bytes, as SQLite has them.

With the server's own collation, the order of items and so a snapshot's bytes would hang on its locale, and an
index on the version of its C library.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
NUMBERS = {"impressions": "seq", "events": "seq", "consents": "id", "quarantine": "id"}


def upgrade() -> None:
    """SQLite has both already."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    for table, number in NUMBERS.items():
        op.alter_column(table, number, type_=sa.BigInteger())
        op.execute(f"ALTER SEQUENCE {table}_{number}_seq AS bigint")
    found = sa.inspect(connection)
    for table in set(found.get_table_names()) - {"alembic_version"}:
        for column in found.get_columns(table):
            if isinstance(column["type"], sa.VARCHAR):
                wanted = sa.String(column["type"].length, collation="C")
                op.alter_column(table, column["name"], type_=wanted)
