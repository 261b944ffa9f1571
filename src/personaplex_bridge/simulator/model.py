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
from dataclasses import dataclass
from functools import partial

from aiohttp import WSMsgType, web

from personaplex_bridge import logs
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.personaplex.messages import Handshake, serialize
from personaplex_bridge.personaplex.voices import VOICES
from personaplex_bridge.simulator import behaviours
from personaplex_bridge.simulator.behaviours import Behaviour
from personaplex_bridge.simulator.conversation import Conversation, ModelSession
from personaplex_bridge.simulator.faults import NO_MODEL_FAULTS, ModelFaults
from personaplex_bridge.values import CHAT_PATH

PROMPT_STEP_S = 0.055
"""One step of the model while it takes in its prompts; it eats one message a step."""
EMPTY_PROMPT_DIES_S = 1.7

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
    faults: ModelFaults = NO_MODEL_FAULTS


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
        session.shook_at = self._clock.now()
        try:
            await socket.send_bytes(serialize(Handshake()))
        except ConnectionError:
            session.ended = "left at the handshake"
            return
        step_s, faults = self._options.step_ms / 1000, self._options.faults
        behaviour = self._make_behaviour()
        conversation = Conversation(socket, session, behaviour, step_s, self._clock, faults)
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


class _Dies(Exception):
    """The real server's handler raises here: the socket ends without a close frame (1006)."""
