"""Calls, their details, and what the history remembers of itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEARCHED = ("persona", "outcome", "caller_hash", "model_failed")
SORTED = ("duration_s", "turn_delay_s", "barge_ins")


def upgrade() -> None:
    """From an empty database."""
    op.create_table(
        "calls",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("call_sid", sa.Text, nullable=False),
        sa.Column("stream_sid", sa.Text, nullable=False),
        sa.Column("bridge", sa.Text, nullable=False),
        sa.Column("persona", sa.Text, nullable=False),
        sa.Column("model_server", sa.Integer),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("called", sa.Text, nullable=False),
        sa.Column("caller_hash", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
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
    # By id within each value: ids are in the order of time, which lists are in.
    for column in (*SEARCHED, *SORTED):
        op.create_index(f"calls_by_{column}", "calls", [column, "id"])
    op.create_table(
        "details",
        sa.Column("id", sa.BigInteger, sa.ForeignKey("calls.id"), primary_key=True),
        sa.Column("events", sa.JSON, nullable=False),
        sa.Column("transcript", sa.JSON, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "kept",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """To an empty database."""
    for table in ("kept", "details", "calls"):
        op.drop_table(table)
