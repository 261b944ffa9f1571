"""The model server's stand-in: NVIDIA's protocol, kept as strictly as the server keeps it.

Contract and odd behaviours: docs/protocol.md. Differences on purpose: it has no model, and what
it says is a `Behaviour`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from aiohttp import WSMsgType, web

from personaplex_bridge import logs
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import CHAT_PATH
from personaplex_bridge.personaplex.messages import Audio, Handshake, Text, parse, serialize
from personaplex_bridge.personaplex.voices import VOICES
from personaplex_bridge.simulator import behaviours
from personaplex_bridge.simulator.behaviours import FRAME_SAMPLES, RATE_HZ, Behaviour
from personaplex_bridge.simulator.hearing import StrictHearing, Unacceptable

PROMPT_STEP_S = 0.055
"""One step of the model while it takes in its prompts; it eats one message a step."""
EMPTY_PROMPT_DIES_S = 1.7
FREEZE_S = 5.0
"""How long a zero-length packet freezes the real server."""
SERIAL, PRE_SKIP = 42, 3840
MAX_TIMES = 50_000
"""Frame times kept for measurements: over an hour."""
MAX_LAG_FRAMES = 3000
"""Input frames waiting (four minutes, the model's whole context) before the stand-in gives up."""

_log = logging.getLogger(f"{logs.NAME}.standin")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How the stand-in behaves."""

    behave: str = "repeat"
    prompt_ms: int = 500
    """From connection to handshake; a real one takes seconds."""
    step_ms: int = 40
    """Time of one model step; above 80 it falls behind, as a slow GPU does."""
    sessions: int = 1
    """How many it serves at a time. NVIDIA's server: 1."""


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
    messages_in: int = 0
    eaten: int = 0
    """Messages that came before the handshake, and were thrown away."""
    ended: str = "running"
    heard_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_TIMES))
    """Clock reading when the message that completed each input frame arrived."""
    said_at: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_TIMES))
    """Clock reading before each output frame was sent."""


class ModelServer:
    """The stand-in. `sessions` lists every connection it had (the last thousand).

    `behave` makes the behaviour of each session, instead of the one named in the options.
    """

    def __init__(
        self,
        options: ModelOptions,
        clock: Clock = SYSTEM_CLOCK,
        behave: Callable[[], Behaviour] | None = None,
    ) -> None:
        self._make_behaviour = behave or partial(behaviours.make, options.behave)
        self.sessions: deque[ModelSession] = deque(maxlen=1000)
        self.crowded = 0
        """Connections that arrived while another was open: persona crosstalk."""
        self._options = options
        self._clock = clock
        self._slots = asyncio.Semaphore(options.sessions)
        self._open = 0
        # What the real server keeps in shared state: written on arrival, read after the lock.
        self._voice_asked = self._voice = self._prompt = ""

    def application(self) -> web.Application:
        """The aiohttp application with the one route."""
        app = web.Application()
        app.router.add_get(CHAT_PATH, self._chat)
        return app

    async def _chat(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, timeout=1.0)
        await socket.prepare(request)  # a plain GET gets its 400 here
        query = request.query
        session = ModelSession(query.get("voice_prompt", ""), query.get("text_prompt", ""))
        self.sessions.append(session)
        self.crowded += self._open >= self._options.sessions
        self._open += 1
        try:
            self._write_shared_state(request)
            async with self._slots:
                await self._serve(socket, session)
        except _Dies as death:
            session.ended = f"died: {death}"
            _log.warning("session died as the real server would: %s", death)
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._open -= 1
        return socket

    def _write_shared_state(self, request: web.Request) -> None:
        query = request.query
        if "voice_prompt" not in query or "text_prompt" not in query or "seed" in query:
            raise _Dies("voice_prompt or text_prompt is missing, or there is a seed")
        voice = query["voice_prompt"]
        if voice != self._voice_asked:
            self._voice_asked = voice
            if voice.removesuffix(".pt") not in VOICES or not voice.endswith(".pt"):
                raise _Dies("unknown voice")
            self._voice = voice
        self._prompt = query["text_prompt"]

    async def _serve(self, socket: web.WebSocketResponse, session: ModelSession) -> None:
        if not await self._take_prompts(socket, session):
            session.ended = "left before the handshake"
            return
        session.used = (self._voice, self._prompt)
        await socket.send_bytes(serialize(Handshake()))
        step_s = self._options.step_ms / 1000
        behaviour = self._make_behaviour()
        conversation = _Conversation(socket, session, behaviour, step_s, self._clock)
        session.ended = await conversation.run()
        await socket.close()

    async def _take_prompts(self, socket: web.WebSocketResponse, session: ModelSession) -> bool:
        """Spend the prompt time, eating one message a step. False if the client left."""
        clock = self._clock
        if not self._prompt:
            await clock.sleep_until(clock.now() + EMPTY_PROMPT_DIES_S)
            raise _Dies("text_prompt is empty")
        end = clock.now() + self._options.prompt_ms / 1000
        while True:
            step_end = min(clock.now() + PROMPT_STEP_S, end)
            with contextlib.suppress(TimeoutError):
                message = await socket.receive(timeout=0.001)
                if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR):
                    return False
                session.eaten += 1
            if clock.now() >= end:
                return True
            await clock.sleep_until(step_end)


class _Conversation:
    """From the handshake to the end: what is heard is stepped through the model, frame by frame."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        session: ModelSession,
        behaviour: Behaviour,
        step_s: float,
        clock: Clock,
    ) -> None:
        self._socket = socket
        self._session = session
        self._step_s = step_s
        self._clock = clock
        self._hearing = StrictHearing()
        self._behaviour = behaviour
        self._writer = OggWriter(SERIAL)
        self._granule = 0
        self._frames: asyncio.Queue[Pcm] = asyncio.Queue(MAX_LAG_FRAMES)
        self._frozen_until = 0.0

    async def run(self) -> str:
        """Converse until the client leaves or sends what is unacceptable; say which."""
        for header in (opus_head(PRE_SKIP, RATE_HZ), opus_tags("standin")):
            await self._send(Audio(self._writer.page([header], 0)))
        speaking = asyncio.create_task(self._speak(), name="standin-speak")
        try:
            return await self._listen()
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _listen(self) -> str:
        async for message in self._socket:
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
            self._frozen_until = self._clock.now() + FREEZE_S

    async def _speak(self) -> None:
        """One frame out for each frame in, each after the model's step time."""
        ready = 0.0
        while True:
            frame = await self._frames.get()
            ready = max(ready, self._clock.now(), self._frozen_until) + self._step_s
            await self._clock.sleep_until(ready)
            reply = self._behaviour.step(frame)
            for piece in reply.pieces:
                await self._send(Text(piece))
            self._granule += FRAME_SAMPLES  # at 24 kHz: half of what RFC 7845 says, as the server
            self._session.said_at.append(self._clock.now())
            await self._send(Audio(self._writer.page([reply.packet], self._granule)))
            self._session.frames_out += 1

    async def _send(self, message: Audio | Text) -> None:
        with contextlib.suppress(ConnectionError):  # the listener sees the end
            await self._socket.send_bytes(serialize(message))


class _Dies(Exception):
    """The real server's handler raises here: the socket ends without a close frame (1006)."""
