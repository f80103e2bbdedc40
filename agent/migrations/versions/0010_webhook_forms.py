"""Webhooks that write to a channel."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010_webhook_forms"
down_revision = "0009_finished_runs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    with op.batch_alter_table("webhook_target", schema=None) as batch_op:
        batch_op.add_column(sa.Column("form", sa.String(), server_default="exeunt", nullable=False))
