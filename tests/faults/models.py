"""Model servers that misbehave: what a connection does, one after another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.live.harness import Voice

Deed: TypeAlias = Callable[[ServerConnection], Coroutine[Any, Any, None]]

OUR_HEADERS = b"\x01OggS\x00\x02"
"""What begins the bridge's first message: a page that begins a stream."""
BEFORE_S = 2.0
"""Of good conversation, before something happens."""
FRAMES_BEFORE = int(BEFORE_S / 0.08)


class Models:
    """A server whose connections do one deed after another, and the last one for ever."""

    def __init__(self, *deeds: Deed) -> None:
        self.prompts: list[str] = []
        self._deeds = list(deeds)

    async def __call__(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        self.prompts += query.get("text_prompt", [""])
        deed = self._deeds.pop(0) if len(self._deeds) > 1 else self._deeds[0]
        with contextlib.suppress(ConnectionClosed):
            await deed(connection)


async def greet(connection: ServerConnection, voice: Voice) -> None:
    """The handshake and the header pages."""
    await connection.send(b"\x00")
    for page in voice.headers:
        await connection.send(b"\x01" + page)


async def heard(connection: ServerConnection) -> AsyncIterator[bytes]:
    """The caller's audio, message by message: a model frame each."""
    async for message in connection:
        if isinstance(message, bytes) and not message.startswith(OUR_HEADERS):
            yield message


async def answers(connection: ServerConnection) -> None:
    """As it should be: a frame for each frame."""
    voice = Voice()
    await greet(connection, voice)
    async for _ in heard(connection):
        await connection.send(b"\x01" + voice.page())


def then(deed: Callable[[ServerConnection, Voice], Coroutine[Any, Any, None]]) -> Deed:
    """A good conversation for two seconds, then something else."""

    async def talk(connection: ServerConnection) -> None:
        voice, frames = Voice(), 0
        await greet(connection, voice)
        async for _ in heard(connection):
            frames += 1
            await connection.send(b"\x01" + voice.page())
            if frames == FRAMES_BEFORE:
                break
        await deed(connection, voice)

    return talk


def instead(make: Callable[[Voice], list[bytes | str]], *, from_s: float, to_s: float) -> Deed:
    """A good conversation, in which some frames are something else for a while."""

    async def talk(connection: ServerConnection) -> None:
        voice, frames = Voice(), 0
        await greet(connection, voice)
        async for _ in heard(connection):
            at_s, frames = frames * 0.08, frames + 1
            if from_s <= at_s < to_s:
                for message in make(voice):
                    await connection.send(message)
            else:
                await connection.send(b"\x01" + voice.page())

    return talk


async def aborts(connection: ServerConnection) -> None:
    """The connection ends without a word, before the handshake."""
    connection.transport.abort()


async def closes_1000(connection: ServerConnection, _voice: Voice) -> None:
    await connection.close(1000)


async def dies(connection: ServerConnection, _voice: Voice) -> None:
    connection.transport.abort()


async def falls_silent(connection: ServerConnection, _voice: Voice) -> None:
    async for _ in connection:
        pass


async def floods(connection: ServerConnection, voice: Voice) -> None:
    """Talks ten times as fast as anybody could listen."""
    while True:
        await connection.send(b"\x01" + voice.page())
        await asyncio.sleep(0.008)


async def sends_five_megabytes(connection: ServerConnection, _voice: Voice) -> None:
    await connection.send(b"\x01" + bytes(5 << 20))
    await connection.wait_closed()


def shakes_hands_after(seconds: float) -> Deed:
    """Takes its time with the prompts."""

    async def talk(connection: ServerConnection) -> None:
        await asyncio.sleep(seconds)
        await answers(connection)

    return talk


def dies_in_the_prompt_after(seconds: float) -> Deed:
    """Takes in a part of the prompts."""

    async def begin(connection: ServerConnection) -> None:
        await asyncio.sleep(seconds)
        connection.transport.abort()

    return begin
