"""Find the runs of a target without reading the whole history."""

from __future__ import annotations

from alembic import op

revision = "0003_runs_of_a_target"
down_revision = "0002_contacts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    op.create_index("runs_of_a_target", "script_run", ["target_kind", "target_id"])
