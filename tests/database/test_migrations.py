"""The migrations lead to exactly the tables that the classes describe, on both databases."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SAWarning
from sqlmodel import SQLModel

from agent.database import Database
from agent.errors import StoreError
from agent.installation import Installation
from agent.migrations.records import record_tables
from agent.migrations.runner import configuration
from agent.settings import Settings


def is_record(item: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
    return (item if kind == "table" else item.table).name in record_tables()


def differences(installation: Installation) -> list[Any]:
    with installation.database.engine.begin() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)
        options = {"include_object": is_record, "compare_type": True, "render_as_batch": True}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, SQLModel.metadata))


def test_the_newest_revision_is_what_the_classes_say(any_installation: Installation) -> None:
    """If this fails, a class in agent/model changed: `python -m agent.migrations.generate` writes the migration."""
    assert differences(any_installation) == []


def test_a_difference_would_be_seen(any_installation: Installation) -> None:
    with any_installation.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE ticket_comment ADD COLUMN more INTEGER")
        connection.exec_driver_sql("DROP INDEX ix_ticket_client_id")
    assert len(differences(any_installation)) == 2


def test_the_revisions_form_one_line() -> None:
    script = ScriptDirectory.from_config(configuration())
    assert len(script.get_heads()) == 1
    assert script.get_base() == "0001_records"


def test_a_database_knows_whether_it_is_current(any_installation: Installation) -> None:
    database = any_installation.database
    assert database.is_current()
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999_newer'")
    assert not database.is_current()
    with pytest.raises(StoreError, match="newer Exeunt"):
        database.initialise()


def test_an_empty_database_is_not_current(settings: Settings) -> None:
    database = Database(settings)
    assert not database.is_current()
    database.close()


def test_two_processes_may_initialise_at_once(settings: Settings) -> None:
    program = (
        "import sys; from pathlib import Path; from agent.database import Database; from agent.settings import Settings\n"
        "Database(Settings(workspace=Path(sys.argv[1]))).initialise()"
    )
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(settings.workspace)], cwd=root, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    database = Database(settings)
    assert database.is_current()
    database.close()


def test_who_is_told_can_be_set_for_a_client_and_an_own_field_of_that_name_is_kept(
    any_installation: Installation,
) -> None:
    def told() -> dict[str, str]:
        with any_installation.database.engine.connect() as connection:
            connection.exec_driver_sql("SELECT hr_notification_recipients FROM v_extradataclients")
            rows = connection.exec_driver_sql("SELECT name, section FROM extrafield WHERE form = 3")
            return {row[0]: row[1] for row in rows if row[0].endswith("_notification_recipients")}

    kinds = [f"{kind}_notification_recipients" for kind in ("hr", "it", "payroll", "security")]
    assert told() == dict.fromkeys(kinds, "User offboarding")
    with any_installation.database.engine.begin() as connection:
        # As in a workspace of an older Exeunt, whose owner defined one of them.
        connection.exec_driver_sql("DELETE FROM extrafield WHERE name = 'hr_notification_recipients'")
        connection.exec_driver_sql("UPDATE extrafield SET section = 'Mine' WHERE name = 'it_notification_recipients'")
        with Operations.context(MigrationContext.configure(connection)):
            import_module("agent.migrations.versions.0012_recipients").upgrade()
    assert told() == {**dict.fromkeys(kinds, "User offboarding"), "it_notification_recipients": "Mine"}
