"""Alembic's entry: runs on the connection that `store.schema` hands in, inside its transaction."""

from alembic import context

from gsd_tasks.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
