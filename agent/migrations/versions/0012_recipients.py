"""Fields of a client for who is told of an offboarding, beside the security team.

This stands here and not in `edf_schema.sql`, since workspaces of an older Exeunt get it too. Who defined such a field already
keeps it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agent.field_views import rebuild_views

revision = "0012_recipients"
down_revision = "0011_webhook_log"
branch_labels = None
depends_on = None

#: Name, place in the section, explanation, GUID (never changes).
FIELDS = (
    ("it_notification_recipients", 181, "Addresses of the IT team, with commas", "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c36"),
    ("hr_notification_recipients", 182, "Addresses of HR, with commas", "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c37"),
    ("payroll_notification_recipients", 183, "Addresses of the payroll, with commas", "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c38"),
)  # fmt: skip
_INSERT = """
INSERT INTO extrafield (form, name, sort, ftype, section, fill, ltguid, isdestructive)
SELECT 3, :name, :sort, 0, 'User offboarding', :fill, :guid, FALSE
WHERE NOT EXISTS (SELECT 1 FROM extrafield WHERE form = 3 AND LOWER(name) = :name)
"""


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    connection = op.get_bind()
    for name, sort, fill, guid in FIELDS:
        connection.execute(sa.text(_INSERT), {"name": name, "sort": sort, "fill": fill, "guid": guid})
    rebuild_views(connection)
