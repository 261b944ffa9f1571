"""The web application: webhooks, the media socket, a health page, and the calls in progress."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from aiohttp import web

from personaplex_bridge import logs, memory
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.hold import HoldSound, music
from personaplex_bridge.callers import Callers, masked
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import StreamRefused
from personaplex_bridge.observing import Observer, Refused, Several
from personaplex_bridge.personas import Catalogue, Choice, choose
from personaplex_bridge.pool import ModelPool
from personaplex_bridge.record import CallRecord, Ending
from personaplex_bridge.recording.recorder import Recorder
from personaplex_bridge.session import BridgeSession, Record
from personaplex_bridge.twilio.inbound import MediaFormat, Start
from personaplex_bridge.twilio.stream import MediaStream
from personaplex_bridge.web.access import AUDIO_FORMAT, BROWSER_CALL, BROWSER_FORMATS, Access
from personaplex_bridge.web.admission import Admission
from personaplex_bridge.web.aftermath import GOING_AWAY, Aftermath
from personaplex_bridge.web.answers import Answers
from personaplex_bridge.web.browsers import BrowserCalls
from personaplex_bridge.web.hosting import vouch_for
from personaplex_bridge.web.observed import observed_by
from personaplex_bridge.web.outcomes import Outcomes
from personaplex_bridge.web.paths import STREAM_PATH
from personaplex_bridge.web.tickets import TOKEN_PARAMETER, Refusal, Tickets
from personaplex_bridge.web.waiting import Waiting
from personaplex_bridge.web.webhooks import Webhooks

CLOSE_TIMEOUT_S = 0.5
"""How long Twilio may take to answer a close frame."""

PING_AFTER_S = 25.0
"""When nothing has come along a media socket for so long it is pinged; it has half as long again to
answer. So a half-open one is found within 40 s.
"""

SHUTDOWN_TIMEOUT_S = 2.0
"""How long ending the calls in progress may take."""

IDLE_S = 1.0
"""After so long without a call there is time to tidy up."""

DRAIN_LOOK_S = 0.2

GOODBYE_TIMEOUT_S = 2.0
"""How long Twilio may take to ask what comes after a stream that we have ended."""

_log = logging.getLogger(logs.NAME)

CallOver = Callable[[CallRecord], None]

_REFUSED = {refusal: Refused[f"TOKEN_{refusal.name}"] for refusal in Refusal}


class Bridge:
    """The routes, and the calls in progress."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        pool: ModelPool,
        on_call_over: CallOver | None = None,
        *,
        observers: Sequence[Observer] = (),
        waiting_sounds: Mapping[AudioFormat, bytes] = MappingProxyType({}),
        hold_sound: HoldSound | None = None,
        callers: Callers | None = None,
        recorder: Recorder | None = None,
        app_sid: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._callers = Callers(clock) if callers is None else callers
        self._catalogue = catalogue
        self._observer = Several(*observers)
        self._access = Access(settings, clock, self._callers)
        # Without Twilio's token nobody can tell Twilio from others, and one of ours proves nothing.
        self._asks_twilio = bool(settings.twilio_auth_tokens)
        self._tickets = Tickets(clock)
        self._choose = partial(choose, catalogue, settings.persona)
        self._outcomes = Outcomes(clock)
        tickets = self._tickets if self._asks_twilio else None
        access, answers = self._access, Answers(settings, self._access, tickets)
        self._admission = Admission(pool, settings.max_calls, self._admitted, self._observer)
        lines = access, answers, self._admission, self._choose
        self.browser_calls = BrowserCalls(
            access, self._admission, self._choose, self._tickets, self._callers
        )
        """For pages of ours."""
        self._waiting = Waiting(*lines, settings, hold_sound or music(), clock)
        self._routes = (
            Webhooks(*lines, settings, app_sid),
            self._waiting,
            Aftermath(access, answers, self._ending_of),
        )
        self._on_call_over = on_call_over
        self._waiting_sounds = waiting_sounds
        self._recorder = recorder
        self._clock = clock
        self._began = time.monotonic()
        self.instance = secrets.token_hex(8)
        """Tells this bridge from others: /healthz at an address shows which one it leads to."""
        self._numbers = itertools.count(1)
        self._calls: dict[asyncio.Task[None], BridgeSession] = {}

    @property
    def records(self) -> list[CallRecord]:
        """The calls in progress, as far as they have come; without their counters."""
        return [session.record for session in self._calls.values()]

    def counted(self) -> Iterator[CallRecord]:
        """The calls in progress, as far as they have come, each with its counters as they are when
        it is given. Those that end meanwhile are left out.
        """
        for task, session in list(self._calls.items()):
            if task in self._calls:
                yield session.count()

    def count(self, call_sid: str) -> None:
        """Bring the counters in a call's record up to date, if it is in progress."""
        for session in self._calls.values():
            if session.record.call_sid == call_sid:
                session.count()

    @property
    def sessions(self) -> list[BridgeSession]:
        """The calls in progress that were let in, the oldest first."""
        return [session for session in self._calls.values() if session.record.persona]

    @property
    def catalogue(self) -> Catalogue:
        """The personas."""
        return self._catalogue

    @property
    def uptime_s(self) -> float:
        """Since this bridge was made."""
        return time.monotonic() - self._began

    @property
    def pool(self) -> ModelPool:
        """The model servers."""
        return self._pool

    @property
    def callers_waiting(self) -> int:
        """How many callers hold."""
        return self._waiting.callers

    @property
    def is_draining(self) -> bool:
        """Whether new calls are turned away."""
        return self._admission.is_closed

    def application(self) -> web.Application:
        """The aiohttp application that serves this bridge."""
        app = web.Application(
            client_max_size=self._settings.max_body_bytes,
            middlewares=[observed_by(self._observer)],
        )
        for routes in self._routes:
            routes.add_to(app.router)
        app.router.add_get(STREAM_PATH, self.serve_stream)
        app.router.add_get("/healthz", self.tell_health)
        app.router.add_get("/readyz", self.tell_readiness)
        app.cleanup_ctx.append(self._tend_pool)
        app.on_shutdown.append(self.end_calls)
        return app

    async def serve_stream(self, request: web.Request) -> web.WebSocketResponse:
        """One call's media socket, from upgrade to close."""
        self._access.check_upgrade(request)
        # As much time fits into a message of either format.
        scale = request.get(AUDIO_FORMAT, TELEPHONE).bytes_per_s // TELEPHONE.bytes_per_s
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            max_msg_size=self._settings.max_message_bytes * scale,
            heartbeat=PING_AFTER_S,
            compress=False,
            decode_text=False,  # orjson reads bytes
            protocols=tuple(BROWSER_FORMATS),
        )
        await socket.prepare(request)
        if request.transport is not None:  # else it is gone already
            await self._run_call(request, socket, request.transport)
        return socket

    async def tell_health(self, _request: web.Request) -> web.Response:
        """Alive, how many calls and tasks, since how many seconds, and how the servers stand."""
        body = {
            "status": "ok",
            "instance": self.instance,
            "sessions": len(self._calls),
            "tasks": len(asyncio.all_tasks()),
            "uptime": round(self.uptime_s, 1),
            "lines": dict(self._pool.states),
            "servers": [dataclasses.asdict(server) for server in self._pool.servers],
            "leases": "ok" if self._pool.leases_reachable else "away",
        }
        return web.json_response(body)

    async def tell_readiness(self, _request: web.Request) -> web.Response:
        """Whether new calls are welcome: 200, or 503 while draining or shutting down.

        They are when no model server is there, or no store of leases: somebody must say sorry.
        """
        if self._admission.is_closed:
            return web.json_response({"status": "draining"}, status=503)
        return web.json_response({"status": "ready"})

    async def drain(self, timeout_s: float) -> None:
        """Take no new calls; wait until those in progress are over, for so long at most, and
        end the others politely: they are told so by the TwiML after their stream.
        """
        self._admission.is_closed = True
        self._pool.retire()
        _log.info(
            "draining: %d calls go on, for %g s at most; a second signal ends them",
            len(self._calls),
            timeout_s,
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._is_needed():  # noqa: ASYNC110 - seldom, and no haste
                    await asyncio.sleep(DRAIN_LOOK_S)
        if self._calls:
            _log.warning("draining took %g s: ending %d calls", timeout_s, len(self._calls))
            await self.say_goodbye()

    async def say_goodbye(self) -> None:
        """Let no more calls in, end those in progress, and wait until Twilio has asked what to tell
        the callers.
        """
        await self.end_calls()
        await self._outcomes.all_asked(GOING_AWAY, GOODBYE_TIMEOUT_S)

    def _is_needed(self) -> bool:
        """Whether callers are here. A line is taken when a call's webhook comes, before its stream.

        Those who hold are sent away when Twilio next asks for them.
        """
        return bool(self._calls) or self._pool.is_taken or self._waiting.is_used

    async def _run_call(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
    ) -> None:
        log = logs.CallLog(next(self._numbers))
        media = request.get(AUDIO_FORMAT, TELEPHONE)
        session = BridgeSession(
            MediaStream(socket, transport, log, MediaFormat(media.encoding, media.rate_hz)),
            self._pool.line,
            partial(self._admit, request),
            self._settings,
            log,
            on_begin=self._begins,
            waiting_sound=self._waiting_sounds.get(media),
            begin_recording=self._recording_of(media),
            audio_format=media,
            clock=self._clock,
        )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler always runs in a task
        self._calls[task] = session
        try:
            await session.run()
        finally:
            del self._calls[task]
            # A browser doesn't ask what comes after.
            if session.record.ending is not None and BROWSER_CALL not in request:
                self._outcomes.ended(session.record.call_sid, session.record.ending)
            self._observer.call_over(session.record)
            if self._on_call_over is not None:
                self._on_call_over(session.record)
            if not self._calls:
                asyncio.get_running_loop().call_later(IDLE_S, self._tidy_up)

    def _recording_of(self, media: AudioFormat) -> Record | None:
        recorder = self._recorder
        return None if recorder is None else partial(recorder.begin, audio_format=media)

    def _begins(self, record: CallRecord) -> None:
        parties = self._callers.of(record.call_sid)
        record.caller, record.called = masked(parties.caller), masked(parties.called)
        self._observer.call_begins(record)

    def _tidy_up(self) -> None:
        """Nobody is calling: a good moment for what would hold a call up."""
        if not self._calls:
            memory.give_back()

    def _ending_of(self, call_sid: str) -> Ending | None:
        """How a call's last stream ended. Twilio may ask while we are still closing it."""
        ours = [record for record in self.records if record.call_sid == call_sid]
        if ours:
            ending = ours[-1].ending
            if ending is None:
                return None  # Twilio has lost it, and we don't know yet
            self._outcomes.ended(call_sid, ending)
        return self._outcomes.of(call_sid)

    def _admitted(self) -> list[str]:
        """The calls that were let in; `hosted` bounds the sockets that are still strangers."""
        return [record.call_sid for record in self.records if record.persona]

    def _admit(self, request: web.Request, start: Start) -> Choice:
        """Let a stream in that its own webhook has sent.

        Raises:
            StreamRefused: it brings no token, or not its own.
            ModelBusy: no model server was reserved for it, or no longer is, and the bridge is full.
        """
        parameters = dict(start.custom_parameters)
        token = parameters.pop(TOKEN_PARAMETER, "")
        browser_call = request.get(BROWSER_CALL)
        if browser_call not in (None, start.call_sid):
            raise self._refused(StreamRefused(Refusal.OTHER_CALL))
        if self._asks_twilio or browser_call is not None:
            self._redeem(token, start.call_sid, parameters)
        self._admission.check_room(start.call_sid)
        vouch_for(request)
        return self._choose(parameters)

    def _redeem(self, token: str, call_sid: str, parameters: Mapping[str, str]) -> None:
        try:
            self._tickets.redeem(token, call_sid, parameters)
        except StreamRefused as error:
            raise self._refused(error) from None

    def _refused(self, error: StreamRefused) -> StreamRefused:
        self._observer.refused(_REFUSED[Refusal(error.reason)])
        return error

    async def _tend_pool(self, _app: web.Application) -> AsyncIterator[None]:
        async with self._pool.tended():
            yield

    async def end_calls(self, _app: web.Application | None = None) -> None:
        """Let no more calls in, and end those in progress (close code 1001); returns once they
        have ended.
        """
        self._admission.is_closed = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=SHUTDOWN_TIMEOUT_S)
