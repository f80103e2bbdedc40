"""Offboardings of people, templates of their options, manual tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_contacts"
down_revision = "0001_records"
branch_labels = None
depends_on = None

#: An aware UTC time, as `agent.model.base.UTCDateTime` stores it.
MOMENT = sa.String(26).with_variant(sa.DateTime(timezone=True), "postgresql")

PENDING = sa.text("run_id is null and removed_at is null")


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    op.create_table(
        "contact_offboarding",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("contact_id", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.Integer(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("template", sa.String(), nullable=True),
        sa.Column("scheduled_for", MOMENT, nullable=True),
        sa.Column("termination_date", sa.String(), nullable=True),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.Column("reference", sa.String(), nullable=True),
        sa.Column("removed_at", MOMENT, nullable=True),
        sa.Column("removed_by", sa.String(), nullable=True),
        sa.Column("plan_id", sa.String(), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("security_plan_id", sa.String(), nullable=True),
        sa.Column("resolved", sa.JSON(), nullable=True),
        sa.Column("closed_at", MOMENT, nullable=True),
        sa.Column("retention_until", MOMENT, nullable=True),
        sa.Column("delete_after_retention", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", MOMENT, nullable=True),
        sa.Column("forwarding_until", MOMENT, nullable=True),
        sa.Column("forwarding_ended_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("contact_offboarding", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_contact_offboarding_client_id"), ["client_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_contact_offboarding_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_contact_offboarding_run_id"), ["run_id"], unique=False)
        batch_op.create_index(
            "one_planned_offboarding",
            ["contact_id"],
            unique=True,
            sqlite_where=PENDING,
            postgresql_where=PENDING,
        )

    op.create_table(
        "manual_task",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.Integer(), nullable=False),
        sa.Column("contact_id", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("origin", sa.String(), nullable=True),
        sa.Column("matter", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("due", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("blocks_deletion", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("closed_at", MOMENT, nullable=True),
        sa.Column("closed_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("origin"),
    )
    with op.batch_alter_table("manual_task", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_manual_task_client_id"), ["client_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_manual_task_contact_id"), ["contact_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_manual_task_run_id"), ["run_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_manual_task_state"), ["state"], unique=False)

    op.create_table(
        "offboarding_template",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("changed_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "offboarding_template_use",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("template", sa.String(), nullable=False),
        sa.Column("assigned_at", MOMENT, nullable=False),
        sa.Column("assigned_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template"],
            ["offboarding_template.name"],
        ),
        sa.PrimaryKeyConstraint("kind", "key"),
    )
    with op.batch_alter_table("offboarding_template_use", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_offboarding_template_use_template"), ["template"], unique=False)
