"""indexes for what webhooks tell of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009_finished_runs"
down_revision = "0008_directory"
branch_labels = None
depends_on = None

#: An aware UTC time, as `agent.model.base.UTCDateTime` stores it.
MOMENT = sa.String(26).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    with op.batch_alter_table("plan", schema=None) as batch_op:
        batch_op.create_index("plans_by_time", ["created_at"], unique=False)

    with op.batch_alter_table("script_run", schema=None) as batch_op:
        batch_op.create_index(
            "finished_root_runs",
            ["finished_at"],
            unique=False,
            sqlite_where=sa.text("parent_id is null"),
            postgresql_where=sa.text("parent_id is null"),
        )
