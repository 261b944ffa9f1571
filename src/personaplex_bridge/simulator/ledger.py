"""Every 20 ms frame of a call, counted at each place it passes: nothing lost, nothing doubled."""

from __future__ import annotations

from dataclasses import dataclass

from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS
from personaplex_bridge.record import CallRecord
from personaplex_bridge.simulator.conversation import ModelSession
from personaplex_bridge.simulator.report import PhoneReport

FRAMES_PER_STEP = 4
"""20 ms frames in the model's 80 ms frame."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Frames of 20 ms at each place. What is left out or put in on purpose has a name."""

    phone_sent: int
    bridge_received: int
    bridge_filled: int
    bridge_doubled: int
    bridge_shortened: int
    bridge_dropped: int
    bridge_unsent: int
    bridge_gated: int
    """Of those sent on: as silence."""
    bridge_encoded: int
    model_heard: int

    model_said: int
    model_lost: int
    """Said, and kept back by the stand-in's fault `lose`."""
    model_held: int
    """Said, and still on the stand-in's bad network at hang-up."""
    bridge_decoded: int
    bridge_made_up: int
    bridge_cushion: int
    bridge_pauses: int
    bridge_overdue: int
    bridge_cleared: int
    bridge_unplayed: int
    bridge_sent: int
    bridge_rang: int
    phone_received: int
    phone_cleared: int
    phone_still_playing: int

    @property
    def uplink_difference(self) -> int:
        """Frames lost or doubled from phone to model, all legs added."""
        came = self.bridge_received + self.bridge_filled
        left_out = self.bridge_doubled + self.bridge_shortened + self.bridge_dropped
        return (
            abs(self.phone_sent - self.bridge_received)
            + abs(came - left_out - self.bridge_unsent - self.bridge_encoded)
            + abs(self.bridge_encoded - self.model_unfinished - self.model_heard)
        )

    @property
    def model_unfinished(self) -> int:
        """Frames that the model has, but less than one of its own: with pages of less than four."""
        return min(max(self.bridge_encoded - self.model_heard, 0), FRAMES_PER_STEP - 1)

    @property
    def model_lag(self) -> int:
        """Frames the model had heard and not answered at the end: a slow model falls behind."""
        return self.model_heard - self.model_said

    @property
    def under_way(self) -> int:
        """Frames the model had just said when the bridge hung up: one step at most."""
        return min(max(self._model_sent - self.bridge_decoded, 0), FRAMES_PER_STEP)

    @property
    def _model_sent(self) -> int:
        return self.model_said - self.model_lost - self.model_held

    @property
    def downlink_difference(self) -> int:
        """Frames lost or doubled from model to phone, all legs added."""
        came = self.bridge_decoded + self.bridge_made_up + self.bridge_cushion
        left_out = self.bridge_pauses + self.bridge_overdue + self.bridge_cleared
        return (
            abs(self._model_sent - self.under_way - self.bridge_decoded)
            + abs(came - left_out - self.bridge_unplayed - self.bridge_sent)
            + abs(self.bridge_sent + self.bridge_rang - self.phone_received)
        )

    def lines(self) -> list[str]:
        """The ledger for a reader."""
        return [
            f"to the model, frames of 20 ms: {self._uplink_told()}; "
            f"lost or doubled: {self.uplink_difference}",
            f"to the caller: {self._downlink_told()}; lost or doubled: {self.downlink_difference}",
            f"the model was {self.model_lag * FRAME_MS} ms behind what it had heard",
        ]

    def _uplink_told(self) -> str:
        bridge = _terms(
            (self.bridge_filled, "put in silence for {} that were missing"),
            (self.bridge_doubled, "left out {} that came twice"),
            (self.bridge_shortened, "left out {} of pauses"),
            (self.bridge_dropped, "dropped the oldest {}"),
            (self.bridge_unsent, "had {} left at the end"),
        )
        silent = _terms((self.bridge_gated, "{} of them as silence, without voice"))
        rest = _terms((self.model_unfinished, "and {} of its next frame"))
        return (
            f"the phone sent {self.phone_sent}; the bridge received {self.bridge_received}"
            f"{bridge}, sent on {self.bridge_encoded}{silent}; the model heard "
            f"{self.model_heard}{rest}"
        )

    def _downlink_told(self) -> str:
        model = _terms(
            (self.model_lost, "{} lost on purpose"),
            (self.model_held, "{} held up by its bad network at hang-up"),
            (self.under_way, "{} under way at hang-up"),
        )
        bridge = _terms(
            (self.bridge_made_up, "made up {} that were missing"),
            (self.bridge_cushion, "put in {} of silence against jitter"),
            (self.bridge_pauses, "left out {} of pauses"),
            (self.bridge_overdue, "dropped the oldest {}"),
            (self.bridge_cleared, "dropped {} for an interruption"),
            (self.bridge_unplayed, "had {} left at the end"),
        )
        rang = _terms((self.bridge_rang, "and {} of the sound before the model was ready"))
        phone = _terms(
            (self.phone_cleared, "{} cleared before they were played"),
            (self.phone_still_playing, "{} still waiting to be played"),
        )
        return (
            f"the model said {self.model_said}{model}; the bridge decoded {self.bridge_decoded}"
            f"{bridge}, sent on {self.bridge_sent}{rang}; the phone received "
            f"{self.phone_received}{phone}"
        )


def _terms(*terms: tuple[int, str]) -> str:
    """Those that aren't zero, each after a comma."""
    return "".join([f", {text.format(frames)}" for frames, text in terms if frames])


def count_frames(phone: PhoneReport, record: CallRecord, model: ModelSession) -> Ledger:
    """The ledger of one call, from the three programs' own counts."""
    missing = record.concealed_packets - record.audio_damage["corrupt-packet"]
    return Ledger(
        phone_sent=phone.frames_sent,
        bridge_received=record.caller_frames,
        bridge_filled=record.filled_frames,
        bridge_doubled=record.doubled_frames,
        bridge_shortened=record.shortened_frames,
        bridge_dropped=record.dropped_frames,
        bridge_unsent=record.unsent_frames,
        bridge_gated=record.gated_frames,
        bridge_encoded=record.uplink_packets,
        model_heard=model.frames_in * FRAMES_PER_STEP,
        model_said=model.frames_out * FRAMES_PER_STEP,
        model_lost=model.lost * FRAMES_PER_STEP,
        model_held=(model.frames_out - model.lost - model.delivered) * FRAMES_PER_STEP,
        bridge_decoded=record.model_packets * FRAMES_PER_STEP,
        bridge_made_up=missing * FRAMES_PER_STEP,
        bridge_cushion=record.cushion_frames,
        bridge_pauses=record.pauses_shortened_frames,
        bridge_overdue=record.overdue_frames,
        bridge_cleared=record.cleared_frames,
        bridge_unplayed=record.unplayed_frames,
        bridge_sent=record.downlink_frames,
        bridge_rang=record.ringing_frames,
        phone_received=phone.media_bytes // FRAME_BYTES,
        phone_cleared=phone.cleared_bytes // FRAME_BYTES,
        phone_still_playing=phone.unheard_bytes // FRAME_BYTES,
    )
