"""The model stand-in's side of a conversation: from the handshake to the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from personaplex_bridge import logs
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.clock import Clock
from personaplex_bridge.personaplex.messages import Audio, Text, parse, serialize
from personaplex_bridge.simulator.behaviours import FRAME_SAMPLES, RATE_HZ, Behaviour, Reply
from personaplex_bridge.simulator.faults import ModelFaults, is_nth
from personaplex_bridge.simulator.hearing import StrictHearing, Unacceptable
from personaplex_bridge.simulator.link import Link
from personaplex_bridge.simulator.pace import Pace

FREEZE_S = 5.0
"""How long a zero-length packet freezes the real server."""
SERIAL, PRE_SKIP, HEADER_PAGES = 42, 3840, 2
MAX_TIMES = 50_000
"""Frame times kept for measurements: over an hour."""
MAX_LAG_FRAMES = 3000
"""Input frames waiting (four minutes, the model's whole context) before the stand-in gives up."""

_log = logging.getLogger(f"{logs.NAME}.standin")


@dataclass(slots=True)
class ModelSession:
    """What one connection to the stand-in came to."""

    voice: str
    text_prompt: str
    """As asked for."""
    used: tuple[str, str] | None = None
    """Voice and prompt the model really took: another's, if a second connection arrived."""
    frames_in: int = 0
    frames_out: int = 0
    """Frames said, with those that a fault kept from the bridge."""
    lost: int = 0
    """Of these, not sent: the fault `lose`."""
    corrupted: int = 0
    """Of these, sent with a packet that can't be decoded: the fault `corrupt`."""
    delivered: int = 0
    """Of these, handed to the network: a bad one holds frames back."""
    messages_in: int = 0
    eaten: int = 0
    """Messages that came before the handshake, and were thrown away."""
    shook_at: float | None = None
    """Clock reading when the handshake was sent."""
    ended: str = "running"
    heard_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_TIMES))
    """Clock reading when the message that completed each input frame arrived."""
    said_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_TIMES))
    """Clock reading before each output frame was sent."""


class Conversation:
    """What is heard is stepped through the model, frame by frame. Make it at the handshake."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        session: ModelSession,
        behaviour: Behaviour,
        step_s: float,
        clock: Clock,
        faults: ModelFaults,
    ) -> None:
        self._socket = socket
        self._session = session
        self._clock = clock
        self._faults = faults
        self._hearing = StrictHearing()
        self._behaviour = behaviour
        self._pace = Pace(step_s, faults, clock.now())
        self._writer = OggWriter(SERIAL)
        self._granule = 0
        self._audio_out = 0
        self._frames: asyncio.Queue[Pcm] = asyncio.Queue(MAX_LAG_FRAMES)
        self._write: Callable[[bytes], Awaitable[None]] = self._transmit
        self._link: Link[bytes] | None = None
        if faults.jitter or faults.block:
            self._link = Link(self._transmit, clock, faults.jitter, faults.block)
            self._write = self._link.put

    async def run(self) -> str:
        """Converse until the client leaves or sends what is unacceptable; say which."""
        tasks = [asyncio.create_task(self._speak(), name="standin-speak")]
        if self._link is not None:
            tasks.append(asyncio.create_task(self._link.deliver(), name="standin-deliver"))
        try:
            return await self._listen()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> str:
        async for message in self._socket:
            if self._link is not None:
                await self._link.unblocked()
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            event = parse(message.data)
            if not isinstance(event, Audio):
                continue
            self._session.messages_in += 1
            try:
                self._hear(event.payload)
            except Unacceptable as error:
                _log.warning("closed with 1000, as the real server would: %s", error)
                return f"unacceptable: {error}"
            except asyncio.QueueFull:
                return "overrun"
        return f"client left with {self._socket.close_code}"

    def _hear(self, ogg: bytes) -> None:
        arrived = self._clock.now()
        for frame in self._hearing.feed(ogg):
            self._frames.put_nowait(frame)
            self._session.frames_in += 1
            self._session.heard_at.append(arrived)
        if self._hearing.froze:
            self._hearing.froze = False
            self._pace.freeze(self._clock.now() + FREEZE_S)

    async def _speak(self) -> None:
        """The headers, then one frame out for each frame in, each after the model's step time."""
        for header in (opus_head(PRE_SKIP, RATE_HZ), opus_tags("standin")):
            await self._send(Audio(self._writer.page([header], 0)))
        while True:
            frame = await self._frames.get()
            await self._clock.sleep_until(self._pace.step(self._clock.now()))
            await self._say(self._behaviour.step(frame))

    async def _say(self, reply: Reply) -> None:
        session, faults = self._session, self._faults
        for piece in reply.pieces:
            await self._send(Text(piece))
        number = session.frames_out + 1
        corrupt = is_nth(number, faults.corrupt)
        packet = _spoilt(reply.packet) if corrupt else reply.packet
        self._granule += FRAME_SAMPLES  # at 24 kHz: half of what RFC 7845 says, as the server
        page = self._writer.page([packet], self._granule)
        session.said_at.append(self._clock.now())
        if is_nth(number, faults.lose):
            session.lost += 1
        else:
            session.corrupted += corrupt
            await self._send(Audio(page))
        session.frames_out = number

    async def _transmit(self, data: bytes) -> None:
        await self._socket.send_bytes(data)
        self._audio_out += isinstance(parse(data), Audio)
        self._session.delivered = max(0, self._audio_out - HEADER_PAGES)

    async def _send(self, message: Audio | Text) -> None:
        with contextlib.suppress(ConnectionError):  # the listener sees the end
            await self._write(serialize(message))


def _spoilt(packet: bytes) -> bytes:
    """A packet of the same length and duration that no decoder takes.

    The frame count stays what it was, written the long way (code 3), and the padding is longer
    than the packet (RFC 6716, sections 3.1 and 3.2.5).
    """
    code = packet[0] & 3
    frames = packet[1] & 0x3F if code == 3 else min(code, 1) + 1
    return bytes([packet[0] | 3, frames | 0x40]) + b"\xff" * (len(packet) - 2)
