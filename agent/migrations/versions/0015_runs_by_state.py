"""Count runs by state from an index."""

from __future__ import annotations

from alembic import op

revision = "0015_runs_by_state"
down_revision = "0014_backups_over"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    with op.batch_alter_table("script_run", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_script_run_parent_id"))
        batch_op.create_index("runs_by_parent_and_state", ["parent_id", "state"], unique=False)
