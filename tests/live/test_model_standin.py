"""The model's stand-in is as unforgiving as the real server (docs/protocol.md)."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from personaplex_bridge.audio.ogg import OggReader
from personaplex_bridge.audio.oggopus import HEAD_MAGIC, TAGS_MAGIC
from personaplex_bridge.audio.opus import packet_samples
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.simulator.model import ModelOptions
from tests.live.harness import CLOCK, standin, until
from tests.virtual import in_virtual_time

GOOD = {"voice_prompt": "NATF2.pt", "text_prompt": "You enjoy having a good conversation."}
QUIET = ModelOptions("tone", prompt_ms=0, step_ms=0)


def line(url: str, query: dict[str, str] | None = None) -> connect:
    return connect(
        f"{url}?{urlencode(GOOD if query is None else query)}",
        compression=None,
        ping_interval=None,
        close_timeout=0.2,
    )


async def code_of_end(socket: ClientConnection) -> int:
    async with asyncio.timeout(2.0):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else 1006


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"voice_prompt": "NATF2.pt"},
        {"text_prompt": "x"},
        {**GOOD, "seed": "1"},
        {**GOOD, "voice_prompt": "NATF2"},
        {**GOOD, "voice_prompt": "../x.pt"},
    ],
)
@in_virtual_time
async def test_wrong_parameters_die_with_1006_after_the_upgrade(query: dict[str, str]) -> None:
    async with standin(QUIET) as (url, _), line(url, query) as socket:
        assert await code_of_end(socket) == 1006


@in_virtual_time
async def test_an_empty_prompt_dies_later() -> None:
    async with standin(QUIET) as (url, _), line(url, {**GOOD, "text_prompt": ""}) as socket:
        began = CLOCK.now()
        assert await code_of_end(socket) == 1006
        assert CLOCK.now() - began == pytest.approx(1.7, abs=0.01)


@in_virtual_time
async def test_a_bad_voice_asked_for_twice_runs_with_the_previous_one() -> None:
    bad = {**GOOD, "voice_prompt": "NOPE9.pt"}
    async with standin(QUIET) as (url, model):
        async with line(url) as socket:
            assert await socket.recv() == b"\x00"
        async with line(url, bad) as socket:
            assert await code_of_end(socket) == 1006
        async with line(url, bad) as socket:
            assert await socket.recv() == b"\x00"
    assert model.sessions[-1].used == ("NATF2.pt", GOOD["text_prompt"])


@in_virtual_time
async def test_headers_sent_before_the_handshake_are_eaten_and_kill_the_session() -> None:
    uplink = make_uplink("native")
    async with standin(ModelOptions("tone", prompt_ms=200)) as (url, model), line(url) as socket:
        await socket.send(b"\x01" + uplink.headers())
        assert await socket.recv() == b"\x00"
        await socket.send(b"\x01" + uplink.feed(b"\xff" * 640)[0])
        assert await code_of_end(socket) == 1000
    assert model.sessions[0].eaten == 1


@in_virtual_time
async def test_one_frame_out_for_each_frame_in_in_the_servers_own_shape() -> None:
    uplink = make_uplink("native")
    async with standin(QUIET) as (url, _), line(url) as socket:
        assert await socket.recv() == b"\x00"
        headers = [await socket.recv(), await socket.recv()]
        await socket.send(b"\x01" + uplink.headers())
        await socket.send(b"\x01" + b"".join(uplink.feed(b"\xff" * 640 * 5)))
        pages = [await asyncio.wait_for(socket.recv(), 1.0) for _ in range(5)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.recv(), 0.1)
    assert all(isinstance(page, bytes) and page[0] == 1 for page in headers + pages)
    assert _packet(headers[0])[0].startswith(HEAD_MAGIC)
    assert _packet(headers[1])[0].startswith(TAGS_MAGIC)
    assert _packet(headers[0])[0][10:16] == b"\x00\x0f" + (24_000).to_bytes(4, "little")
    for number, page in enumerate(pages, start=1):
        packet, granule, serial = _packet(page)
        assert packet_samples(packet, 24_000) == 1920
        assert packet[0] & 3 == 3, "four frames in a packet (RFC 6716, code 3)"
        assert (granule, serial) == (1920 * number, 42)


def _packet(message: bytes | str) -> tuple[bytes, int, int]:
    """The one packet of a page, its granule position and serial, read by hand (RFC 3533)."""
    assert isinstance(message, bytes)
    page = message[1:]
    packets = OggReader().feed(page)
    assert len(packets) == 1
    granule, serial = int.from_bytes(page[6:14], "little"), int.from_bytes(page[14:18], "little")
    return packets[0].data, granule, serial


@in_virtual_time
async def test_the_one_session_lock_is_silent_and_crosstalk_happens() -> None:
    other = {"voice_prompt": "VARM1.pt", "text_prompt": "You are someone else."}
    async with standin(ModelOptions("tone", prompt_ms=300)) as (url, model), line(url) as first:
        await until(lambda: len(model.sessions) == 1)
        async with line(url, other) as second:
            assert await first.recv() == b"\x00"
            pong = await second.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pong, 0.1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(second.recv(), 0.1)
    assert model.crowded == 1
    assert model.sessions[0].used == ("VARM1.pt", "You are someone else.")


async def _dies_of(data: bytes, model_url: str) -> int:
    uplink = make_uplink("native")
    async with line(model_url) as socket:
        assert await socket.recv() == b"\x00"
        await socket.send(b"\x01" + uplink.headers())
        await socket.send(b"\x01" + uplink.feed(b"\xff" * 640)[0])
        await socket.send(data)
        await socket.send(b"\x01" + uplink.feed(b"\xff" * 640)[0])
        return await code_of_end(socket)


@pytest.mark.parametrize("kind", ["bad-crc", "new-stream"])
@in_virtual_time
async def test_what_kills_a_session(kind: str) -> None:
    page = make_uplink("native").headers()
    if kind == "bad-crc":
        page = page[:-1] + bytes([page[-1] ^ 1])
    async with standin(QUIET) as (url, _):
        assert await _dies_of(b"\x01" + page, url) == 1000


@pytest.mark.parametrize("data", ["words", b"", b"\x2aabc", b"\x06", b"\x02text"])
@in_virtual_time
async def test_what_is_ignored(data: bytes | str) -> None:
    uplink = make_uplink("native")
    async with standin(QUIET) as (url, model), line(url) as socket:
        await socket.recv()
        await socket.send(b"\x01" + uplink.headers())
        await socket.send(data)
        await socket.send(b"\x01" + uplink.feed(b"\xff" * 640)[0])
        await until(lambda: model.sessions[0].frames_out == 1)


@in_virtual_time
async def test_a_slow_model_falls_behind() -> None:
    uplink = make_uplink("native")
    slow = ModelOptions("tone", prompt_ms=0, step_ms=100)
    async with standin(slow) as (url, model), line(url) as socket:
        await socket.recv()
        await socket.send(b"\x01" + uplink.headers())
        await socket.send(b"\x01" + b"".join(uplink.feed(b"\xff" * 640 * 10)))
        await until(lambda: model.sessions[0].frames_in == 10)
        assert model.sessions[0].frames_out <= 1
        await until(lambda: model.sessions[0].frames_out == 3)
