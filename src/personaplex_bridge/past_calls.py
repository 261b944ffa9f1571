"""The console's calls past, out of the call history."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personaplex_bridge.console.past import PastDeletion, PastSearch
from personaplex_bridge.console.problems import Problem
from personaplex_bridge.errors import HistoryError, HistoryUnavailable
from personaplex_bridge.history.calls import Outcome
from personaplex_bridge.history.exporting import Format, export
from personaplex_bridge.history.queries import Search, Sort
from personaplex_bridge.history.store import Deletion, History, RecordingsStay

_AWAY = "the database of the call history can't be reached; the calls go on, and are kept meanwhile"
_RETRY_S = "5"


class PastCalls:
    """What `console.past.PastCalls` asks for, and raises what that says."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def search(self, search: PastSearch) -> Mapping[str, Any]:
        """A page."""
        with _told():
            page = await self._history.search(_search(search))
        return {"calls": [call.as_dict() for call in page.calls], "next": page.next}

    async def call(self, call_id: str) -> Mapping[str, Any] | None:
        """A call with all that is kept of it."""
        with _told():
            whole = await self._history.call(call_id)
            if whole is None:
                return None
            recording = await self._history.recording(whole)
        return {**whole.as_dict(), "has_recording": recording is not None}

    async def export(self, search: PastSearch, form: str) -> AsyncGenerator[bytes]:
        """All calls that a search finds."""
        with _told():
            async with aclosing(export(self._history, _search(search), Format(form))) as parts:
                async for part in parts:
                    yield part

    async def recording(self, call_id: str) -> Path | None:
        """The file of a call's recording."""
        with _told():
            whole = await self._history.call(call_id)
            return None if whole is None else await self._history.recording(whole)

    async def delete_call(self, call_id: str) -> PastDeletion:
        """Delete a call."""
        found = await _deleted(self._history.delete_call(call_id))
        return found or PastDeletion(0, 0, 0)

    async def delete_caller(self, number: str) -> PastDeletion:
        """Delete all of a caller."""
        found = await _deleted(self._history.delete_caller(number))
        return found or PastDeletion(0, 0, 0)

    async def delete_caller_of(self, call_id: str) -> PastDeletion | None:
        """Delete all of a call's caller."""
        return await _deleted(self._history.delete_caller_of(call_id))


async def _deleted(deleting: Awaitable[Deletion | None]) -> PastDeletion | None:
    with _told():
        try:
            done, problem = await deleting, ""
        except RecordingsStay as error:
            done, problem = error.deletion, str(error)
    if done is None:
        return None
    return PastDeletion(done.calls, done.recordings, done.recordings_missing, done.sids, problem)


@contextmanager
def _told() -> Iterator[None]:
    """The history's errors, as the API's."""
    try:
        yield
    except HistoryUnavailable as error:
        raise Problem(503, _AWAY, Retry_After=_RETRY_S) from error
    except HistoryError as error:
        raise ValueError(str(error)) from error


def _search(search: PastSearch) -> Search:
    asked = asdict(search)
    asked["outcome"] = Outcome(search.outcome) if search.outcome else None
    asked["sort"] = Sort(search.sort)
    return Search(**asked)
