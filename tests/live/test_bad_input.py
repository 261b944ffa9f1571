"""Bad input from either side: logged, counted, and the call goes on or ends cleanly."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from personaplex_bridge.record import CallRecord, EndedBy
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.twilio.stream import MAX_BAD_MESSAGES
from tests.live.harness import (
    STREAM_SID,
    Voice,
    bridge_to,
    full_line,
    in_conversation,
    media,
    raw_model,
    raw_twilio,
    stop,
)
from tests.virtual import in_virtual_time

QUIET = ModelOptions("silence", prompt_ms=0, step_ms=0)


def altered(change: Callable[[dict[str, Any]], object]) -> str:
    """A good media message with something changed."""
    message = json.loads(media(0))
    change(message)
    return json.dumps(message)


BAD_MESSAGES = {
    "bad-json": ["{", "[]", "null", '"media"', "\x00", '{"event":'],
    "unknown-event": ['{"event":"hello"}', '{"event":7}', "{}"],
    "bad-field": [
        altered(lambda m: m.pop("media")),
        altered(lambda m: m.update(media=[])),
        altered(lambda m: m.update(sequenceNumber=4)),
        altered(lambda m: m["media"].update(timestamp="soon")),
        altered(lambda m: m["media"].update(payload=None)),
    ],
    "bad-base64": [
        altered(lambda m: m["media"].update(payload="%%%%")),
        altered(lambda m: m["media"].update(payload="abc")),
        altered(lambda m: m["media"].update(payload="")),
    ],
    "wrong-stream": [altered(lambda m: m.update(streamSid="MZ" + "9" * 32))],
    "unexpected-start": [
        json.dumps(
            {
                "event": "start",
                "sequenceNumber": "1",
                "streamSid": STREAM_SID,
                "start": {
                    "accountSid": "AC",
                    "callSid": "CA",
                    "mediaFormat": {
                        "encoding": "audio/x-mulaw",
                        "sampleRate": 8000,
                        "channels": 1,
                    },
                },
            }
        )
    ],
}


@pytest.mark.parametrize("reason", BAD_MESSAGES)
@in_virtual_time
async def test_bad_messages_from_twilio_are_skipped(
    reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    messages = BAD_MESSAGES[reason]
    async with full_line(QUIET) as (line, model), raw_twilio(line) as peer:
        for message in messages:
            await peer.send(message)
        await in_conversation(line, peer, model)
        await peer.send(stop())
        record = await line.record()
    assert record.bad_messages == {reason: len(messages)}
    assert record.ending is not None
    assert record.ending.close_code == 1000
    warnings = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert len(warnings) == 1, "one line for each kind of trouble, not one for each message"
    assert reason in warnings[0]


@in_virtual_time
async def test_binary_frames_from_twilio_are_skipped() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as peer:
        await peer.socket.send_bytes(b"\xff" * 160)
        await in_conversation(line, peer, model)
        await peer.send(stop())
        record = await line.record()
    assert record.bad_messages == {"binary-frame": 1}


@in_virtual_time
async def test_media_before_start_is_skipped() -> None:
    async with full_line(QUIET) as (line, model):
        async with raw_twilio(line, start=False) as early:
            await early.send(media(0))
            await early.send(stop())
        record = await line.record()
        assert not model.sessions
    assert record.bad_messages == {"media-before-start": 1, "stop-before-start": 1}


@in_virtual_time
async def test_a_huge_message_ends_the_call_with_1009() -> None:
    async with full_line(QUIET) as (line, _), raw_twilio(line) as peer:
        await peer.send(altered(lambda m: m["media"].update(payload="/" * 200_000)))
        assert await peer.close_code() == 1009
        record = await line.record()
    assert record.ending is not None
    assert record.ending.by is EndedBy.CALLER


@in_virtual_time
async def test_a_peer_that_sends_only_rubbish_is_left() -> None:
    async with full_line(QUIET) as (line, _), raw_twilio(line) as peer:
        for _attempt in range(MAX_BAD_MESSAGES + 1):
            await peer.send("rubbish")
        assert await peer.close_code() == 1002
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "more than 100 malformed messages"


def flipped(page: bytes) -> bytes:
    """The page with one bit of its body changed: the CRC is wrong."""
    return page[:-1] + bytes([page[-1] ^ 1])


Speech = Callable[[Voice], list[bytes | str]]


async def _call_to(speech: Speech) -> CallRecord:
    """A call of two seconds to a model that says `speech` at once."""

    async def behave(connection: ServerConnection) -> None:
        voice = Voice()
        await connection.send(b"\x00")
        for header in voice.headers:
            await connection.send(b"\x01" + header)
        for message in speech(voice):
            await connection.send(message)
        await connection.wait_closed()

    async with raw_model(behave) as url, bridge_to(url) as line, raw_twilio(line) as peer:
        await peer.speak(100)
        await peer.send(stop())
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "the caller hung up"
    return record


def told(caplog: pytest.LogCaptureFixture, kind: str) -> int:
    """How many lines tell of a kind of trouble on the model's side."""
    return sum(line.endswith(f": {kind}") for line in caplog.messages)


def audio(page: bytes) -> bytes:
    return b"\x01" + page


@in_virtual_time
async def test_unknown_kinds_text_frames_and_empty_messages_are_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def speech(voice: Voice) -> list[bytes | str]:
        rubbish: list[bytes | str] = [b"\x2a", b"\xff\xff", b"", "words", b"\x00", b"\x06"]
        return [*rubbish, audio(voice.page()), b"\x04{}", b"\x03\x01", audio(voice.page())]

    record = await _call_to(speech)
    assert record.downlink_frames == 8
    assert record.ignored_messages == {
        "unknown-kind": 2,
        "empty-message": 1,
        "text-frame": 1,
        "unexpected-handshake": 1,
    }
    for kind in record.ignored_messages:
        assert told(caplog, kind) == 1, "one line for each kind of trouble"


@in_virtual_time
async def test_a_page_with_a_bad_crc_is_made_up(caplog: pytest.LogCaptureFixture) -> None:
    def speech(voice: Voice) -> list[bytes | str]:
        return [audio(voice.page()), audio(flipped(voice.page())), audio(voice.page())]

    record = await _call_to(speech)
    assert record.downlink_frames == 12, "what was lost is made up"
    assert record.concealed_packets == 1
    assert record.audio_damage["skipped-bytes"] > 0
    assert record.audio_damage["hole"] == 1
    assert told(caplog, "skipped-bytes") == told(caplog, "hole") == 1


@in_virtual_time
async def test_truncated_ogg_is_skipped() -> None:
    def speech(voice: Voice) -> list[bytes | str]:
        return [audio(voice.page()[:-40]), audio(voice.page()), audio(voice.page())]

    record = await _call_to(speech)
    assert record.downlink_frames == 8
    assert record.audio_damage["skipped-bytes"] > 0


@in_virtual_time
async def test_a_corrupt_packet_is_concealed(caplog: pytest.LogCaptureFixture) -> None:
    def speech(voice: Voice) -> list[bytes | str]:
        corrupt = b"\x6b\xff" + bytes(20)
        return [audio(voice.page()), audio(voice.page(corrupt)), audio(voice.page())]

    record = await _call_to(speech)
    assert record.downlink_frames == 12
    assert record.audio_damage == {"corrupt-packet": 1}
    assert told(caplog, "corrupt-packet") == 1


@in_virtual_time
async def test_a_model_that_floods_is_bounded() -> None:
    """40 s at once: what the phone can take next, and DOWNLINK_BACKLOG_MS, is kept."""

    def speech(voice: Voice) -> list[bytes | str]:
        return [audio(voice.page()) for _ in range(500)]

    record = await _call_to(speech)
    assert record.overdue_frames == 2000 - record.downlink_frames
    assert 50 <= record.downlink_frames < 60
    assert record.downlink_lag.max_ms < 1200
    assert record.unplayed_frames == 0


@in_virtual_time
async def test_rubbish_instead_of_ogg_does_no_harm() -> None:
    def speech(voice: Voice) -> list[bytes | str]:
        return [audio(b"\x01\x02\x03" * 100), audio(b""), audio(voice.page())]

    record = await _call_to(speech)
    assert record.downlink_frames == 4
    assert record.audio_damage["skipped-bytes"] == 300


@in_virtual_time
async def test_the_server_reports_an_error_in_words(caplog: pytest.LogCaptureFixture) -> None:
    record = await _call_to(lambda voice: [b"\x05out of memory", audio(voice.page())])
    assert record.downlink_frames == 4
    assert record.model_packets == 1
    assert any("the model server reports: 'out of memory'" in line for line in caplog.messages)


@in_virtual_time
async def test_a_model_that_ends_after_bad_input_leaves_other_calls_alone() -> None:
    """The server never falls: after every kind of trouble it still takes a call."""

    async def dies(connection: ServerConnection) -> None:
        await connection.send(b"\x00")
        connection.transport.abort()

    async with raw_model(dies) as url, bridge_to(url) as line:
        for _ in range(3):
            async with raw_twilio(line) as peer:
                assert await peer.close_code() == 1011
                await line.record()
