"""Figures over many calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from personaplex_bridge.history.calls import Outcome, first_id
from personaplex_bridge.history.tables import calls

MAX_PERSONAS = 50
"""The most called."""
MAX_DAYS = 3660

_DAY = first_id(datetime(1970, 1, 2, tzinfo=UTC))
"""How far apart ids of calls are that began a day apart."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """The middle of what was measured, and what 95 of 100 are below; None if nothing was."""

    median: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Stats:
    """Calls in numbers."""

    calls: int
    in_progress: int
    hours: float
    """All calls together."""
    by_outcome: Mapping[str, int]
    by_persona: Mapping[str, int]
    by_day: Mapping[str, int]
    """By UTC day, as 2026-01-31; days without calls are left out."""
    model_failed: int
    duration_s: Quantiles
    turn_delay_s: Quantiles
    """Of the calls' medians."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


async def gather(connection: AsyncConnection, conditions: list[sa.ColumnElement[bool]]) -> Stats:
    """Of the calls that meet all conditions."""

    async def counts(key: sa.ColumnElement[Any], limit: int) -> dict[Any, int]:
        number = sa.func.count()
        query = sa.select(key, number).where(*conditions).group_by(key)
        rows = await connection.execute(query.order_by(number.desc()).limit(limit))
        return {value: int(count) for value, count in rows}

    async def quantiles(column: sa.Column[Any]) -> Quantiles:
        measured = sa.select(column).where(*conditions, column.is_not(None))
        number = await connection.scalar(
            sa.select(sa.func.count()).select_from(measured.subquery())
        )
        ranked = measured.order_by(column).limit(1)
        values = [
            await connection.scalar(ranked.offset(int(part * ((number or 1) - 1))))
            for part in (0.5, 0.95)
        ]
        return Quantiles(*values)

    sums = sa.func.sum(calls.c.duration_s), sa.func.sum(sa.cast(calls.c.model_failed, sa.Integer))
    seconds, failed = (await connection.execute(sa.select(*sums).where(*conditions))).one()
    by_outcome = await counts(calls.c.outcome, len(Outcome))
    by_day = await counts(calls.c.id // _DAY, MAX_DAYS)
    return Stats(
        calls=sum(by_outcome.values()),
        in_progress=by_outcome.get(str(Outcome.IN_PROGRESS), 0),
        hours=round((seconds or 0.0) / 3600, 3),
        by_outcome=by_outcome,
        by_persona=await counts(calls.c.persona, MAX_PERSONAS),
        by_day={_date(day): count for day, count in sorted(by_day.items())},
        model_failed=int(failed or 0),
        duration_s=await quantiles(calls.c.duration_s),
        turn_delay_s=await quantiles(calls.c.turn_delay_s),
    )


def _date(day: int) -> str:
    return datetime.fromtimestamp(int(day) * 86_400, UTC).date().isoformat()
