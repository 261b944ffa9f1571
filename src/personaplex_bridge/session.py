"""`BridgeSession`: one call, from the media socket's first message to both sockets' close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from personaplex_bridge.accounts import count_downlink, count_uplink
from personaplex_bridge.audio.barge_in import CERTAIN_MS, BargeIn, Verdict
from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.mulaw import FRAME_MS
from personaplex_bridge.audio.turns import Turns
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.config import Settings
from personaplex_bridge.conversation import Connect, Conversation, ModelLine
from personaplex_bridge.errors import HandshakeTimeout, ModelBusy, ModelError, StreamError
from personaplex_bridge.hearing import Hearing
from personaplex_bridge.logs import Log
from personaplex_bridge.loops import LoopGroup
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import Choice
from personaplex_bridge.record import CallRecord, EndedBy, Ending, Failure, Interruption
from personaplex_bridge.recording.recorder import Recording
from personaplex_bridge.recovery import Recovery, with_recap
from personaplex_bridge.speaking import Speaking
from personaplex_bridge.twilio.inbound import Dtmf, Mark, Media, Start, Stop
from personaplex_bridge.twilio.pace import Pace
from personaplex_bridge.twilio.stream import MediaStream

MAX_KEYS = 100
"""DTMF digits kept."""

NORMAL, GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER = 1000, 1001, 1011, 1013


Admit = Callable[[Start], Choice]
"""Lets a call in and says who the model is to be; raises StreamError if it isn't let in."""

Record = Callable[[str, Log], Recording]
"""Begins the recording of a call, by its SID."""

OnBegin = Callable[[CallRecord], None]
"""Is told that a call was let in, with its record."""


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
        on_begin: OnBegin = lambda _record: None,
        waiting_sound: bytes | None = None,
        begin_recording: Record | None = None,
        audio_format: AudioFormat = TELEPHONE,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.audio_format = audio_format
        """Of the media, both ways; `stream`, `waiting_sound` and the recording have the same."""
        self.record = CallRecord()
        self._on_begin = on_begin
        self._stream = stream
        self._connect = connect
        self._admit = admit
        self._waiting_sound = waiting_sound
        self._begin_recording = begin_recording
        self._recording: Recording | None = None
        self._settings = settings
        self._log = log
        self._clock = clock
        self._began_s = self._opened_s = clock.now()
        self._hearing = Hearing(settings, clock, audio_format)
        self._speaking = Speaking(settings, stream, clock, audio_format)
        self._barge_in = BargeIn() if settings.barge_in else None
        self._turns = Turns()
        self._is_ready = asyncio.Event()
        self._is_lost = asyncio.Event()
        self._told_to_end: Ending | None = None
        self._is_told = asyncio.Event()

    @property
    def hearing(self) -> Hearing:
        """The caller's audio on its way; to look at."""
        return self._hearing

    @property
    def speaking(self) -> Speaking:
        """The model's audio on its way; to look at."""
        return self._speaking

    @property
    def turn_delays_s(self) -> Sequence[float]:
        """From the caller's last voice to the model's first sound, turn by turn."""
        return self._turns.delays_s

    @property
    def answered_s(self) -> Sequence[float]:
        """When each of those first sounds was heard, since the stream's start."""
        return [at_s - self._began_s for at_s in self._turns.answered_s]

    @property
    def elapsed_s(self) -> float:
        """Since the stream's start."""
        return self._elapsed_s()

    def end(self, ending: Ending) -> None:
        """Have the call end like this: somebody who runs the bridge says so. The first to say so
        counts; a call that is over stays as it is.
        """
        if self._told_to_end is None:
            self._told_to_end = ending
            self._is_told.set()

    async def run(self) -> CallRecord:
        """Bridge the call until either side ends it, then close the other.

        Errors of either side end in the record, not in an exception. Cancelling ends the call
        with close code 1001 (going away) and passes on.
        """
        ending = Ending(EndedBy.BRIDGE, "internal error", INTERNAL_ERROR, "internal_error")
        try:
            ending = await self._bridge()
        except asyncio.CancelledError:
            ending = Ending(EndedBy.BRIDGE, "shutting down", GOING_AWAY, "shutting_down")
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
            start = await self._stream.start(self._settings.start_timeout_s)
            choice = self._open_record(start)
            async with LoopGroup() as group:
                group.create_task(self._hear_caller(), name="hear-caller")
                group.create_task(self._watch_caller(), name="watch-caller")
                group.create_task(self._limit_length(), name="limit-length")
                group.create_task(self._wait_to_be_told(), name="wait-to-be-told")
                group.create_task(self._fill_silence(), name="fill-silence")
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
        if self._begin_recording is not None:
            self._recording = self._begin_recording(start.call_sid, self._log)
            self._speaking.tape = self._recording.tape
            self.record.recording = self._recording.path
        self._on_begin(self.record)
        return choice

    async def _hear_caller(self) -> None:
        """Twilio socket to backlog. Never waits for the model."""
        record, pace = self.record, Pace(self._opened_s, self.audio_format.bytes_per_s)
        while (event := await self._stream.receive()) is not None:
            size = len(event.payload) if isinstance(event, Media) else 0
            pace.note(size, self._clock.now())
            match event:
                case Media():
                    if (verdict := self._hear(event)) is not None:
                        await self._obey(verdict)
                case Mark(name=name):
                    self._speaking.echoed(name)
                case Dtmf(digit=digit):
                    record.keys = (record.keys + digit)[-MAX_KEYS:]
                case Stop():
                    raise _CallOver(Ending(EndedBy.CALLER, "the caller hung up", NORMAL, "hung_up"))
                case _:
                    pass
        # Who hangs up sends a stop: the caller may still be there, and hears what comes after it.
        raise StreamError("Twilio closed without a stop")

    def _hear(self, media: Media) -> Verdict | None:
        """Take the caller's audio; what it means for the model's, if that can be told now."""
        now_s, barge_in, verdict = self._clock.now(), self._barge_in, None
        if self._recording is not None:
            self._recording.tape.hear(media.timestamp_ms, media.payload, now_s)
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
            if self._speaking.playout.is_loud:  # nobody interrupts silence
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
        timeout_s = self._settings.media_timeout_s
        heard_s = self._clock.now()
        while True:
            before = self._hearing.audio.received_bytes
            await self._clock.sleep_until(heard_s + timeout_s)
            if self._hearing.audio.received_bytes == before:
                raise StreamError(f"no media for {timeout_s:g} s")
            heard_s = self._hearing.heard_s

    async def _limit_length(self) -> None:
        """End a call that is longer than any may be."""
        await self._clock.sleep_until(self._began_s + self._settings.max_call_s)
        over = Ending(EndedBy.BRIDGE, "the longest call is over", GOING_AWAY, "longest_call")
        raise _CallOver(over)

    async def _wait_to_be_told(self) -> None:
        """End a call when somebody says so."""
        await self._is_told.wait()
        assert self._told_to_end is not None  # noqa: S101 - set before
        raise _CallOver(self._told_to_end)

    async def _fill_silence(self) -> None:
        """Let the caller hear that somebody will answer, whenever there is no model."""
        if self._waiting_sound is not None:
            await self._speaking.ring(self._waiting_sound, self._is_ready)
        while True:
            await self._is_lost.wait()
            await self._speaking.chime(self._is_ready)

    async def _talk_to_model(self, role: Role) -> None:
        """The model's side of the call: with the next one, should one fail."""
        recovery, own_role = Recovery(self._began_s), role
        while True:
            # In a task of its own, for the reason given in `run`. No variable holds it, nor this
            # task: an error's traceback would, and with it, in a circle, all of the call.
            error = await asyncio.create_task(self._converse(role, recovery), name="conversation")
            # The line may fail while the call ends, and then it is the failure that comes out of
            # the task, not the cancellation: without this, a call that is over would go on.
            if _is_cancelled():
                raise asyncio.CancelledError
            pause_s = recovery.pause_s(error, self._clock.now())
            self._note_loss(error, recovery.recoveries)
            if pause_s is None:
                try:
                    raise error
                finally:
                    del error  # it keeps this frame
            await self._clock.sleep_until(self._clock.now() + pause_s)
            if self._settings.recap and self.record.words:
                role = with_recap(own_role, (word.text for word in self.record.words))

    async def _converse(self, role: Role, recovery: Recovery) -> ModelError:
        """From connecting to the failure of the line, which is returned."""
        try:
            async with contextlib.AsyncExitStack() as stack:
                line = await self._get_line(stack, role, recovery.attempt_s)
                self.record.model_server = line.server
                self._note_line()
                recovery.ready()
                await self._conversation().run(line, self._let_play)
        except* ModelError as group:
            error = _first(group)
        try:
            assert isinstance(error, ModelError)  # noqa: S101 - a line ends by an exception only
            return error
        finally:
            del error  # it may keep this frame

    async def _get_line(
        self, stack: contextlib.AsyncExitStack, role: Role, within_s: float | None
    ) -> ModelLine:
        """A line that is ready. `within_s` is for the caller's patience; the pool has deadlines of
        its own.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                connecting = self._connect(self.record.call_sid, role)
                return await stack.enter_async_context(connecting)
        # Out here it has no context: a TimeoutError keeps its task, and that the error it ends by.
        raise HandshakeTimeout(f"no handshake within {within_s:g} s")

    def _conversation(self) -> Conversation:
        return Conversation(
            self._hearing,
            self._speaking,
            self._turns,
            self.record,
            self._log,
            self._clock,
            began_s=self._began_s,
            can_interrupt=self._barge_in is not None,
        )

    def _note_line(self) -> None:
        """The model is ready: the first, or the next one."""
        self._is_lost.clear()
        self._is_ready.set()
        now_s = self._elapsed_s()
        if self.record.handshake_s is None:
            self.record.handshake_s = now_s
        elif self.record.failures:
            failure = self.record.failures[-1]
            self.record.failures[-1] = replace(failure, gone_s=now_s - failure.at_s)
            self._log.info("the call has a model again, after %.1f s", now_s - failure.at_s)

    def _note_loss(self, error: ModelError, recoveries: int) -> None:
        """The model is gone, if there was one; what comes now is for the next."""
        if not self._is_ready.is_set():
            return
        self._is_ready.clear()
        self._let_play()
        self._hearing.begin_again()
        self._speaking.begin_again()
        kind = type(error).__name__
        self.record.failures.append(Failure(self._elapsed_s(), str(error), kind=kind))
        self._log.warning("the model failed, for the %d. time in this call: %s", recoveries, error)
        self._is_lost.set()

    def count(self) -> CallRecord:
        """The record, its counters as they are now."""
        record = self.record
        record.duration_s = self._elapsed_s()
        record.bad_messages = self._stream.bad_messages
        if self._hearing.first_sent_s is not None:
            record.first_sent_s = self._hearing.first_sent_s - self._began_s
        count_uplink(record, self._hearing)
        count_downlink(record, self._speaking)
        record.turn_delays_s = list(self._turns.delays_s)
        record.turn_times_s = list(self.answered_s)
        return record

    def _finish(self, ending: Ending) -> None:
        record = self.count()
        record.ending = ending
        if self._recording is not None:
            self._recording.close(self._clock.now())
        level = logging.INFO if ending.close_code in (NORMAL, GOING_AWAY) else logging.WARNING
        self._log.log(level, "%s", record.summary())

    def _elapsed_s(self) -> float:
        return self._clock.now() - self._began_s


def _is_cancelled() -> bool:
    """Whether somebody has asked the running task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that came first: the others are its consequences."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _ending_after(error: BaseException) -> Ending:
    """The one place where errors become close codes."""
    kind = type(error).__name__
    match error:
        case _CallOver():
            return error.ending
        case ModelBusy():
            return Ending(EndedBy.MODEL, str(error), TRY_AGAIN_LATER, kind)
        case ModelError():
            return Ending(EndedBy.MODEL, str(error), INTERNAL_ERROR, kind)
        case _:
            code = error.code if isinstance(error, StreamError) else INTERNAL_ERROR
            return Ending(EndedBy.CALLER, str(error), code, kind)
