"""A call's conversation with one model, from the handshake to the end of the line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from personaplex_bridge.audio.barge_in import QUEUED_MS
from personaplex_bridge.audio.mulaw import FRAME_MS
from personaplex_bridge.audio.turns import Turns
from personaplex_bridge.clock import Clock
from personaplex_bridge.errors import ModelError
from personaplex_bridge.hearing import Hearing
from personaplex_bridge.logs import Log
from personaplex_bridge.loops import LoopGroup
from personaplex_bridge.personaplex.messages import Audio, Message, ServerError, Text
from personaplex_bridge.personaplex.text import WordJoiner
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.record import CallRecord, Word
from personaplex_bridge.speaking import Speaking

MODEL_SILENCE_S = 5.0
"""A model that hears and says nothing for so long is stuck: it answers every 80 ms, and freezes for
so long only after what we never send (an empty packet). After 3.5 s what it has not answered
counts as lost (`audio.in_flight`), which is tried first.
"""
LOOK_EVERY_S = 0.25

END_OF_WORD_S = 0.4
"""A word is complete when the model has said no more for so long (five of its frames)."""


class ModelLine(Protocol):
    """What a call needs of a model that is ready to talk, whichever server it runs on."""

    @property
    def ignored(self) -> Mapping[str, int]:
        """How many messages were ignored, by reason."""
        ...

    @property
    def server(self) -> int | None:
        """Which server it leads to, by its place in the settings; None if that has no meaning."""
        ...

    async def send_audio(self, ogg: bytes) -> None:
        """Give the model Ogg Opus bytes."""
        ...

    async def receive(self) -> Message:
        """The model's next message; raises ModelError when the line has ended."""
        ...


Connect = Callable[[str, Role], AbstractAsyncContextManager[ModelLine]]
"""A call's line to the model, by the call's SID; entering it waits until the model is ready."""


class Conversation:
    """Moves messages between a call's two directions and the model. `run` it once.

    `elapsed_s` is the call's time; `can_interrupt` whether interruptions are listened for.
    """

    def __init__(
        self,
        hearing: Hearing,
        speaking: Speaking,
        turns: Turns,
        record: CallRecord,
        log: Log,
        clock: Clock,
        *,
        began_s: float,
        can_interrupt: bool,
    ) -> None:
        self._hearing = hearing
        self._speaking = speaking
        self._turns = turns
        self._record = record
        self._log = log
        self._clock = clock
        self._began_s = began_s
        self._can_interrupt = can_interrupt
        self._faults_told: set[str] = set()
        self._words = WordJoiner()
        self._last_text_s = 0.0

    async def run(self, line: ModelLine, when_quiet: Callable[[], None]) -> None:
        """Talk until the line ends, which raises an ExceptionGroup.

        `when_quiet` is called again and again while nothing comes from Twilio.
        """
        try:
            async with LoopGroup() as group:
                group.create_task(self._hearing.send(line), name="uplink")
                group.create_task(self._hearing.keep_time(when_quiet), name="keep-time")
                group.create_task(self._hear_model(line), name="hear-model")
                group.create_task(self._speaking.play(), name="downlink")
                group.create_task(self._watch_model(), name="watch-model")
        finally:
            self._tell_faults(line)
            self._keep(self._words.flush())
            for reason, times in line.ignored.items():
                self._record.ignored_messages[reason] += times

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
        self._hearing.audio.in_haste = self._can_interrupt and waiting_ms > QUEUED_MS
        loud = speaking.say(ogg, now_s)
        if not loud:
            return
        await speaking.flush()
        self._hearing.answered(speaking.transcoder.decoded_ms, now_s)
        if self._record.first_audio_s is None:
            self._record.first_audio_s = now_s - self._began_s
        if now_s - self._began_s - self._last_text_s > END_OF_WORD_S:
            self._keep(self._words.flush())
        for number, is_loud in enumerate(loud, start=1):
            self._turns.model(is_loud, heard_s + number * FRAME_MS / 1000)

    async def _watch_model(self) -> None:
        """Give up a model that has stopped answering: one frame out is due for each in."""
        answers, clock = self._speaking.transcoder, self._clock
        packets = heard = 0
        is_owed, heard_s = False, clock.now()
        while True:
            await clock.sleep_until(clock.now() + LOOK_EVERY_S)
            if answers.sound_packets > heard:
                packets, heard = answers.packets, answers.sound_packets
                is_owed, heard_s = False, clock.now()
            # Packets that nobody can decode are no answer.
            is_owed = is_owed or self._hearing.is_owed_an_answer or answers.packets > packets
            if not is_owed:
                heard_s = clock.now()
            elif clock.now() - heard_s >= MODEL_SILENCE_S:
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
        self._record.words.extend(Word(self._last_text_s, word) for word in words)

    def _elapsed_s(self) -> float:
        return self._clock.now() - self._began_s
