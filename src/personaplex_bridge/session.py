"""`BridgeSession`: one call, from the media socket's first message to both sockets' close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from personaplex_bridge.audio.barge_in import CERTAIN_MS, QUEUED_MS, BargeIn, Verdict
from personaplex_bridge.audio.lag import LagMeter
from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS
from personaplex_bridge.audio.turns import Turns
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import ModelBusy, ModelError, StreamError
from personaplex_bridge.hearing import Hearing
from personaplex_bridge.logs import Log
from personaplex_bridge.personaplex.messages import Audio, Message, ServerError, Text
from personaplex_bridge.personaplex.text import WordJoiner
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import Choice
from personaplex_bridge.record import CallRecord, EndedBy, Ending, Interruption, Lag, Word
from personaplex_bridge.speaking import Speaking
from personaplex_bridge.twilio.inbound import Dtmf, Mark, Media, Start, Stop
from personaplex_bridge.twilio.stream import MediaStream

START_TIMEOUT_S = 10.0
"""Twilio sends `start` right after connecting."""

MEDIA_TIMEOUT_S = 60.0
"""Twilio sends 50 frames a second; without any for so long, nobody is there."""

MODEL_SILENCE_S = 20.0
"""A model that hears and says nothing for so long is stuck: it stalls for 5 s at most."""

MAX_KEYS = 100
"""DTMF digits kept."""

END_OF_WORD_S = 0.4
"""A word is complete when the model has said no more for so long (five of its frames)."""

NORMAL, GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1001, 1011, 1013


class ModelLine(Protocol):
    """What a session needs of a model that is ready to talk, whichever server it runs on."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """How many messages were ignored, by reason."""
        ...

    async def send_audio(self, ogg: bytes) -> None:
        """Give the model Ogg Opus bytes."""
        ...

    async def receive(self) -> Message:
        """The model's next message; raises ModelError when the line has ended."""
        ...


Connect = Callable[[str, Role], AbstractAsyncContextManager[ModelLine]]
"""A call's line to the model, by the call's SID; entering it waits until the model is ready."""
Admit = Callable[[Start], Choice]
"""Lets a call in and says who the model is to be; raises StreamError if it isn't let in."""


class _CallOver(Exception):
    """Ends the session's TaskGroup."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


class BridgeSession:
    """One call. `run` it once.

    `hearing` is the caller's audio on its way to the model, `speaking` the model's on its way to
    the caller; the session's loops move messages between them and the two sockets.
    """

    def __init__(
        self,
        stream: MediaStream,
        connect: Connect,
        admit: Admit,
        settings: Settings,
        log: Log,
        *,
        waiting_sound: bytes | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.record = CallRecord()
        self._stream = stream
        self._connect = connect
        self._admit = admit
        self._waiting_sound = waiting_sound
        self._log = log
        self._clock = clock
        self._began_s = clock.now()
        self._hearing = Hearing(settings, clock)
        self._speaking = Speaking(settings, stream, clock)
        self._barge_in = BargeIn() if settings.barge_in else None
        self._turns = Turns()
        self._is_ready = asyncio.Event()
        self._faults_told: set[str] = set()
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
                group.create_task(self._ring(), name="ring")
                group.create_task(self._talk_to_model(choice.role), name="talk-to-model")
        except* (_CallOver, ModelError, StreamError) as group:
            ending = _ending_after(_first(group))
        assert ending is not None  # noqa: S101 - the loops only end by an exception
        return ending

    def _open_record(self, start: Start) -> Choice:
        self._began_s = self._clock.now()
        choice = self._admit(start)
        for warning in choice.warnings:
            self._log.warning("%s", warning)
        self.record.call_sid, self.record.stream_sid = start.call_sid, start.stream_sid
        self.record.persona = choice.persona
        self._log.info("call begins: %.40r, persona %s", start.call_sid, choice.persona)
        return choice

    async def _hear_caller(self) -> None:
        """Twilio socket to backlog. Never waits for the model."""
        record = self.record
        while (event := await self._stream.receive()) is not None:
            match event:
                case Media():
                    if (verdict := self._hear(event)) is not None:
                        await self._obey(verdict)
                case Mark(name=name):
                    self._speaking.echoed(name)
                case Dtmf(digit=digit):
                    record.keys = (record.keys + digit)[-MAX_KEYS:]
                case Stop():
                    raise _CallOver(Ending(EndedBy.CALLER, "the caller hung up", NORMAL))
                case _:
                    pass
        raise _CallOver(Ending(EndedBy.CALLER, "Twilio closed without a stop", NORMAL))

    def _hear(self, media: Media) -> Verdict | None:
        """Take the caller's audio; what it means for the model's, if that can be told now."""
        now_s, barge_in, verdict = self._clock.now(), self._barge_in, None
        ready = self._is_ready.is_set()
        voiced = self._hearing.hear(media.timestamp_ms, media.payload, now_s)
        for number, has_voice in enumerate(voiced, start=1):
            self._turns.caller(has_voice, now_s - (len(voiced) - number) * FRAME_MS / 1000)
            if barge_in is not None and ready and verdict is not Verdict.CLEAR:
                verdict = barge_in.hear(has_voice, self._speaking.waiting_ms)
        return verdict

    async def _obey(self, verdict: Verdict) -> None:
        """Let the model's audio play, hold it back, or clear it."""
        if verdict is Verdict.CLEAR and self._barge_in is not None:
            began_s = self._elapsed_s() - CERTAIN_MS / 1000
            self.record.barge_ins.append(Interruption(began_s, self._barge_in.waiting_ms))
            await self._speaking.clear()
        else:
            self._speaking.hold(verdict is Verdict.HOLD)

    def _let_play(self) -> None:
        """Nothing comes from Twilio: nobody is interrupting, and nothing is held back for long."""
        if self._barge_in is not None:
            self._barge_in.end()
            self._speaking.hold(False)

    async def _watch_caller(self) -> None:
        """End a call whose socket has gone silent without closing: a half-open connection."""
        while True:
            before = self._hearing.audio.received_bytes
            await asyncio.sleep(MEDIA_TIMEOUT_S)
            if self._hearing.audio.received_bytes == before:
                raise StreamError(f"no media for {MEDIA_TIMEOUT_S:g} s")

    async def _ring(self) -> None:
        """Let the caller hear that somebody will answer."""
        if self._waiting_sound is not None:
            await self._speaking.ring(self._waiting_sound, self._is_ready)

    async def _talk_to_model(self, role: Role) -> None:
        """The model's side, from connecting to closing."""
        async with self._connect(self.record.call_sid, role) as line:
            self.record.handshake_s = self._elapsed_s()
            self._is_ready.set()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._hearing.send(line), name="uplink")
                    group.create_task(self._hearing.keep_time(self._let_play), name="keep-time")
                    group.create_task(self._hear_model(line), name="hear-model")
                    group.create_task(self._speaking.play(), name="downlink")
                    group.create_task(self._watch_model(), name="watch-model")
            finally:
                self._tell_faults(line)
                self.record.ignored_messages.update(line.ignored)

    async def _hear_model(self, line: ModelLine) -> None:
        """Model to playout."""
        damage = self._speaking.transcoder.damage
        while True:
            match await line.receive():
                case Audio(payload=ogg):
                    await self._say(ogg)
                case Text(piece=piece):
                    self._keep(self._words.feed(piece))
                    self._last_text_s = self._elapsed_s()
                case ServerError(message=message):
                    self._log.warning("the model server reports: %.200r", message)
                case _:
                    pass
            if len(line.ignored) + len(damage) > len(self._faults_told):
                self._tell_faults(line)

    async def _say(self, ogg: bytes) -> None:
        now_s, speaking = self._clock.now(), self._speaking
        waiting_ms = speaking.waiting_ms()
        heard_s = now_s + waiting_ms / 1000
        # Something to interrupt: an onset must be noticed at once.
        self._hearing.audio.in_haste = self._barge_in is not None and waiting_ms > QUEUED_MS
        loud = speaking.say(ogg, now_s)
        if not loud:
            return
        await speaking.flush()
        self._hearing.answered(speaking.transcoder.decoded_ms, now_s)
        if self.record.first_audio_s is None:
            self.record.first_audio_s = now_s - self._began_s
        if now_s - self._began_s - self._last_text_s > END_OF_WORD_S:
            self._keep(self._words.flush())
        for number, is_loud in enumerate(loud, start=1):
            self._turns.model(is_loud, heard_s + number * FRAME_MS / 1000)

    async def _watch_model(self) -> None:
        """End a call whose model has stopped answering: one frame out is due for each in."""
        sends, answers = self._hearing.transcoder, self._speaking.transcoder
        while True:
            sent, heard = sends.packets, answers.packets
            await asyncio.sleep(MODEL_SILENCE_S)
            if sends.packets > sent and answers.packets == heard:
                raise ModelError(f"the model has said nothing for {MODEL_SILENCE_S:g} s")

    def _tell_faults(self, line: ModelLine) -> None:
        """One line for the first of each kind of fault; the record counts them all."""
        for what, counts in (
            ("ignored a message from the model", line.ignored),
            ("skipped damage in the model's audio", self._speaking.transcoder.damage),
        ):
            for kind in counts.keys() - self._faults_told:
                self._faults_told.add(kind)
                self._log.warning("%s: %s", what, kind)

    def _keep(self, words: list[str]) -> None:
        """Words that are complete by now; their last piece came with the text before."""
        self.record.words.extend(Word(self._last_text_s, word) for word in words)

    def _finish(self, ending: Ending) -> None:
        self._keep(self._words.flush())
        record = self.record
        record.ending = ending
        record.duration_s = self._elapsed_s()
        record.bad_messages = self._stream.bad_messages
        self._count_uplink(record)
        self._count_downlink(record)
        record.turn_delays_s = list(self._turns.delays_s)
        level = logging.INFO if ending.close_code in (NORMAL, GOING_AWAY) else logging.WARNING
        self._log.log(level, "%s", record.summary())

    def _count_uplink(self, record: CallRecord) -> None:
        hearing, audio = self._hearing, self._hearing.audio
        if hearing.first_sent_s is not None:
            record.first_sent_s = hearing.first_sent_s - self._began_s
        record.caller_frames = audio.received_bytes // FRAME_BYTES
        record.filled_frames = audio.time.filled
        record.doubled_frames = audio.time.doubled
        record.shortened_frames = audio.backlog.shortened
        record.dropped_frames = audio.backlog.dropped
        record.unsent_frames = audio.waiting_frames + hearing.transcoder.held_frames
        record.gated_frames = audio.gated
        record.uplink_packets = hearing.transcoder.paged
        record.uplink_lag = _lag(audio.lag)

    def _count_downlink(self, record: CallRecord) -> None:
        speaking, playout = self._speaking, self._speaking.playout
        record.model_packets = speaking.transcoder.packets
        record.concealed_packets = speaking.transcoder.concealed
        record.audio_damage = speaking.transcoder.damage
        record.model_frames = int(speaking.transcoder.decoded_ms) // FRAME_MS
        record.cushion_frames = playout.counts.cushion
        record.pauses_shortened_frames = playout.counts.shortened
        record.overdue_frames = playout.counts.dropped
        record.cleared_frames = playout.counts.cleared
        record.tail_frames = playout.counts.tail
        held_frames = speaking.transcoder.held_frames
        record.unplayed_frames = playout.queued_ms // FRAME_MS + held_frames
        record.ringing_frames = speaking.ringing_frames
        record.downlink_frames = speaking.frames_sent
        record.downlink_lag = _lag(playout.lag)
        record.gaps, record.gap_ms = playout.counts.gaps, round(playout.counts.gap_ms)

    def _elapsed_s(self) -> float:
        return self._clock.now() - self._began_s


def _lag(meter: LagMeter) -> Lag:
    return Lag(meter.percentile_ms(50), meter.percentile_ms(99), meter.max_ms)


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
