"""Run by Alembic: within the transaction, and with the lock, of ``recloop.store.versions.upgrade``."""

from alembic import context

from recloop.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a column by making the table anew
)
with context.begin_transaction():
    context.run_migrations()
