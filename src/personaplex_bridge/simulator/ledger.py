"""Every 20 ms frame of a call, counted at each place it passes: nothing lost, nothing doubled."""

from __future__ import annotations

from dataclasses import dataclass

from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS
from personaplex_bridge.record import CallRecord
from personaplex_bridge.simulator.caller import PhoneReport
from personaplex_bridge.simulator.model import ModelSession

FRAMES_PER_STEP = 4
"""20 ms frames in the model's 80 ms frame."""
PACKETS_PER_REPLY = 4


@dataclass(frozen=True, slots=True)
class Ledger:
    """Frames of 20 ms at each place. Differences that have a name are no loss."""

    phone_sent: int
    bridge_received: int
    bridge_dropped: int
    bridge_unsent: int
    bridge_encoded: int
    model_heard: int
    model_said: int
    bridge_decoded: int
    bridge_sent: int
    phone_received: int
    phone_still_playing: int

    @property
    def uplink_difference(self) -> int:
        """Frames lost or doubled from phone to model, all legs added."""
        return sum(
            abs(difference)
            for difference in (
                self.phone_sent - self.bridge_received,
                self.bridge_received
                - self.bridge_dropped
                - self.bridge_unsent
                - self.bridge_encoded,
                self.bridge_encoded - self.model_heard,
            )
        )

    @property
    def model_lag(self) -> int:
        """Frames the model had heard and not answered at the end: a slow model falls behind."""
        return self.model_heard - self.model_said

    @property
    def under_way(self) -> int:
        """Frames the model had just said when the bridge hung up: one step at most."""
        return min(max(self.model_said - self.bridge_decoded, 0), FRAMES_PER_STEP)

    @property
    def downlink_difference(self) -> int:
        """Frames lost or doubled from model to phone, all legs added."""
        return (
            abs(self.model_said - self.under_way - self.bridge_decoded)
            + abs(self.bridge_decoded - self.bridge_sent)
            + abs(self.bridge_sent - self.phone_received)
        )

    def lines(self) -> list[str]:
        """The ledger for a reader."""
        return [
            f"to the model, frames of 20 ms: phone sent {self.phone_sent}; bridge received "
            f"{self.bridge_received}, dropped {self.bridge_dropped} (model not ready), "
            f"kept {self.bridge_unsent} (less than a page), sent on {self.bridge_encoded}; "
            f"model heard {self.model_heard}; lost or doubled: {self.uplink_difference}",
            f"to the caller: model said {self.model_said} ({self.under_way} under way at hang-up); "
            f"bridge decoded {self.bridge_decoded}, sent on {self.bridge_sent}; phone received "
            f"{self.phone_received} ({self.phone_still_playing} still waiting to be played); "
            f"lost or doubled: {self.downlink_difference}",
            f"the model was {self.model_lag * FRAME_MS} ms behind what it had heard",
        ]


def count_frames(phone: PhoneReport, record: CallRecord, model: ModelSession) -> Ledger:
    """The ledger of one call, from the three programs' own counts."""
    return Ledger(
        phone_sent=phone.frames_sent,
        bridge_received=record.caller_frames,
        bridge_dropped=record.dropped_frames,
        bridge_unsent=record.unsent_frames,
        bridge_encoded=record.uplink_packets,
        model_heard=model.frames_in * FRAMES_PER_STEP,
        model_said=model.frames_out * FRAMES_PER_STEP,
        bridge_decoded=record.model_packets * PACKETS_PER_REPLY,
        bridge_sent=record.downlink_frames,
        phone_received=phone.media_bytes // FRAME_BYTES,
        phone_still_playing=phone.unheard_bytes // FRAME_BYTES,
    )
