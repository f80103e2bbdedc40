"""Fields of a client for how its people give things back: who collects them, until when, and who is reminded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agent.field_views import rebuild_views

revision = "0016_asset_returns"
down_revision = "0015_runs_by_state"
branch_labels = None
depends_on = None

#: Name, place in the section, type, explanation, GUID (never changes).
FIELDS = (
    ("asset_return_owner", 191, 0, "Who collects badge, keys and parking permit; empty: Facilities",
     "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c3c"),
    ("asset_return_days", 192, 4, "Days after the last working day by which everything must be back",
     "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c3d"),
    ("asset_reminder_recipients", 193, 0, "Who is reminded of what is not back, beside the manager; with commas",
     "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c3e"),
)  # fmt: skip
_INSERT = """
INSERT INTO extrafield (form, name, sort, ftype, section, fill, ltguid, isdestructive)
SELECT 3, :name, :sort, :type, 'User offboarding', :fill, :guid, FALSE
WHERE NOT EXISTS (SELECT 1 FROM extrafield WHERE form = 3 AND LOWER(name) = :name)
"""


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    connection = op.get_bind()
    for name, sort, kind, fill, guid in FIELDS:
        values = {"name": name, "sort": sort, "type": kind, "fill": fill, "guid": guid}
        connection.execute(sa.text(_INSERT), values)
    rebuild_views(connection)
