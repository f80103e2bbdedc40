"""For developers: `python -m agent.migrations.generate 0002_what_it_does "What it does"` writes the next migration.

It compares the classes of `agent.model` with a new database that has all migrations so far. Read what it wrote.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command

from agent.database import Database
from agent.migrations.runner import configuration
from agent.settings import Settings


def main(revision: str, message: str) -> None:
    """Write `versions/<revision>.py`."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Settings(workspace=Path(folder)))
        database.initialise()
        with database.engine.begin() as connection:
            config = configuration(connection)
            config.set_main_option("file_template", "%%(rev)s")
            command.revision(config, message, autogenerate=True, rev_id=revision)
        database.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
