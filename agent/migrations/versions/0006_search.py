"""Find places by the words of their names, ids, addresses and users; list them by name; find what is about one place.

SQLite: one FTS5 table for all places, kept by triggers, so that plain SQL keeps it too. `rowid` is the level (`Form`) times
10^12 plus the place's id. PostgreSQL: a text-search index per table, which needs no extension and no trigger.
This stands here and not in `edf_schema.sql`, since workspaces of an older Exeunt get it too.
"""

from __future__ import annotations

from alembic import op

revision = "0006_search"
down_revision = "0005_user_names"
branch_labels = None
depends_on = None

#: Table -> level, key, the columns that are searched.
SEARCHED = {
    "clients": (3, "clientid", ("name", "slug", "externalid")),
    "locations": (2, "locationid", ("name", "externalid")),
    "computers": (1, "computerid", ("name", "externalid", "username", "address", "domain")),
    "contacts": (
        4, "contactid",
        ("name", "firstname", "lastname", "email", "upn", "employeeid", "externalid", "CAST(externalids AS TEXT)"),
    ),
}  # fmt: skip


def upgrade() -> None:
    """Make the change. There is no way back but a backup: the audit trail is not taken apart."""
    for table in ("computers", "contacts"):
        key = SEARCHED[table][1]
        op.create_index(f"{table}_of_client_by_name", table, ["clientid", "name", key])
        op.create_index(f"{table}_of_location_by_name", table, ["locationid", "name", key])
    # All that a list of computers is filtered by, but for the last contact, which changes too often to be kept in it.
    op.execute("DROP INDEX IF EXISTS computers_name")
    filtered = ["name", "computerid", "platform", "isserver", "isprobe", "retiredat"]
    op.create_index("computers_by_name", "computers", filtered)
    op.create_index("locations_of_client_by_name", "locations", ["clientid", "name", "locationid"])
    op.create_index("audit_of_an_object", "audit_entry", ["object_kind", "object_id", "sequence"])
    op.create_index("ix_ticket_contact_id", "ticket", ["contact_id"])
    (_sqlite if op.get_bind().dialect.name == "sqlite" else _postgresql)()


def _sqlite() -> None:
    op.execute("CREATE VIRTUAL TABLE placewords USING fts5 (client, words, tokenize = 'unicode61 remove_diacritics 2')")
    for table, (form, key, columns) in SEARCHED.items():

        def row(of: str, columns: tuple[str, ...] = columns, form: int = form, key: str = key) -> str:
            words = " || ' ' || ".join(_of(of, column) for column in columns)
            return f"{form * 10**12} + {of}{key}, 'c' || {of}clientid, {words}"

        watched = ", ".join(c.removeprefix("CAST(").partition(" ")[0] for c in (key, "clientid", *columns))
        if table == "clients":
            watched = watched.removeprefix("clientid, ")
        store = f"INSERT OR REPLACE INTO placewords (rowid, client, words) VALUES ({row('NEW.')});"
        forget = f"DELETE FROM placewords WHERE rowid = {form * 10**12} + OLD.{key};"
        op.execute(f"INSERT INTO placewords (rowid, client, words) SELECT {row('')} FROM {table}")
        op.execute(f"CREATE TRIGGER {table}_words_insert AFTER INSERT ON {table} BEGIN {store} END")
        op.execute(
            f"CREATE TRIGGER {table}_words_update AFTER UPDATE OF {watched} ON {table} BEGIN {forget} {store} END"
        )
        op.execute(f"CREATE TRIGGER {table}_words_delete AFTER DELETE ON {table} BEGIN {forget} END")


def _postgresql() -> None:
    connection = op.get_bind()
    # Not as text of SQLAlchemy, which takes `:alnum` for a parameter.
    connection.exec_driver_sql(
        "CREATE FUNCTION exeunt_words(given text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $body$ "
        "SELECT to_tsvector('pg_catalog.simple', regexp_replace(given, '[^[:alnum:]]+', ' ', 'g')) $body$",
        execution_options={"no_parameters": True},
    )
    for table, (_, _, columns) in SEARCHED.items():
        words = " || ' ' || ".join(columns)
        op.execute(f"CREATE INDEX {table}_words ON {table} USING gin (exeunt_words({words}))")


def _of(prefix: str, column: str) -> str:
    return column.replace("CAST(", f"CAST({prefix}") if column.startswith("CAST(") else prefix + column
