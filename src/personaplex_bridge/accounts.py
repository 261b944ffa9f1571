"""A call's counters, gathered into its record: when somebody asks, and once it is over."""

from __future__ import annotations

from collections import Counter

from personaplex_bridge.audio.lag import LagMeter
from personaplex_bridge.audio.mulaw import FRAME_MS
from personaplex_bridge.hearing import Hearing
from personaplex_bridge.record import CallRecord, Lag
from personaplex_bridge.speaking import Speaking


def count_uplink(record: CallRecord, hearing: Hearing) -> None:
    """What became of the caller's audio."""
    audio, transcoders = hearing.audio, hearing.transcoders
    record.caller_frames = audio.received_bytes // audio.format.frame_bytes
    record.filled_frames = audio.time.filled
    record.doubled_frames = audio.time.doubled
    record.shortened_frames = audio.backlog.shortened
    record.dropped_frames = audio.backlog.dropped
    held_frames = sum(transcoder.held_frames for transcoder in transcoders)
    record.unsent_frames = audio.waiting_frames + held_frames
    record.gated_frames = audio.gated
    record.uplink_packets = sum(transcoder.paged for transcoder in transcoders)
    record.uplink_lag = _lag(audio.lag)


def count_downlink(record: CallRecord, speaking: Speaking) -> None:
    """What became of the model's."""
    playout, transcoders = speaking.playout, speaking.transcoders
    record.model_packets = sum(transcoder.packets for transcoder in transcoders)
    record.concealed_packets = sum(transcoder.concealed for transcoder in transcoders)
    record.audio_damage = sum((transcoder.damage for transcoder in transcoders), Counter[str]())
    record.model_frames = sum(int(transcoder.decoded_ms) // FRAME_MS for transcoder in transcoders)
    record.cushion_frames = playout.counts.cushion
    record.pauses_shortened_frames = playout.counts.shortened
    record.overdue_frames = playout.counts.dropped
    record.cleared_frames = playout.counts.cleared
    record.tail_frames = playout.counts.tail
    held_frames = sum(transcoder.held_frames for transcoder in transcoders)
    record.unplayed_frames = playout.queued_ms // FRAME_MS + held_frames
    record.ringing_frames = speaking.ringing_frames
    record.downlink_frames = speaking.frames_sent
    record.downlink_lag = _lag(playout.lag)
    record.gaps, record.gap_ms = playout.counts.gaps, round(playout.counts.gap_ms)


def _lag(meter: LagMeter) -> Lag:
    percentiles = meter.percentile_ms(50), meter.percentile_ms(99)
    return Lag(*percentiles, meter.max_ms, meter.times())
