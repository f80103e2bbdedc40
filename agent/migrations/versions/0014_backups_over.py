"""How long backups of people are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agent.field_views import rebuild_views

revision = "0014_backups_over"
down_revision = "0013_choices"
branch_labels = None
depends_on = None

#: An aware UTC time, as `agent.model.base.UTCDateTime` stores it.
MOMENT = sa.String(26).with_variant(sa.DateTime(timezone=True), "postgresql")
_INSERT = """
INSERT INTO extrafield (form, name, sort, ftype, section, fill, ltguid, isdestructive)
SELECT 3, 'backup_retention_days', 211, 4, 'User offboarding',
    'Days after the deletion of the accounts until the backups are deleted; empty: they are kept',
    '0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c3b', FALSE
WHERE NOT EXISTS (SELECT 1 FROM extrafield WHERE form = 3 AND LOWER(name) = 'backup_retention_days')
"""


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    with op.batch_alter_table("contact_offboarding", schema=None) as batch_op:
        batch_op.add_column(sa.Column("data_until", MOMENT, nullable=True))
        batch_op.add_column(sa.Column("data_deleted_at", MOMENT, nullable=True))
    connection = op.get_bind()
    connection.execute(sa.text(_INSERT))
    rebuild_views(connection)
