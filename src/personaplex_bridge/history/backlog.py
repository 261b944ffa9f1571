"""Calls on their way to the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from personaplex_bridge.history.calls import WholeCall

LIMIT = 10_000
"""Calls that wait at most: those of hours, with a database that is away. A call of some minutes
takes about 20 KB here, half of them the times of its words.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A call as far as it has come."""

    whole: WholeCall
    person: str = field(default="", repr=False)
    """The caller's number, only in memory, until it is hashed."""
    caller_hash: str = field(default="", repr=False)
    """Or its hash, if that was known already."""

    @property
    def id(self) -> str:
        """The call's."""
        return self.whole.call.id

    @property
    def is_over(self) -> bool:
        """Whether it is the last of its call."""
        return self.whole.call.ended_at is not None


class Backlog:
    """The newest entry of each call; older ones are of no use, since an entry tells all.

    When it is full, the oldest call goes: first of those in progress, whose later entries tell the
    same and more, then of those that are over.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.dropped = 0
        """Calls that are over, and were forgotten for want of room."""
        self.skipped = 0
        """Entries of calls in progress that were."""
        self._limit = limit
        self._in_progress: dict[str, Entry] = {}
        self._over: dict[str, Entry] = {}

    def __len__(self) -> int:
        """How many calls wait."""
        return len(self._in_progress) + len(self._over)

    def put(self, entry: Entry) -> None:
        """Add what is known of a call now."""
        self._in_progress.pop(entry.id, None)
        if entry.is_over:
            self._over[entry.id] = entry
        elif entry.id not in self._over:
            self._in_progress[entry.id] = entry
        self._make_room()

    def take(self, limit: int) -> list[Entry]:
        """The oldest entries; they are not here any more."""
        taken: list[Entry] = []
        for entries in (self._in_progress, self._over):
            while entries and len(taken) < limit:
                taken.append(entries.pop(next(iter(entries))))
        return taken

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Entries that were taken in vain; what is newer stays."""
        waiting = self._in_progress.keys() | self._over.keys()
        old = [entry for entry in entries if entry.id not in waiting]
        self._in_progress = {e.id: e for e in old if not e.is_over} | self._in_progress
        self._over = {e.id: e for e in old if e.is_over} | self._over
        self._make_room()

    def forget(self, call_id: str) -> None:
        """Drop a call that is not to be kept."""
        self._in_progress.pop(call_id, None)
        self._over.pop(call_id, None)

    def entries(self) -> list[Entry]:
        """All that wait."""
        return [*self._in_progress.values(), *self._over.values()]

    def _make_room(self) -> None:
        while len(self) > self._limit:
            if self._in_progress:
                del self._in_progress[next(iter(self._in_progress))]
                self.skipped += 1
            else:
                del self._over[next(iter(self._over))]
                self.dropped += 1
