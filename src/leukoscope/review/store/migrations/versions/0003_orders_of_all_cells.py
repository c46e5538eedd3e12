"""All cells of a sample by doubt and by novelty."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the indexes by which a page of all cells is found."""
    for key in ("doubt", "novelty"):
        op.create_index(f"ix_cells_all_by_{key}", "cells", ["sample_id", key, "row"], unique=False)
