"""Transcripts can be searched, by each database's own means."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The index keeps no second copy of the text (https://www.sqlite.org/fts5.html, 4.4.3), so it must
# be told the old one of a row that changes. Accents count, as in PostgreSQL's `simple`.
SQLITE = (
    """CREATE VIRTUAL TABLE search USING fts5(
        text, content='details', content_rowid='id', tokenize='unicode61 remove_diacritics 0')""",
    """CREATE TRIGGER details_added AFTER INSERT ON details BEGIN
        INSERT INTO search(rowid, text) VALUES (new.id, new.text); END""",
    """CREATE TRIGGER details_gone AFTER DELETE ON details BEGIN
        INSERT INTO search(search, rowid, text) VALUES ('delete', old.id, old.text); END""",
    """CREATE TRIGGER details_changed AFTER UPDATE OF text ON details
        WHEN old.text <> new.text BEGIN
        INSERT INTO search(search, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO search(rowid, text) VALUES (new.id, new.text); END""",
    "INSERT INTO search(search) VALUES ('rebuild')",
)

# Without fastupdate's list of what is yet to be sorted in, which each search would read through.
POSTGRESQL = (
    """ALTER TABLE details ADD COLUMN words tsvector
        GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED""",
    "CREATE INDEX details_by_words ON details USING gin (words) WITH (fastupdate = off)",
)


def upgrade() -> None:
    """From version 1."""
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """To version 1."""
    if op.get_bind().dialect.name == "sqlite":
        for trigger in ("details_added", "details_gone", "details_changed"):
            op.execute(f"DROP TRIGGER {trigger}")
        op.execute("DROP TABLE search")
    else:
        op.execute("ALTER TABLE details DROP COLUMN words")
