"""The console's calls past, out of the call history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from personaplex_bridge.console.past import PastSearch
from personaplex_bridge.console.problems import Problem
from personaplex_bridge.errors import HistoryError, HistoryUnavailable
from personaplex_bridge.history.calls import Outcome
from personaplex_bridge.history.queries import Search, Sort
from personaplex_bridge.history.store import History

_AWAY = "the database of the call history can't be reached; the calls go on, and are kept meanwhile"


class PastCalls:
    """What `console.past.PastCalls` asks for."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def search(self, search: PastSearch) -> Mapping[str, Any]:
        """A page.

        Raises:
            ValueError: the search can't be understood.
            Problem: 503, the database is away.
        """
        asked = asdict(search)
        asked["outcome"] = Outcome(search.outcome) if search.outcome else None
        asked["sort"] = Sort(search.sort)
        try:
            page = await self._history.search(Search(**asked))
        except HistoryUnavailable as error:
            raise Problem(503, _AWAY) from error
        except HistoryError as error:
            raise ValueError(str(error)) from error
        return {"calls": [call.as_dict() for call in page.calls], "next": page.next}

    async def call(self, call_id: str) -> Mapping[str, Any] | None:
        """A call with all that is kept of it.

        Raises:
            Problem: 503, the database is away.
        """
        try:
            whole = await self._history.call(call_id)
        except HistoryUnavailable as error:
            raise Problem(503, _AWAY) from error
        return None if whole is None else whole.as_dict()
