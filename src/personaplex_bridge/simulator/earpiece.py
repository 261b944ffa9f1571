"""What the caller hears: the playout buffer, played every 20 ms, and the gaps in it."""

from __future__ import annotations

from personaplex_bridge.audio.mulaw import FRAME_BYTES, SAMPLE_RATE_HZ
from personaplex_bridge.audio.playout import loudness
from personaplex_bridge.simulator.playout import Playout
from personaplex_bridge.simulator.report import Cleared, Gap, PhoneReport


class Earpiece:
    """A phone's ear: what it hears goes into the report."""

    def __init__(self, report: PhoneReport) -> None:
        self.last_sound_s = 0.0
        """Phone time of the last frame that was heard as sound."""
        self._report = report
        self._playout = Playout()
        self._heard_bytes = 0
        self._was_loud = False
        self._in_gap = False

    def take(self, payload: bytes) -> None:
        """Put media at the end of the buffer.

        Raises:
            PlayoutOverflow: the buffer is over ten minutes long.
        """
        if len(payload) % FRAME_BYTES:
            problem = f"{len(payload)} bytes of media are no whole frames"
            self._report.problems.append(problem)
        self._playout.add(payload)

    def mark(self, name: str) -> list[str]:
        """Set a mark; the names of those that are reached."""
        return self._playout.mark(name)

    def clear(self, at_s: float) -> list[str]:
        """Empty the buffer: the sound stops, and that is no gap. All marks are reached."""
        self._report.clears.append(Cleared(at_s, self._playout.waiting_bytes))
        self._was_loud = self._in_gap = False
        return self._playout.clear()

    def hear_frame(self) -> list[str]:
        """The next 20 ms; the names of the marks that are reached."""
        report, there = self._report, min(self._playout.waiting_bytes, FRAME_BYTES)
        frame, marks = self._playout.play_frame()
        report.heard += frame
        (loud,) = loudness(frame)
        if loud:
            self.last_sound_s = self._heard_bytes / SAMPLE_RATE_HZ
            if report.first_sound_s is None:
                report.first_sound_s = self.last_sound_s
        report.missing.append(there < FRAME_BYTES)
        if there < FRAME_BYTES:
            self._miss(there, sound_before=loud if there else self._was_loud)
        else:
            self._in_gap = False
        self._was_loud = loud
        self._heard_bytes += FRAME_BYTES
        return marks

    def conclude(self) -> None:
        """The call is over."""
        self._report.underruns = self._playout.underruns
        self._report.unheard_bytes = self._playout.waiting_bytes

    def _miss(self, there: int, *, sound_before: bool) -> None:
        """Media is missing after the frame's first `there` bytes."""
        gaps, ms = self._report.gaps, (FRAME_BYTES - there) * 1000 / SAMPLE_RATE_HZ
        if self._in_gap:
            gaps[-1] = Gap(gaps[-1].at_s, gaps[-1].ms + ms)
        elif sound_before:
            gaps.append(Gap((self._heard_bytes + there) / SAMPLE_RATE_HZ, ms))
            self._in_gap = True
