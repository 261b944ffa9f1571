"""Recording calls: files, the thread that writes them, and how long they are kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from personaplex_bridge import logs
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.errors import AudioError, ConfigError, WrongValue
from personaplex_bridge.recording.opusfile import OpusFile
from personaplex_bridge.recording.tape import Tape

MAX_WAITING = 30
"""Parts of a second that a recording's file may be behind; then it is given up, not the call."""

CLOSE_TIMEOUT_S = 5.0
"""How long the last parts may take to be written when the bridge ends."""

SWEEP_EVERY_S = 3600.0
DAY_S = 86_400
SUFFIX, PART_SUFFIX = ".opus", ".opus.part"

_log = logging.getLogger(logs.NAME)


class Recorder:
    """Records calls into a folder: a file each, `DATE/TIME-CALLSID.opus`.

    A file is written as `.opus.part`, and gets its name when it is complete; what a crash leaves
    can be played up to there. One thread encodes and writes for all calls.
    """

    def __init__(self, folder: Path, keep_days: int) -> None:
        self._folder = folder
        self._keep_days = keep_days
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recordings")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete what is too old, now and then; on exit wait for the last parts.

        Raises:
            ConfigError: the folder can't be written to.
        """
        try:
            await asyncio.to_thread(self._try_folder)
        except OSError as error:
            allowed = f"a folder that can be written to ({error.strerror})"
            raise ConfigError(
                WrongValue("RECORDINGS_FOLDER", str(self._folder), allowed)
            ) from error
        sweeping = asyncio.create_task(self._sweep_for_ever(), name="sweep-recordings")
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})
            waiting = asyncio.get_running_loop().run_in_executor(self._thread, int)
            await asyncio.wait({waiting}, timeout=CLOSE_TIMEOUT_S)
            self._thread.shutdown(wait=False, cancel_futures=True)

    def begin(
        self, call_sid: str, log: logs.Log, audio_format: AudioFormat = TELEPHONE
    ) -> Recording:
        """Record a call with media of this format from now on."""
        now = datetime.now(tz=UTC)
        # What Twilio sends as a CallSid is CA and 32 digits; a stranger's may be a path.
        name = re.sub(r"[^A-Za-z0-9]", "", call_sid)[:40] or "unknown"
        path = self._folder / f"{now:%Y-%m-%d}" / f"{now:%H%M%S.%f}-{name}{SUFFIX}"
        return Recording(path, self._thread, log, audio_format)

    def _try_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        trial = self._folder / ".writable"
        trial.touch()
        trial.unlink()

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.to_thread(self.sweep, time.time())
            await asyncio.sleep(SWEEP_EVERY_S)

    def sweep(self, now_s: float) -> int:
        """Delete the recordings that are older than they may be; returns how many."""
        oldest_s, deleted = now_s - self._keep_days * DAY_S, 0
        for suffix in (SUFFIX, PART_SUFFIX):
            for path in self._folder.glob(f"????-??-??/*{suffix}"):
                with contextlib.suppress(OSError):  # somebody else was quicker
                    if path.stat().st_mtime < oldest_s:
                        path.unlink()
                        deleted += 1
        for folder in self._folder.glob("????-??-??"):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
        if deleted:
            _log.info("deleted %d recordings older than %d days", deleted, self._keep_days)
        return deleted


class Recording:
    """One call's; `tape` takes its sound. Trouble with the file ends it, but not the call."""

    def __init__(
        self,
        path: Path,
        thread: ThreadPoolExecutor,
        log: logs.Log,
        audio_format: AudioFormat = TELEPHONE,
    ) -> None:
        self.path = path
        self.tape = Tape(self._write, audio_format)
        self._format = audio_format
        self._part = path.with_name(path.name.removesuffix(SUFFIX) + PART_SUFFIX)
        self._thread = thread
        self._log = log
        self._file: OpusFile | None = None
        self._waiting = 0
        self._has_failed = False
        self._submit(self._open)

    def close(self, now_s: float) -> None:
        """The call is over: what is left is written in the background."""
        self.tape.finish(now_s)
        self._submit(self._complete)

    def _write(self, left: bytes, right: bytes) -> None:
        if self._waiting >= MAX_WAITING and not self._has_failed:
            self._give_up("the disk is too slow")
        self._submit(self._append, left, right)

    def _submit(self, work: Callable[..., None], *arguments: bytes) -> None:
        if self._has_failed:
            return
        self._waiting += 1
        loop = asyncio.get_running_loop()
        try:
            done = self._thread.submit(work, *arguments)
        except RuntimeError:  # the bridge ends
            self._has_failed = True
            return
        done.add_done_callback(lambda done: _tell(loop, self._done, done))

    def _done(self, done: Future[None]) -> None:
        self._waiting -= 1
        if done.cancelled():
            return
        error = done.exception()
        if error is not None and not self._has_failed:
            self._give_up(getattr(error, "strerror", None) or type(error).__name__)

    def _give_up(self, why: str) -> None:
        self._has_failed = True
        self._log.warning("the call is recorded no further: %s", why)
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._abandon)

    # In the thread.

    def _open(self) -> None:
        try:
            self._make()
        except FileNotFoundError:  # just then the sweep removed the day's folder: it was empty
            self._make()

    def _make(self) -> None:
        self._part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = OpusFile(self._part, self._format)

    def _append(self, left: bytes, right: bytes) -> None:
        if self._file is not None:
            self._file.write(left, right)

    def _complete(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile, with its call
                self._part.rename(self.path)

    def _abandon(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError, AudioError):
                self._file.abandon()
            self._file = None


def _tell(
    loop: asyncio.AbstractEventLoop, done: Callable[[Future[None]], None], future: Future[None]
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
        loop.call_soon_threadsafe(done, future)
