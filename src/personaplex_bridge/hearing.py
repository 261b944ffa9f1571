"""Caller to model: one call's uplink."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from personaplex_bridge.audio.caller_audio import FRAMES_PER_STEP, MODEL_FRAME_MS, CallerAudio
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.gate import NoiseGate
from personaplex_bridge.audio.in_flight import InFlight
from personaplex_bridge.audio.mulaw import FRAME_MS
from personaplex_bridge.audio.uplink import UplinkTranscoder, make_uplink
from personaplex_bridge.audio.voice import VoiceDetector
from personaplex_bridge.clock import Clock
from personaplex_bridge.config import Settings

QUIET_S = 0.3
"""When nothing has come from Twilio for so long, silence passes for the model's clock to go on."""


KEPT_MEDIA = 12
"""Twilio's media of 20 ms each that are kept for a while: 240 ms."""


class Ear(Protocol):
    """Where the caller's audio goes."""

    async def send_audio(self, ogg: bytes) -> None:
        """Give the model Ogg Opus bytes."""
        ...


class Hearing:
    """What the model hears, and when.

    Media is taken in as it comes and never waits for the model; what the model can't take yet
    waits in a backlog bounded by media time. Before the handshake that keeps the latest words.
    """

    def __init__(
        self, settings: Settings, clock: Clock, audio_format: AudioFormat = TELEPHONE
    ) -> None:
        mode = settings.noise_gate
        self.audio = CallerAudio(
            VoiceDetector() if mode == "off" else VoiceDetector(mode),
            None if mode == "off" else NoiseGate(),
            settings.uplink_backlog_ms,
            settings.lag_target_ms,
            audio_format,
        )
        self._make_transcoder = partial(
            make_uplink, settings.transcoder, settings.packets_per_page, audio_format
        )
        self.transcoders = [self._make_transcoder()]
        """One for each line to a model that the call has had; the last is in use."""
        self.first_sent_s: float | None = None
        """When the model was sent its first frame."""
        self._in_flight = InFlight()
        self._clock = clock
        self.heard_s = clock.now()
        """When media came last."""
        self.latest: deque[bytes] = deque(maxlen=KEPT_MEDIA)
        """The payloads of the latest media: for who looks at the level."""
        self._due = asyncio.Event()

    @property
    def transcoder(self) -> UplinkTranscoder:
        """The one in use."""
        return self.transcoders[-1]

    @property
    def is_owed_an_answer(self) -> bool:
        """Whether the model has been sent more than it has answered, beyond the usual."""
        return self._in_flight.is_awaited

    @property
    def lag_ms(self) -> float:
        """How far the model is behind the caller now: what waits here, and what it has been sent
        and hasn't answered.
        """
        waiting_ms = len(self.audio.backlog) * FRAME_MS - MODEL_FRAME_MS
        return max(0, waiting_ms) + self._in_flight.behind_ms

    def begin_again(self) -> None:
        """The line to the model is gone: what comes now is for the next one."""
        self.transcoders.append(self._make_transcoder())
        self._in_flight = InFlight()
        self.audio.unsettle()

    def hear(self, timestamp_ms: int, media: bytes, now_s: float) -> list[bool]:
        """Take the phone's media; for each new 20 ms frame, whether there is voice in it."""
        self.heard_s = now_s
        self.latest.append(media)
        voiced = self.audio.receive(timestamp_ms, media)
        self._see_what_is_due()
        return voiced

    def answered(self, total_ms: float, now_s: float) -> None:
        """The model has said so much in all: it may be able to hear more."""
        self._in_flight.answered(total_ms, now_s)
        self._see_what_is_due()

    def _see_what_is_due(self) -> None:
        if len(self.audio.backlog) >= FRAMES_PER_STEP:
            self._due.set()

    async def send(self, ear: Ear) -> None:
        """Send to the model what it can take, in frames of its own, for ever."""
        await ear.send_audio(self.transcoder.headers())
        self._due.set()
        while True:
            await self._due.wait()
            self._due.clear()
            now_s = self._clock.now()
            self._in_flight.forgive(self.audio.settle(now_s, self._in_flight.behind_ms))
            while self._in_flight.is_open(now_s) and (frame := self.audio.take()) is not None:
                self._in_flight.sent(MODEL_FRAME_MS, now_s)
                for page in self.transcoder.feed(frame):
                    await ear.send_audio(page)
                if self.first_sent_s is None:
                    self.first_sent_s = now_s

    async def keep_time(self, when_quiet: Callable[[], None]) -> None:
        """Keep the model's clock going while nothing comes from Twilio, for ever.

        `when_quiet` is called again and again meanwhile.
        """
        due_s = self._clock.now() + QUIET_S
        while True:
            await self._clock.sleep_until(due_s)
            if self.heard_s + QUIET_S > due_s:
                due_s = self.heard_s + QUIET_S
                continue
            due_s += MODEL_FRAME_MS / 1000
            when_quiet()
            if len(self.audio.backlog) < FRAMES_PER_STEP:
                self.audio.fill()
            self._due.set()
