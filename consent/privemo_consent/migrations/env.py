"""Run the migrations on the connection that `storage.upgrade` holds: one transaction, one lock."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
