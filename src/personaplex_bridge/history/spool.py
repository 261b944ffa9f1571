"""What could not be written before the bridge ended: a JSON line for each call, read at its next
start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import orjson

from personaplex_bridge.history.backlog import Entry
from personaplex_bridge.history.calls import from_dict

VERSION = 1


class Spool:
    """A file of calls. It holds hashes of numbers, not numbers; what it says is as private as the
    database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken = 0
        """Lines that were no calls: the disk was full, say."""

    def add(self, entries: Sequence[Entry], hash_of: Callable[[str], str] | None) -> None:
        """Append calls. Without `hash_of` nobody could find a caller's calls again to delete them:
        then they are kept without a caller.

        Raises:
            OSError: it can't be written.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            for entry in entries:
                file.write(_line(entry, hash_of))
            file.flush()
            os.fsync(file.fileno())

    def batches(self, size: int) -> Iterator[list[Entry]]:
        """The calls in it, some at a time. Nothing if there is no file."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            entries = self._entries(file)
            while batch := list(islice(entries, size)):
                yield batch

    def remove(self) -> None:
        """All is in the database."""
        self.path.unlink(missing_ok=True)

    def _entries(self, lines: Iterator[bytes]) -> Iterator[Entry]:
        for line in lines:
            try:
                known = orjson.loads(line)
                if known["version"] != VERSION:
                    raise ValueError(known["version"])
                yield Entry(from_dict(known["call"]), caller_hash=str(known["caller_hash"]))
            except (KeyError, TypeError, ValueError):
                self.broken += 1


def _line(entry: Entry, hash_of: Callable[[str], str] | None) -> bytes:
    call, caller_hash = entry.whole.as_dict(), entry.caller_hash
    if not caller_hash and entry.person:
        if hash_of is None:
            call["caller"] = call["called"] = ""
        else:
            caller_hash = hash_of(entry.person)
    known = {"version": VERSION, "caller_hash": caller_hash, "call": call}
    return orjson.dumps(known, option=orjson.OPT_APPEND_NEWLINE)
