"""`BridgeSession`: one call, from the media socket's first message to both sockets' close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from personaplex_bridge.audio.backlog import MulawBacklog
from personaplex_bridge.audio.downlink import make_downlink
from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import HandshakeTimeout, ModelBusy, ModelError, StreamError
from personaplex_bridge.logs import Log
from personaplex_bridge.personaplex.messages import Audio, Handshake, Message, ServerError, Text
from personaplex_bridge.personaplex.text import WordJoiner
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import Choice
from personaplex_bridge.record import CallRecord, EndedBy, Ending, Word
from personaplex_bridge.twilio.inbound import Dtmf, Media, Start, Stop
from personaplex_bridge.twilio.stream import MediaStream

START_TIMEOUT_S = 10.0
"""Twilio sends `start` right after connecting."""

MEDIA_TIMEOUT_S = 60.0
"""Twilio sends 50 frames a second; without any for so long, nobody is there."""

MODEL_SILENCE_S = 20.0
"""A model that hears and says nothing for so long is stuck: it stalls for 5 s at most."""

MAX_PLAYOUT_S = 10.0
"""Most model audio that may wait at Twilio; what comes beyond it is dropped and counted."""

MAX_KEYS = 100
"""DTMF digits kept."""

END_OF_WORD_S = 0.4
"""A word is complete when the model has said no more for so long (five of its frames)."""

NORMAL, GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1001, 1011, 1013


class ModelLine(Protocol):
    """What a session needs of a model, whichever server it runs on."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """How many messages were ignored, by reason."""
        ...

    async def send_audio(self, ogg: bytes) -> None:
        """Give the model Ogg Opus bytes."""
        ...

    async def receive(self) -> Message:
        """The model's next message, the handshake first; raises ModelError when it has ended."""
        ...

    async def keepalive(self) -> None:
        """Keep the line up; raise ModelError when it is dead. Never returns."""
        ...


Connect = Callable[[Role], AbstractAsyncContextManager[ModelLine]]
ChooseRole = Callable[[Mapping[str, str]], Choice]


class _CallOver(Exception):
    """Ends the session's TaskGroup."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


class BridgeSession:
    """One call. `run` it once.

    The caller's audio passes through a backlog bounded by media time (UPLINK_BACKLOG_MS): before
    the model's handshake it keeps the latest words, and later it absorbs a model that pushes
    back, without the Twilio socket ever waiting. Model audio is pushed back instead of kept: the
    line reads no further while the Twilio socket is full.
    """

    def __init__(
        self,
        stream: MediaStream,
        connect: Connect,
        choose_role: ChooseRole,
        settings: Settings,
        log: Log,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.record = CallRecord()
        self._stream = stream
        self._connect = connect
        self._choose_role = choose_role
        self._handshake_timeout_s = settings.handshake_timeout_s
        self._log = log
        self._clock = clock
        self._began = clock.now()
        self._page_bytes = settings.packets_per_page * FRAME_BYTES
        self._backlog = MulawBacklog(settings.uplink_backlog_ms)
        self._caller_bytes = 0
        self._heard_until_s = 0.0
        self._faults_told: set[str] = set()
        self._page_is_waiting = asyncio.Event()
        self._uplink = make_uplink(settings.transcoder, settings.packets_per_page)
        self._downlink = make_downlink(settings.transcoder)
        self._words = WordJoiner()
        self._last_text_s = 0.0

    async def run(self) -> CallRecord:
        """Bridge the call until either side ends it, then close the other.

        Errors of either side end in the record, not in an exception. Cancelling ends the call
        with close code 1001 (going away) and passes on.
        """
        ending = Ending(EndedBy.BRIDGE, "internal error", INTERNAL_ERROR)
        try:
            ending = await self._bridge()
        except asyncio.CancelledError:
            ending = Ending(EndedBy.BRIDGE, "shutting down", GOING_AWAY)
            raise
        finally:
            self._finish(ending)
            # In a task of its own: in Python 3.11.2 (Debian 12's; mended by 3.11.7) a task whose
            # TaskGroup failed keeps a cancellation request, and asyncio.timeout, which looks for
            # none at all, then lets its own CancelledError out.
            await asyncio.create_task(self._stream.close(ending.close_code), name="close-stream")
        return self.record

    async def _bridge(self) -> Ending:
        """Run the call's loops; whatever ends one of them ends the call."""
        ending = None
        try:
            start = await self._stream.start(START_TIMEOUT_S)
            choice = self._open_record(start)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear_caller(), name="hear-caller")
                group.create_task(self._watch_caller(), name="watch-caller")
                group.create_task(self._talk_to_model(choice.role), name="talk-to-model")
        except* (_CallOver, ModelError, StreamError) as group:
            ending = _ending_after(_first(group))
        assert ending is not None  # noqa: S101 - the loops only end by an exception
        return ending

    def _open_record(self, start: Start) -> Choice:
        self._began = self._clock.now()
        choice = self._choose_role(start.custom_parameters)
        for warning in choice.warnings:
            self._log.warning("%s", warning)
        self.record.call_sid, self.record.stream_sid = start.call_sid, start.stream_sid
        self.record.persona = choice.persona
        self._log.info("call begins: %.40r, persona %s", start.call_sid, choice.persona)
        return choice

    async def _hear_caller(self) -> None:
        """Twilio socket to backlog. Never waits for the model."""
        record, backlog = self.record, self._backlog
        while (event := await self._stream.receive()) is not None:
            match event:
                case Media(payload=payload):
                    backlog.append(payload)
                    self._caller_bytes += len(payload)
                    if len(backlog) >= self._page_bytes:
                        self._page_is_waiting.set()
                case Dtmf(digit=digit):
                    record.keys = (record.keys + digit)[-MAX_KEYS:]
                case Stop():
                    raise _CallOver(Ending(EndedBy.CALLER, "the caller hung up", NORMAL))
                case _:
                    pass
        raise _CallOver(Ending(EndedBy.CALLER, "Twilio closed without a stop", NORMAL))

    async def _watch_caller(self) -> None:
        """End a call whose socket has gone silent without closing: a half-open connection."""
        while True:
            before = self._caller_bytes
            await asyncio.sleep(MEDIA_TIMEOUT_S)
            if self._caller_bytes == before:
                raise StreamError(f"no media for {MEDIA_TIMEOUT_S:g} s")

    async def _talk_to_model(self, role: Role) -> None:
        """The model's side, from connecting to closing."""
        async with self._connect(role) as line:
            try:
                await self._await_handshake(line)
                self.record.handshake_s = self._elapsed_s()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._send_uplink(line), name="uplink")
                    group.create_task(self._play_downlink(line), name="downlink")
                    group.create_task(self._watch_model(), name="watch-model")
                    group.create_task(line.keepalive(), name="keepalive")
            finally:
                self._tell_faults(line)
                self.record.ignored_messages.update(line.ignored)

    async def _await_handshake(self, line: ModelLine) -> None:
        """Wait until the model has taken in its prompts: seconds, not milliseconds."""
        try:
            async with asyncio.timeout(self._handshake_timeout_s):
                while not isinstance(message := await line.receive(), Handshake):
                    self._tell_error(message)
        except TimeoutError:
            late = f"no handshake within {self._handshake_timeout_s:g} s"
            raise HandshakeTimeout(late) from None

    async def _send_uplink(self, line: ModelLine) -> None:
        """Backlog to model, in pages aligned to the model's frame."""
        await line.send_audio(self._uplink.headers())
        while True:
            await self._page_is_waiting.wait()
            self._page_is_waiting.clear()
            for page in self._uplink.feed(self._backlog.take(self._page_bytes)):
                await line.send_audio(page)

    async def _play_downlink(self, line: ModelLine) -> None:
        """Model to Twilio socket."""
        while True:
            match await line.receive():
                case Audio(payload=ogg):
                    await self._play(self._downlink.feed(ogg))
                case Text(piece=piece):
                    self._keep(self._words.feed(piece))
                    self._last_text_s = self._elapsed_s()
                case other:
                    self._tell_error(other)
            if len(line.ignored) + len(self._downlink.damage) > len(self._faults_told):
                self._tell_faults(line)

    async def _watch_model(self) -> None:
        """End a call whose model has stopped answering: one frame out is due for each in."""
        while True:
            sent, heard = self._uplink.packets, self._downlink.packets
            await asyncio.sleep(MODEL_SILENCE_S)
            if self._uplink.packets > sent and self._downlink.packets == heard:
                raise ModelError(f"the model has said nothing for {MODEL_SILENCE_S:g} s")

    async def _play(self, mulaw: bytes) -> None:
        """Send to Twilio, unless too much is waiting there: Twilio itself keeps ten minutes."""
        if not mulaw:
            return  # header pages, or less than a frame
        record, now_s = self.record, self._elapsed_s()
        if record.first_audio_s is None:
            record.first_audio_s = now_s
        if now_s - self._last_text_s > END_OF_WORD_S:
            self._keep(self._words.flush())
        self._heard_until_s = max(self._heard_until_s, now_s)
        frames = len(mulaw) // FRAME_BYTES
        if self._heard_until_s - now_s > MAX_PLAYOUT_S:
            record.unplayed_frames += frames
            return
        self._heard_until_s += frames * FRAME_MS / 1000
        record.downlink_frames += frames
        await self._stream.play(mulaw)

    def _tell_error(self, message: Message) -> None:
        if isinstance(message, ServerError):
            self._log.warning("the model server reports: %.200r", message.message)

    def _tell_faults(self, line: ModelLine) -> None:
        """One line for the first of each kind of fault; the record counts them all."""
        for what, counts in (
            ("ignored a message from the model", line.ignored),
            ("skipped damage in the model's audio", self._downlink.damage),
        ):
            for kind in counts.keys() - self._faults_told:
                self._faults_told.add(kind)
                self._log.warning("%s: %s", what, kind)

    def _keep(self, words: list[str]) -> None:
        """Words that are complete by now; their last piece came with the text before."""
        self.record.words.extend(Word(self._last_text_s, word) for word in words)

    def _finish(self, ending: Ending) -> None:
        record = self.record
        self._keep(self._words.flush())
        record.ending = ending
        record.duration_s = self._elapsed_s()
        record.caller_frames = self._caller_bytes // FRAME_BYTES
        record.dropped_frames = self._backlog.dropped_frames
        record.unsent_frames = len(self._backlog) // FRAME_BYTES
        record.uplink_packets = self._uplink.packets
        record.model_packets = self._downlink.packets
        record.bad_messages = self._stream.bad_messages
        record.audio_damage = self._downlink.damage
        level = logging.INFO if ending.close_code in (NORMAL, GOING_AWAY) else logging.WARNING
        self._log.log(level, "%s", record.summary())

    def _elapsed_s(self) -> float:
        return self._clock.now() - self._began


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that came first: the others are its consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _ending_after(error: BaseException) -> Ending:
    """The one place where errors become close codes."""
    match error:
        case _CallOver():
            return error.ending
        case ModelBusy():
            return Ending(EndedBy.MODEL, str(error), TRY_AGAIN_LATER)
        case ModelError():
            return Ending(EndedBy.MODEL, str(error), INTERNAL_ERROR)
        case _:
            code = error.code if isinstance(error, StreamError) else INTERNAL_ERROR
            return Ending(EndedBy.CALLER, str(error), code)
