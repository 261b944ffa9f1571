"""Progress on long work: one line for each change, with the time since the beginning."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

REPEAT_S = 30.0
"""Without a terminal, a stage's changes are written no more often than this."""

LOUD = frozenset(
    {"found", "made", "differs", "refused", "moved", "waiting", "ready"}
    | {"log", "stopping", "stopped", "kept", "alarm"}
)
"""What is always a line of its own."""


class Progress:
    """Writes lines to `out`. On a terminal a stage's own changes rewrite its line."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._began = clock()
        self._on_terminal = out.isatty()
        self._stage = ""
        self._line = ""
        self._written_s = 0.0
        self._open = False

    @property
    def elapsed(self) -> str:
        """Minutes and seconds since the beginning."""
        seconds = int(self._clock() - self._began)
        return f"{seconds // 60:3d}:{seconds % 60:02d}"

    def tell(self, stage: str, line: str) -> None:
        """Something is so now. A line that is told again is not written again."""
        same, now = stage == self._stage, self._clock()
        if same and line == self._line:
            return
        if self._on_terminal and stage not in LOUD:
            self._rewrite(line, same)
        elif not same or stage in LOUD or now - self._written_s >= REPEAT_S:
            self.close()
            self._out.write(f"{self.elapsed}  {line}\n")
            self._written_s = now
        self._out.flush()
        self._stage, self._line = stage, line

    def close(self) -> None:
        """End a line that is still being rewritten."""
        if self._open:
            self._out.write("\n")
            self._open = False

    def _rewrite(self, line: str, same: bool) -> None:
        if not same:
            self.close()
        whole = f"{self.elapsed}  {line}"[: shutil.get_terminal_size().columns - 1]
        # Back to the margin, and clear to the end of the line (ECMA-48: CR, EL).
        self._out.write(f"\r\x1b[K{whole}")
        self._open = True
