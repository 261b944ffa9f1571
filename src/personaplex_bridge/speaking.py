"""Model to caller: one call's downlink, and the tone before it."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

from personaplex_bridge.audio.downlink import DownlinkTranscoder, make_downlink
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.mulaw import FRAME_MS
from personaplex_bridge.audio.playout import CHUNK_FRAMES, LEAD_MS, Playout
from personaplex_bridge.audio.tones import recovery_chime
from personaplex_bridge.clock import Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.recording.tape import Tape
from personaplex_bridge.twilio.stream import MediaStream

RING_AFTER_S = 0.1
"""A model that is ready sooner needs no ringing."""

KEPT_MEDIA = 3
"""Media of 80 ms at most that are kept for a while: 240 ms."""


class Speaking:
    """What the caller hears, and when."""

    def __init__(
        self,
        settings: Settings,
        stream: MediaStream,
        clock: Clock,
        audio_format: AudioFormat = TELEPHONE,
    ) -> None:
        self.playout = Playout(
            settings.downlink_backlog_ms,
            settings.lag_target_ms,
            cushion=settings.cushion,
            audio_format=audio_format,
        )
        self._make_transcoder = partial(make_downlink, settings.transcoder, audio_format)
        self.transcoders = [self._make_transcoder()]
        """One for each line to a model that the call has had; the last is in use."""
        self.frames_sent = 0
        """Frames of the model's, 20 ms each."""
        self.ringing_frames = 0
        """Frames of the sounds while there was no model."""
        self.tape: Tape | None = None
        """Records what the phone plays."""
        self.latest: deque[bytes] = deque(maxlen=KEPT_MEDIA)
        """The latest media that were sent: for who looks at the level."""
        self.latest_s = clock.now()
        """When the last of them was sent."""
        self._format = audio_format
        self._stream = stream
        self._clock = clock
        self._due = asyncio.Event()

    @property
    def transcoder(self) -> DownlinkTranscoder:
        """The one in use."""
        return self.transcoders[-1]

    def begin_again(self) -> None:
        """The line to the model is gone: what comes now is from the next one."""
        self.playout.abandon()
        self.transcoders.append(self._make_transcoder())

    def waiting_ms(self) -> float:
        """How much of the model's audio has yet to be heard."""
        return self.playout.waiting_ms(self._clock.now())

    def say(self, ogg: bytes, now_s: float) -> list[bool]:
        """Take the model's audio; for each 20 ms frame, whether there is sound in it."""
        media = self.transcoder.feed(ogg)
        if not media:
            return []  # header pages, or less than a frame
        return self.playout.add(media, now_s)

    def hold(self, held: bool) -> None:
        """Let nothing more leave for Twilio, or let it leave again."""
        if held is not self.playout.held:
            self.playout.held = held
            self._due.set()

    def echoed(self, mark: str) -> None:
        """Twilio has played up to a mark."""
        self.playout.phone.echoed(mark, self._clock.now())

    async def clear(self) -> None:
        """Let the caller hear nothing of what waits."""
        if self.playout.clear(self._clock.now()):
            await self._clear_phone()

    async def flush(self) -> None:
        """Send what is due now; what isn't is left to `play`."""
        while media := self.playout.take(self._clock.now()):
            self.frames_sent += len(media) // self._format.frame_bytes
            await self._send(media)
        if self.playout.queued_ms:
            self._due.set()

    async def play(self) -> None:
        """Send what has to wait, when it is due, for ever."""
        while True:
            await self._due.wait()
            self._due.clear()
            while (due_in_s := self.playout.due_in_s(self._clock.now())) is not None:
                await self._clock.sleep_until(self._clock.now() + due_in_s)
                if (probe := self.playout.phone.probe(self._clock.now())) is not None:
                    await self._stream.mark(probe)
                await self.flush()

    async def chime(self, ready: asyncio.Event) -> None:
        """Let the caller hear that the model is lost: a chime, again and again until `ready`."""
        tone, pause = recovery_chime(self._format)
        self.ringing_frames += len(tone) // self._format.frame_bytes
        await self._send(tone)
        chimed_s = self._clock.now() + self.playout.phone.waiting_ms(self._clock.now()) / 1000
        if not await self._clock.happens(ready, chimed_s):
            await self._loop(pause + tone, ready)

    async def ring(self, sound: bytes, ready: asyncio.Event) -> None:
        """Loop `sound` (whole frames of media) until `ready` is set, then be silent at once."""
        if not await self._clock.happens(ready, self._clock.now() + RING_AFTER_S):
            await self._loop(sound, ready)

    async def _loop(self, sound: bytes, ready: asyncio.Event) -> None:
        begin, phone, frame_bytes = 0, self.playout.phone, self._format.frame_bytes
        size = CHUNK_FRAMES * frame_bytes
        while not ready.is_set():
            chunk = sound[begin : begin + size]
            self.ringing_frames += len(chunk) // frame_bytes
            await self._send(chunk)
            begin = begin + size if begin + size < len(sound) else 0
            now_s = self._clock.now()
            ahead_ms = phone.waiting_ms(now_s) - LEAD_MS
            await self._clock.happens(ready, now_s + max(0.0, ahead_ms / 1000))
        if phone.waiting_ms(self._clock.now()) > 0:
            phone.cleared(self._clock.now())
            await self._clear_phone()

    async def _clear_phone(self) -> None:
        if self.tape is not None:
            self.tape.clear(self._clock.now())
        await self._stream.clear()

    async def _send(self, media: bytes) -> None:
        now_s = self._clock.now()
        self.latest_s = now_s
        self.latest.append(media)
        if self.tape is not None:
            self.tape.play(media, self.playout.phone.waiting_ms(now_s), now_s)
        mark = self.playout.phone.sent(len(media) // self._format.frame_bytes * FRAME_MS, now_s)
        await self._stream.play(media)
        if mark is not None:
            await self._stream.mark(mark)
