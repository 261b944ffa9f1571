"""The tables as they are now; `migrations` has how they came to be.

`calls` is narrow, so that whole tables of it are soon read; what is only looked at when a call is
opened is in `details`. What a transcript is searched by is the database's own: the FTS5 table
`search` in SQLite, the column `details.words` (a tsvector) in PostgreSQL.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class UtcTime(sa.TypeDecorator[datetime]):
    """A moment. SQLite keeps no time zone: there it is in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData()

calls = sa.Table(
    "calls",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("call_sid", sa.Text, nullable=False),
    sa.Column("stream_sid", sa.Text, nullable=False),
    sa.Column("bridge", sa.Text, nullable=False),
    sa.Column("persona", sa.Text, nullable=False),
    sa.Column("model_server", sa.Integer),
    sa.Column("caller", sa.Text, nullable=False),
    sa.Column("called", sa.Text, nullable=False),
    sa.Column("caller_hash", sa.Text, nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("ended_at", UtcTime),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("ended_by", sa.Text, nullable=False),
    sa.Column("ended_reason", sa.Text, nullable=False),
    sa.Column("close_code", sa.Integer),
    sa.Column("duration_s", sa.Double, nullable=False),
    sa.Column("handshake_s", sa.Double),
    sa.Column("first_audio_s", sa.Double),
    sa.Column("turns", sa.Integer, nullable=False),
    sa.Column("turn_delay_s", sa.Double),
    sa.Column("barge_ins", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("model_failed", sa.Boolean, nullable=False),
    sa.Column("keys", sa.Integer, nullable=False),
    sa.Column("gaps", sa.Integer, nullable=False),
)

details = sa.Table(
    "details",
    metadata,
    sa.Column("id", sa.BigInteger, sa.ForeignKey("calls.id"), primary_key=True),
    sa.Column("events", sa.JSON, nullable=False),
    sa.Column("transcript", sa.JSON, nullable=False),
    sa.Column("figures", sa.JSON, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)

kept = sa.Table(
    "kept",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""What the history must remember of itself."""
