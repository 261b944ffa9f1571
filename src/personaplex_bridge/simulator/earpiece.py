"""What the caller hears: the playout buffer, played every 20 ms, and the gaps in it."""

from __future__ import annotations

from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.simulator.playout import Playout
from personaplex_bridge.simulator.report import Cleared, Gap, PhoneReport


class Earpiece:
    """A phone's ear: what it hears goes into the report."""

    def __init__(self, report: PhoneReport, audio_format: AudioFormat = TELEPHONE) -> None:
        self.last_sound_s = 0.0
        """Phone time of the last frame that was heard as sound."""
        self._report = report
        self._format = audio_format
        self._frame_bytes = audio_format.frame_bytes
        self._playout = Playout(audio_format)
        self._heard_bytes = 0
        self._was_loud = False
        self._in_gap = False

    def take(self, payload: bytes) -> None:
        """Put media at the end of the buffer.

        Raises:
            PlayoutOverflow: the buffer is over ten minutes long.
        """
        if len(payload) % self._frame_bytes:
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
        report, there = self._report, min(self._playout.waiting_bytes, self._frame_bytes)
        frame, marks = self._playout.play_frame()
        report.heard += frame
        (loud,) = self._format.loudness(frame)
        if loud:
            self.last_sound_s = self._heard_bytes / self._format.bytes_per_s
            if report.first_sound_s is None:
                report.first_sound_s = self.last_sound_s
        report.missing.append(there < self._frame_bytes)
        if there < self._frame_bytes:
            self._miss(there, sound_before=loud if there else self._was_loud)
        else:
            self._in_gap = False
        self._was_loud = loud
        self._heard_bytes += self._frame_bytes
        return marks

    def conclude(self) -> None:
        """The call is over."""
        self._report.underruns = self._playout.underruns
        self._report.unheard_bytes = self._playout.waiting_bytes

    def _miss(self, there: int, *, sound_before: bool) -> None:
        """Media is missing after the frame's first `there` bytes."""
        gaps, ms = self._report.gaps, (self._frame_bytes - there) * 1000 / self._format.bytes_per_s
        if self._in_gap:
            gaps[-1] = Gap(gaps[-1].at_s, gaps[-1].ms + ms)
        elif sound_before:
            gaps.append(Gap((self._heard_bytes + there) / self._format.bytes_per_s, ms))
            self._in_gap = True
