"""When the model fails in a call, the call goes on with the next line; in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from personaplex_bridge.audio.mulaw import FRAME_BYTES
from personaplex_bridge.audio.ringback import ringback
from personaplex_bridge.audio.tones import recovery_chime
from personaplex_bridge.conversation import MODEL_SILENCE_S
from personaplex_bridge.errors import ModelClosed
from personaplex_bridge.logs import CallLog
from personaplex_bridge.personaplex.messages import Message
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.personas import choose, load_catalogue
from personaplex_bridge.record import CallRecord, EndedBy
from personaplex_bridge.recovery import MAX_RECOVERIES
from personaplex_bridge.session import BridgeSession
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.twilio import inbound
from personaplex_bridge.twilio.stream import MediaStream
from tests.live.harness import (
    ACCOUNT_SID,
    CALL_SID,
    CLOCK,
    COLD,
    STREAM_SID,
    Voice,
    bridge_to,
    raw_model,
    raw_twilio,
)
from tests.sound import pitch_hz
from tests.virtual import in_virtual_time

CHIME, _ = recovery_chime()
VOICE_HZ = 437.5
FRAMES_UNTIL = 25
"""Two seconds of model frames."""
ASSISTANT = load_catalogue().get("assistant").role


class Models:
    """Connections to one server, one after another; each does the next thing of a list."""

    def __init__(self, *deeds: str) -> None:
        self.prompts: list[str] = []
        self._deeds = list(deeds)

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        self.prompts += query["text_prompt"]
        deed = self._deeds.pop(0) if self._deeds else "answers"
        if deed == "dies at once":
            connection.transport.abort()
            return
        with contextlib.suppress(ConnectionClosed):
            await self._answer(connection, deed)

    async def _answer(self, connection: ServerConnection, deed: str) -> None:
        voice, frames = Voice(), 0
        await connection.send(b"\x00")
        for page in voice.headers:
            await connection.send(b"\x01" + page)
        async for message in connection:
            if isinstance(message, str) or message.startswith(b"\x01OggS\x00\x02"):
                continue  # our header pages
            frames += 1
            if deed == "says a sentence":
                await connection.send(b"\x02" + f" word{frames}".encode())
            if frames < FRAMES_UNTIL or deed == "answers":
                await connection.send(b"\x01" + voice.page())
            elif deed == "says what is no Opus":
                await connection.send(b"\x01" + voice.page(b"\xff\xff\xff\xff"))
            elif deed == "closes":
                await connection.close(1000)
            elif deed != "falls silent":
                connection.transport.abort()


async def call(
    models: Models, hang_up_after_s: float, **changes: object
) -> tuple[PhoneReport, CallRecord]:
    settings = dataclasses.replace(COLD, **changes)  # type: ignore[arg-type]  # by name
    async with raw_model(models) as url, bridge_to(url, settings) as line:
        report = await line.call(CallPlan("", b"", hang_up_after_s=hang_up_after_s))
        return report, await line.record()


def chimes(report: PhoneReport) -> int:
    return bytes(report.heard).count(CHIME)


def adds_up(record: CallRecord) -> None:
    """Every frame of both directions is accounted for."""
    came = record.caller_frames + record.filled_frames
    went = record.doubled_frames + record.shortened_frames + record.dropped_frames
    assert came == went + record.unsent_frames + record.uplink_packets
    said = record.model_frames + record.cushion_frames
    gone = record.pauses_shortened_frames + record.overdue_frames + record.cleared_frames
    assert said == gone + record.unplayed_frames + record.downlink_frames


def last_second(report: PhoneReport) -> bytes:
    return bytes(report.heard)[-50 * FRAME_BYTES :]


@pytest.mark.parametrize("deed", ["dies", "closes"])
@in_virtual_time
async def test_a_model_that_dies_in_mid_word_is_replaced(deed: str) -> None:
    models = Models(deed)
    report, record = await call(models, 6.0)
    assert report.outcome == "the caller hung up"
    assert pitch_hz(last_second(report)) == pytest.approx(VOICE_HZ, abs=5)
    assert chimes(report) == 1
    (failure,) = record.failures
    assert failure.at_s == pytest.approx(2.0, abs=0.3)
    assert failure.gone_s is not None
    assert failure.gone_s < 0.3
    assert models.prompts == [ASSISTANT.text_prompt] * 2, "the persona is restored"
    adds_up(record)


@pytest.mark.parametrize("deed", ["falls silent", "says what is no Opus"])
@in_virtual_time
async def test_a_model_that_falls_silent_is_replaced(deed: str) -> None:
    report, record = await call(Models(deed), 16.0)
    assert pitch_hz(last_second(report)) == pytest.approx(VOICE_HZ, abs=5)
    (failure,) = record.failures
    assert failure.reason == f"the model has said nothing for {MODEL_SILENCE_S:g} s"
    assert failure.at_s == pytest.approx(FRAMES_UNTIL * 0.08 + MODEL_SILENCE_S, abs=0.6)
    adds_up(record)


@in_virtual_time
async def test_no_more_than_so_often() -> None:
    models = Models(*["dies"] * 10)
    report, record = await call(models, 60.0)
    assert report.close_code == 1011
    assert len(models.prompts) == len(record.failures) == 1 + MAX_RECOVERIES
    assert chimes(report) == MAX_RECOVERIES
    adds_up(record)


@in_virtual_time
async def test_a_server_that_fails_at_first_is_asked_again() -> None:
    """The caller knows nothing of it: the telephone rings a little longer."""
    models = Models("dies at once", "dies at once", "dies at once")
    settings = dataclasses.replace(COLD)
    async with (
        raw_model(models) as url,
        bridge_to(url, settings, waiting_sound=ringback("us")) as line,
    ):
        report = await line.call(CallPlan("", b"", hang_up_after_s=4.0))
        record = await line.record()
    assert pitch_hz(last_second(report)) == pytest.approx(VOICE_HZ, abs=5)
    assert record.failures == []
    assert record.ringing_frames > 0
    assert chimes(report) == 0
    assert report.gaps == []


@in_virtual_time
async def test_a_new_caller_does_not_take_the_server_of_a_call_that_tries_again() -> None:
    models = Models("dies", "dies at once")
    async with raw_model(models) as url, bridge_to(url) as line:
        plans = [CallPlan("", b"", hang_up_after_s=wait_s) for wait_s in (10.0, 1.0)]
        first = asyncio.create_task(line.call(plans[0]))
        while len(models.prompts) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        second = await line.call(plans[1])
        report = await first
    assert second.outcome == "rejected: busy"
    assert report.outcome == "the caller hung up"
    assert pitch_hz(last_second(report)) == pytest.approx(VOICE_HZ, abs=5)


@pytest.mark.parametrize("recap", [False, True])
@in_virtual_time
async def test_what_was_said_is_recapitulated_if_that_is_wanted(recap: bool) -> None:
    models = Models("says a sentence")
    _, record = await call(models, 6.0, recap=recap)
    first, second = models.prompts
    assert first == ASSISTANT.text_prompt
    if not recap:
        assert second == first
        return
    assert second.startswith(ASSISTANT.text_prompt)
    assert second.endswith("word23 word24 word25")
    assert len(record.failures) == 1


@in_virtual_time
async def test_the_longest_call() -> None:
    report, record = await call(Models(), 60.0, max_call_s=5.0)
    assert report.close_code == 1001, "so that the caller is told"
    assert record.duration_s == pytest.approx(5.0, abs=0.1)
    assert record.ending is not None
    assert record.ending.reason == "the longest call is over"


@in_virtual_time
async def test_a_server_that_never_shakes_hands_leaves_time_for_another() -> None:
    async def hangs(connection: ServerConnection) -> None:
        await connection.send(b"\x05 taking my time")
        await connection.wait_closed()

    settings = dataclasses.replace(COLD, handshake_timeout_s=6.0)
    async with (
        raw_model(hangs) as hung,
        raw_model(Models()) as good,
        bridge_to([hung, good], settings) as line,
    ):
        report = await line.call(CallPlan("", b"", hang_up_after_s=10.0))
        record = await line.record()
    assert pitch_hz(last_second(report)) == pytest.approx(VOICE_HZ, abs=5)
    assert record.handshake_s == pytest.approx(6.0, abs=0.3)


class _Stream:
    """A media socket whose stop comes in a certain tick of the loop."""

    def __init__(self) -> None:
        self.bad_messages: Counter[str] = Counter()
        self.stops = asyncio.Event()

    async def start(self, _timeout_s: float) -> inbound.Start:
        return inbound.Start(STREAM_SID, CALL_SID, ACCOUNT_SID)

    async def receive(self) -> inbound.Inbound:
        await self.stops.wait()
        return inbound.Stop(STREAM_SID, 2, CALL_SID, ACCOUNT_SID)

    async def play(self, _mulaw: bytes) -> None:
        pass

    async def mark(self, _name: str) -> None:
        pass

    async def clear(self) -> None:
        pass

    async def close(self, _code: int) -> None:
        pass


class _Line:
    """A line that fails in a certain tick of the loop."""

    ignored: ClassVar[dict[str, int]] = {}
    server: ClassVar[int | None] = None

    def __init__(self) -> None:
        self.fails = asyncio.Event()

    async def send_audio(self, _ogg: bytes) -> None:
        pass

    async def receive(self) -> Message:
        await self.fails.wait()
        raise ModelClosed(1006)


@pytest.mark.parametrize("ticks", range(-4, 7))
@in_virtual_time
async def test_a_call_that_ends_while_its_model_fails_is_over(ticks: int) -> None:
    """Whichever comes first, by so many ticks: the failure, or the end of the call."""
    lines: list[_Line] = []

    @asynccontextmanager
    async def connect(_call: str, _role: Role) -> AsyncIterator[_Line]:
        lines.append(_Line())
        yield lines[-1]

    stream, roles = _Stream(), load_catalogue()
    session = BridgeSession(
        cast("MediaStream", stream),
        connect,
        lambda _start: choose(roles, "assistant", {}),
        COLD,
        CallLog(1),
        clock=CLOCK,
    )
    running = asyncio.create_task(session.run())
    await asyncio.sleep(1.03)  # when nothing else happens
    first, second = (stream.stops, lines[0].fails)[:: 1 if ticks < 0 else -1]
    first.set()
    for _ in range(abs(ticks)):
        await asyncio.sleep(0)
    second.set()
    done, _ = await asyncio.wait({running}, timeout=3.0)
    running.cancel()
    await asyncio.wait({running}, timeout=3.0)
    assert done
    assert session.record.ending is not None
    assert session.record.ending.by is EndedBy.CALLER


@pytest.mark.parametrize("at_once", [245, 252])
@in_virtual_time
async def test_media_faster_than_real_time(at_once: int) -> None:
    """Five seconds ahead are tolerated, and no frame more."""
    async with raw_model(Models()) as url, bridge_to(url) as line, raw_twilio(line) as peer:
        await peer.burst(at_once)
        if at_once == 245:
            await peer.speak(100)
            assert line.bridge.records
            return
        assert await peer.close_code() == 1008
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "media comes faster than real time"
