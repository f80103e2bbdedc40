"""Migrations of the records' tables by Alembic. The tables of `edf_schema.sql` are made by that file."""
