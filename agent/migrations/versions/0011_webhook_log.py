"""The log of webhooks is read in its order."""

from __future__ import annotations

from alembic import op

revision = "0011_webhook_log"
down_revision = "0010_webhook_forms"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    with op.batch_alter_table("webhook_delivery", schema=None) as batch_op:
        batch_op.create_index("log_of_webhook_target", ["target_id", "created_at", "id"], unique=False)
        batch_op.create_index("log_of_webhooks", ["created_at", "id"], unique=False)
