"""Where a checkbox counts as set, and which computers an offboarding flag reaches: one rule for all monitors.

`v_extradataset (form, name, id)`: each place at which a field is set: its own value, else the default row's, is not '0'.
`v_offboardlevels (computerid, level)`: each level (client, location, computer) whose offboarding flag reaches a computer.
Both start from the few values that are set (index `extrafielddata_set`), so that the size of the fleet does not matter.
They stand here and not in `edf_schema.sql`, since workspaces of an older Exeunt get them too.
"""

from __future__ import annotations

from alembic import op

revision = "0017_flag_views"
down_revision = "0016_asset_returns"
branch_labels = None
depends_on = None

#: Level -> its word.
LEVELS = {1: "computer", 2: "location", 3: "client", 4: "contact"}

OWN = "SELECT {columns} FROM extrafield AS f JOIN extrafielddata AS d ON d.extrafieldid = f.id AND d.value <> '0' AND d.id > 0"
# A cross join keeps SQLite from reading all places before it has seen whether the default row is set at all.
BY_DEFAULT = """SELECT {columns} FROM extrafield AS f CROSS JOIN extrafielddata AS d CROSS JOIN {table} AS p
    WHERE d.extrafieldid = f.id AND d.id = 0 AND d.value <> '0' AND f.form = {form}
    AND NOT EXISTS (SELECT 1 FROM extrafielddata AS own WHERE own.extrafieldid = f.id AND own.id = p.{word}id)"""


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    arms = [OWN.format(columns="f.form, f.name, d.id")]
    for form, word in LEVELS.items():
        arms.append(BY_DEFAULT.format(columns=f"f.form, f.name, p.{word}id", table=f"{word}s", form=form, word=word))
    _create("v_extradataset", arms)
    # Not made from the other view: joined with all computers, a planner would read them all for default rows that are not set.
    arms = []
    for form, word in LEVELS.items():
        if word != "contact":
            columns, flag = (
                f"p.computerid, '{word}' AS level",
                f"f.form = {form} AND f.name = 'Offboard {word.title()}'",
            )
            arms.append(f"{OWN.format(columns=columns)} JOIN computers AS p ON p.{word}id = d.id WHERE {flag}")
            by_default = BY_DEFAULT.format(columns=columns, table="computers", form=form, word=word)
            arms.append(f"{by_default} AND {flag}")
    _create("v_offboardlevels", arms)


def _create(view: str, arms: list[str]) -> None:
    op.execute(f"CREATE VIEW {view} AS\n" + "\nUNION ALL\n".join(arms))
