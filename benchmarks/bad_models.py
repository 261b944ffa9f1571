"""Model sessions that misbehave, because their prompt says so: `call 7: dies in mid-word at 1 s`.

Each prompt is obeyed once: the call's next session, on whichever server, is a good one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import WSMsgType, web

from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.simulator.behaviours import FRAME_MS, FRAME_SAMPLES, RATE_HZ
from personaplex_bridge.simulator.conversation import PRE_SKIP, SERIAL

IN_THE_PROMPT_S = 0.1
"""How long a session takes in its prompt before it dies of it."""
DAMAGED_FRAMES = 5
FLOOD_S, FLOOD_TIMES = 1.0, 10

_OUR_HEADERS = b"\x01OggS\x00\x02"
"""What begins the bridge's first message: a page that begins a stream."""
_PROMPT = re.compile(r"call \d+: (?P<deed>.+) at (?P<at_s>[\d.]+) s")


def prompt_of(number: int, deed: str | None, at_s: float) -> str:
    """The prompt of a call whose model is to misbehave after so long; None: is to be good."""
    return f"call {number}" if deed is None else f"call {number}: {deed} at {at_s:g} s"


def number_in(prompt: str) -> int | None:
    """The number of the call."""
    found = re.match(r"call (\d+)", prompt)
    return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Deed:
    """What is to be done, after so much good conversation."""

    name: str
    at_s: float


class Talk:
    """A session: what it hears, frame by frame, and says. Something happens after so long."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        packets: Sequence[bytes],
        at_s: float,
    ) -> None:
        self.socket = socket
        self.at_s = at_s
        self._request = request
        self._writer = OggWriter(SERIAL)
        self._packets = packets
        self._said = 0

    async def greet(self) -> None:
        """The handshake and the header pages."""
        await self.socket.send_bytes(b"\x00")
        for header in (opus_head(PRE_SKIP, RATE_HZ), opus_tags("standin")):
            await self.socket.send_bytes(b"\x01" + self._writer.page([header], 0))

    def page(self, packet: bytes | None = None) -> bytes:
        """The next 80 ms."""
        self._said += 1
        packet = self._packets[self._said % len(self._packets)] if packet is None else packet
        return self._writer.page([packet], self._said * FRAME_SAMPLES)

    async def heard(self) -> AsyncIterator[None]:
        """For each frame of the caller's, until the connection ends."""
        async for message in self.socket:
            is_audio = message.type is WSMsgType.BINARY and message.data.startswith(b"\x01")
            if is_audio and not message.data.startswith(_OUR_HEADERS):
                yield

    def die(self) -> None:
        """The connection is gone, without a word."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def say(self) -> None:
        """The next 80 ms, as it should be."""
        await self.socket.send_bytes(b"\x01" + self.page())

    async def converse(self, frames: float = float("inf")) -> None:
        """A frame for each frame, for so many."""
        if frames <= 0:
            return
        async for _ in self.heard():
            await self.say()
            frames -= 1
            if frames <= 0:
                return


class BadModels:
    """Does what prompts ask for."""

    def __init__(self, packets: Sequence[bytes]) -> None:
        self._packets = packets
        self._done: set[str] = set()

    def deed_for(self, prompt: str) -> Deed | None:
        """What a session with this prompt is to do; None if it is to be good."""
        found = _PROMPT.fullmatch(prompt)
        if found is None or prompt in self._done:
            return None
        self._done.add(prompt)
        return Deed(found["deed"], float(found["at_s"]))

    async def serve(self, request: web.Request, deed: Deed) -> web.WebSocketResponse:
        """Serve the session."""
        socket = web.WebSocketResponse(compress=False, timeout=1.0)
        await socket.prepare(request)
        with contextlib.suppress(ConnectionError):
            await DEEDS[deed.name](Talk(request, socket, self._packets, deed.at_s))
        return socket


Do: TypeAlias = Callable[[Talk], Awaitable[None]]


def _in_talk(deed: Do) -> Do:
    """Something that happens after good conversation."""

    async def do(talk: Talk) -> None:
        await talk.greet()
        await talk.converse(talk.at_s * 1000 / FRAME_MS)
        await deed(talk)

    return do


async def _dies_in_the_prompt(talk: Talk) -> None:
    await asyncio.sleep(IN_THE_PROMPT_S)
    talk.die()


async def _dies(talk: Talk) -> None:
    talk.die()


async def _closes(talk: Talk) -> None:
    await talk.socket.close(code=1000)


async def _falls_silent(talk: Talk) -> None:
    async for _ in talk.heard():
        pass


async def _floods(talk: Talk) -> None:
    frames = int(FLOOD_S * 1000 / FRAME_MS * FLOOD_TIMES)
    for _ in range(frames):
        await talk.say()
        await asyncio.sleep(FLOOD_S / frames)
    await talk.converse()


def _damaged(damage: Callable[[Talk], list[bytes | str]]) -> Do:
    """A few frames are something else."""

    async def do(talk: Talk) -> None:
        frames = 0
        async for _ in talk.heard():
            for message in damage(talk):
                if isinstance(message, str):
                    await talk.socket.send_str(message)
                else:
                    await talk.socket.send_bytes(message)
            frames += 1
            if frames == DAMAGED_FRAMES:
                break
        await talk.converse()

    return do


def _garbage(talk: Talk) -> list[bytes | str]:
    return [b"\x01" + bytes(range(256)), b"\x09?", b"", b"\x01" + talk.page()]


def _bad_crc(talk: Talk) -> list[bytes | str]:
    page = bytearray(talk.page())
    page[-1] ^= 0xFF
    return [b"\x01" + bytes(page)]


def _corrupt_opus(talk: Talk) -> list[bytes | str]:
    return [b"\x01" + talk.page(b"\xff\xff\xff\xff")]


def _text_frames(talk: Talk) -> list[bytes | str]:
    return ["hello", "{}", b"\x01" + talk.page()]


DEEDS: dict[str, Do] = {
    "dies in the prompt": _dies_in_the_prompt,
    "dies in mid-word": _in_talk(_dies),
    "closes with 1000": _in_talk(_closes),
    "sends garbage": _in_talk(_damaged(_garbage)),
    "sends pages with a bad CRC": _in_talk(_damaged(_bad_crc)),
    "sends corrupt Opus": _in_talk(_damaged(_corrupt_opus)),
    "sends text frames": _in_talk(_damaged(_text_frames)),
    "floods": _in_talk(_floods),
    "falls silent": _in_talk(_falls_silent),
}
"""What a model may do, by what the prompt calls it."""
