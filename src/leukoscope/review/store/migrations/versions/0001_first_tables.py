"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables; what people did (``actions``, ``events``) can be added to and never changed."""
    op.create_table(
        "login_attempts",
        sa.Column("id", COUNTED, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_attempts")),
    )
    op.create_index(op.f("ix_login_attempts_time"), "login_attempts", ["time"], unique=False)
    op.create_table(
        "reviewers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviewers")),
        sa.UniqueConstraint("name", name=op.f("uq_reviewers_name")),
    )
    op.create_table(
        "samples",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("n_cells", sa.Integer(), nullable=False),
        sa.Column("imported", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_samples")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_samples_fingerprint")),
    )
    op.create_table(
        "actions",
        sa.Column("id", COUNTED, nullable=False),
        sa.Column("sample_id", sa.Integer(), nullable=False),
        sa.Column("reviewer_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("undoes", COUNTED, nullable=True),
        sa.ForeignKeyConstraint(["reviewer_id"], ["reviewers.id"], name=op.f("fk_actions_reviewer_id")),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_actions_sample_id")),
        sa.ForeignKeyConstraint(["undoes"], ["actions.id"], name=op.f("fk_actions_undoes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_actions")),
        sa.UniqueConstraint("reviewer_id", "key", name=op.f("uq_actions_reviewer_id")),
        sa.UniqueConstraint("undoes", name=op.f("uq_actions_undoes")),
    )
    op.create_index("ix_actions_latest", "actions", ["sample_id", "reviewer_id", "id"], unique=False)
    op.create_index("ix_actions_of_sample", "actions", ["sample_id", "id"], unique=False)
    op.create_table(
        "cells",
        sa.Column("sample_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cell_id", sa.String(), nullable=False),
        sa.Column("gallery", sa.Integer(), nullable=False),
        sa.Column("predicted", sa.Integer(), nullable=False),
        sa.Column("doubt", sa.Double(), nullable=False),
        sa.Column("novelty", sa.Double(), nullable=True),
        sa.Column("set_aside", sa.String(), nullable=False),
        sa.Column("shuffled", sa.Integer(), nullable=False),
        sa.Column("opinions", sa.Integer(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=True),
        sa.Column("seen_by", COUNTED, nullable=True),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_cells_sample_id")),
        sa.PrimaryKeyConstraint("sample_id", "row", name=op.f("pk_cells")),
    )
    op.create_index("ix_cells_by_chance", "cells", ["sample_id", "gallery", "shuffled", "row"], unique=False)
    op.create_index("ix_cells_by_doubt", "cells", ["sample_id", "gallery", "doubt", "row"], unique=False)
    op.create_index("ix_cells_by_novelty", "cells", ["sample_id", "gallery", "novelty", "row"], unique=False)
    op.create_index("ix_cells_in_order", "cells", ["sample_id", "shuffled"], unique=False)
    op.create_index("ix_cells_seen", "cells", ["sample_id", "opinions", "shuffled"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("reviewer_id", sa.Integer(), nullable=False),
        sa.Column("csrf", sa.String(), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["reviewer_id"], ["reviewers.id"], name=op.f("fk_sessions_reviewer_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_sessions")),
    )
    op.create_table(
        "signatures",
        sa.Column("sample_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reviewer_id", sa.Integer(), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["reviewer_id"], ["reviewers.id"], name=op.f("fk_signatures_reviewer_id")),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_signatures_sample_id")),
        sa.PrimaryKeyConstraint("sample_id", name=op.f("pk_signatures")),
    )
    op.create_table(
        "events",
        sa.Column("id", COUNTED, nullable=False),
        sa.Column("action_id", COUNTED, nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("label_from", sa.Integer(), nullable=True),
        sa.Column("label_to", sa.Integer(), nullable=True),
        sa.Column("decision", sa.Boolean(), nullable=False),
        sa.Column("undoes", COUNTED, nullable=True),
        sa.ForeignKeyConstraint(["action_id"], ["actions.id"], name=op.f("fk_events_action_id")),
        sa.ForeignKeyConstraint(["undoes"], ["events.id"], name=op.f("fk_events_undoes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("action_id", "row", name=op.f("uq_events_action_id")),
    )
    op.create_index("ix_events_of_cell", "events", ["row", "action_id"], unique=False)
    op.create_table(
        "opinions",
        sa.Column("sample_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reviewer_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("decision", sa.Boolean(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=True),
        sa.Column("event_id", COUNTED, nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_opinions_event_id")),
        sa.ForeignKeyConstraint(["reviewer_id"], ["reviewers.id"], name=op.f("fk_opinions_reviewer_id")),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_opinions_sample_id")),
        sa.PrimaryKeyConstraint("sample_id", "row", "reviewer_id", "decision", name=op.f("pk_opinions")),
    )

    for table in ("actions", "events", "signatures"):
        _only_added_to(table)


def _only_added_to(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} are never changed'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} are never changed'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"EXECUTE FUNCTION {table}_refuse()"
    )
