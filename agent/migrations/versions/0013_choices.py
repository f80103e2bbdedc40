"""Fields of a client for what is chosen once for all its people: licences that stay, and the group that is kept out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from agent.field_views import rebuild_views

revision = "0013_choices"
down_revision = "0012_recipients"
branch_labels = None
depends_on = None

#: Name, place in the section, explanation, GUID (never changes).
FIELDS = (
    ("licenses_to_keep", 172, "Licences that stay when the others are taken, by part number, with semicolons",
     "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c39"),
    ("conditional_access_block_group", 245, "Object id of a group that Conditional Access keeps out; leavers are added",
     "0f6d3b52-6f0b-4c0e-9f55-6d8f5a2f7c3a"),
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
