"""Bad input from either side: logged, counted, and the call goes on or ends cleanly."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from websockets.asyncio.server import ServerConnection

from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.record import CallRecord, EndedBy
from personaplex_bridge.simulator import behaviours
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.twilio.stream import MAX_BAD_MESSAGES
from tests.live.harness import (
    STREAM_SID,
    bridge_to,
    full_line,
    media,
    raw_model,
    raw_twilio,
    stop,
    until,
)

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


async def _converse(socket: ClientWebSocketResponse, model_frames: Callable[[], int]) -> None:
    """The call still works: 80 ms in give 80 ms out."""
    before = model_frames()
    for number in range(4):
        await socket.send_str(media(number))
    await until(lambda: model_frames() == before + 1)


@pytest.mark.parametrize("reason", BAD_MESSAGES)
async def test_bad_messages_from_twilio_are_skipped(
    reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    messages = BAD_MESSAGES[reason]
    async with full_line(QUIET) as (line, model), raw_twilio(line) as socket:
        for message in messages:
            await socket.send_str(message)
        await until(lambda: bool(model.sessions))
        await _converse(socket, lambda: model.sessions[0].frames_out)
        await socket.send_str(stop())
        record = await line.record()
    assert record.bad_messages == {reason: len(messages)}
    assert record.ending is not None
    assert record.ending.close_code == 1000
    warnings = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert len(warnings) == 1, "one line for each kind of trouble, not one for each message"
    assert reason in warnings[0]


async def test_binary_frames_from_twilio_are_skipped() -> None:
    async with full_line(QUIET) as (line, model), raw_twilio(line) as socket:
        await socket.send_bytes(b"\xff" * 160)
        await until(lambda: bool(model.sessions))
        await _converse(socket, lambda: model.sessions[0].frames_out)
        await socket.send_str(stop())
        record = await line.record()
    assert record.bad_messages == {"binary-frame": 1}


async def test_media_before_start_is_skipped() -> None:
    async with full_line(QUIET) as (line, model):
        async with raw_twilio(line, start=False) as early:
            await early.send_str(media(0))
            await early.send_str(stop())
        record = await line.record()
        assert not model.sessions
    assert record.bad_messages == {"media-before-start": 1, "stop-before-start": 1}


async def test_a_huge_message_ends_the_call_with_1009() -> None:
    async with full_line(QUIET) as (line, _), raw_twilio(line) as socket:
        await socket.send_str(altered(lambda m: m["media"].update(payload="/" * 200_000)))
        message = await socket.receive(timeout=3.0)
        assert message.type is WSMsgType.CLOSE
        assert message.data == 1009
        record = await line.record()
    assert record.ending is not None
    assert record.ending.by is EndedBy.CALLER


async def test_a_peer_that_sends_only_rubbish_is_left() -> None:
    async with full_line(QUIET) as (line, _), raw_twilio(line) as socket:
        for _attempt in range(MAX_BAD_MESSAGES + 1):
            await socket.send_str("rubbish")
        message = await socket.receive(timeout=3.0)
        assert message.data == 1002
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "more than 100 malformed messages"


class Sender:
    """A model server's sound: one page of 80 ms at a time."""

    def __init__(self) -> None:
        self._writer = OggWriter(42)
        self._packet = behaviours.make("tone").step(np.zeros(1920, np.int16)).packet
        self._position = 0
        self.headers = [
            self._writer.page([opus_head(3840, 24_000)], 0),
            self._writer.page([opus_tags("test")], 0),
        ]

    def page(self, packet: bytes | None = None) -> bytes:
        self._position += 1920
        return self._writer.page([self._packet if packet is None else packet], self._position)


def flipped(page: bytes) -> bytes:
    """The page with one bit of its body changed: the CRC is wrong."""
    return page[:-1] + bytes([page[-1] ^ 1])


Speech = Callable[[Sender], list[bytes | str]]


async def _call_to(speech: Speech, frames: int) -> CallRecord:
    """A call to a model that says `speech`; ends once `frames` of 20 ms were played."""

    async def behave(connection: ServerConnection) -> None:
        sender = Sender()
        await connection.send(b"\x00")
        for header in sender.headers:
            await connection.send(b"\x01" + header)
        for message in speech(sender):
            await connection.send(message)
        await connection.wait_closed()

    async with raw_model(behave) as url, bridge_to(url) as line, raw_twilio(line) as socket:
        await until(lambda: sum(r.downlink_frames for r in line.bridge.records) == frames)
        await asyncio.sleep(0.02)  # whatever comes after would be too much
        await socket.send_str(stop())
        record = await line.record()
    assert record.ending is not None
    assert record.ending.reason == "the caller hung up"
    assert record.downlink_frames == frames
    return record


def told(caplog: pytest.LogCaptureFixture, kind: str) -> int:
    """How many lines tell of a kind of trouble on the model's side."""
    return sum(line.endswith(f": {kind}") for line in caplog.messages)


def audio(page: bytes) -> bytes:
    return b"\x01" + page


async def test_unknown_kinds_text_frames_and_empty_messages_are_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def speech(sender: Sender) -> list[bytes | str]:
        rubbish: list[bytes | str] = [b"\x2a", b"\xff\xff", b"", "words", b"\x00", b"\x06"]
        return [*rubbish, audio(sender.page()), b"\x04{}", b"\x03\x01", audio(sender.page())]

    record = await _call_to(speech, frames=8)
    assert record.ignored_messages == {
        "unknown-kind": 2,
        "empty-message": 1,
        "text-frame": 1,
        "unexpected-handshake": 1,
    }
    for kind in record.ignored_messages:
        assert told(caplog, kind) == 1, "one line for each kind of trouble"


async def test_a_page_with_a_bad_crc_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    def speech(sender: Sender) -> list[bytes | str]:
        return [audio(sender.page()), audio(flipped(sender.page())), audio(sender.page())]

    record = await _call_to(speech, frames=8)
    assert record.audio_damage["skipped-bytes"] > 0
    assert record.audio_damage["hole"] == 1
    assert told(caplog, "skipped-bytes") == told(caplog, "hole") == 1


async def test_truncated_ogg_is_skipped() -> None:
    def speech(sender: Sender) -> list[bytes | str]:
        return [audio(sender.page()[:-40]), audio(sender.page()), audio(sender.page())]

    record = await _call_to(speech, frames=8)
    assert record.audio_damage["skipped-bytes"] > 0


async def test_a_corrupt_packet_is_concealed(caplog: pytest.LogCaptureFixture) -> None:
    def speech(sender: Sender) -> list[bytes | str]:
        corrupt = b"\x6b\xff" + bytes(20)
        return [audio(sender.page()), audio(sender.page(corrupt)), audio(sender.page())]

    record = await _call_to(speech, frames=12)
    assert record.audio_damage == {"corrupt-packet": 1}
    assert told(caplog, "corrupt-packet") == 1


async def test_a_model_that_floods_is_bounded() -> None:
    """Ten seconds and a message may wait at Twilio; the rest is dropped and counted."""

    def speech(sender: Sender) -> list[bytes | str]:
        return [audio(sender.page()) for _ in range(500)]

    record = await _call_to(speech, frames=504)
    assert record.unplayed_frames == 2000 - 504


async def test_rubbish_instead_of_ogg_does_no_harm() -> None:
    def speech(sender: Sender) -> list[bytes | str]:
        return [audio(b"\x01\x02\x03" * 100), audio(b""), audio(sender.page())]

    record = await _call_to(speech, frames=4)
    assert record.audio_damage["skipped-bytes"] == 300


async def test_the_server_reports_an_error_in_words(caplog: pytest.LogCaptureFixture) -> None:
    record = await _call_to(lambda sender: [b"\x05out of memory", audio(sender.page())], frames=4)
    assert record.model_packets == 1
    assert any("the model server reports: 'out of memory'" in line for line in caplog.messages)


async def test_a_model_that_ends_after_bad_input_leaves_other_calls_alone() -> None:
    """The server never falls: after every kind of trouble it still takes a call."""

    async def dies(connection: ServerConnection) -> None:
        await connection.send(b"\x00")
        connection.transport.abort()

    async with raw_model(dies) as url, bridge_to(url) as line:
        for _ in range(3):
            async with raw_twilio(line) as socket:
                await socket.receive(timeout=3.0)
                record = await line.record()
            assert record.ending is not None
            assert record.ending.close_code == 1011
