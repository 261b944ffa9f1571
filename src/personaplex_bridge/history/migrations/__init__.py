"""Alembic's migrations: every version of the tables, from the first.

`database.migrate` runs them.
"""
