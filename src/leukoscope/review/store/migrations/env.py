"""Alembic's entry: it migrates the connection that the store hands it, inside the store's transaction."""

from alembic import context

from leukoscope.review.store.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
