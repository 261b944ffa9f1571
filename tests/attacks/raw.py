"""HTTP and WebSockets byte by byte, so that nothing keeps an attacker from breaking the rules."""

from __future__ import annotations

import asyncio
import base64
import re
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

HOST = "127.0.0.1"
TEXT, BINARY, CONTINUATION, CLOSE = 1, 2, 0, 8
MASK = b"\x11\x22\x33\x44"
WAIT_S = 120.0
"""Longer than every deadline of the bridge."""

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back until the other side closed, or nothing at all."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw.split(None, 2)[1]) if self.raw else 0

    @property
    def body(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[2].decode()

    def header(self, name: str) -> str:
        found = re.search(rf"(?im)^{name}: *([^\r]*)\r$".encode(), self.raw)
        return found[1].decode() if found else ""

    def __str__(self) -> str:
        """The status, and the reason if there is one of our own."""
        if not self.raw:
            return "closed without a word"
        words = self.body.strip().removeprefix(f"{self.status}: ")
        is_page = len(words) > 80 or words.startswith(("<", "{"))
        return f"{self.status}" if is_page or not words else f"{self.status} {words}"


def request(
    method: str, target: str, headers: Iterable[Header] = (), body: bytes | None = None
) -> bytes:
    """A request, exactly as it is given; Content-Length is added to a body."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


@dataclass
class Connection:
    """A connection of an attacker's."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Without waiting; a connection that is gone takes it in silence."""
        self.writer.write(data)

    async def answer(self) -> Answer:
        """All that comes until the bridge closes, or resets what is still being sent."""
        came = b""
        async with asyncio.timeout(WAIT_S):
            try:
                while piece := await self.reader.read(1 << 16):
                    came += piece
            except ConnectionError:
                pass
        return Answer(came)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(HOST, port, limit=1 << 22)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


async def ask(port: int, data: bytes) -> Answer:
    """Send bytes, and read until the bridge closes."""
    async with connected(port) as connection:
        connection.send(data)
        return await connection.answer()


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """One WebSocket frame as a client sends it: masked."""
    head = bytes([fin << 7 | rsv1 << 6 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    mask = (MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + MASK + masked.to_bytes(size, "big")


def upgrade(target: str, headers: Iterable[Header]) -> bytes:
    """The request for a WebSocket."""
    key = base64.b64encode(b"0123456789abcdef").decode()
    ours = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
    ]
    return request("GET", target, [*headers, *ours])


class Socket:
    """A media socket of an attacker's, its upgrade accepted."""

    def __init__(self, connection: Connection, head: bytes) -> None:
        self.head = Answer(head)
        self._connection = connection

    def send(self, *messages: str) -> None:
        for message in messages:
            self._connection.send(frame(TEXT, message.encode()))

    def send_raw(self, data: bytes) -> None:
        self._connection.send(data)

    async def close_code(self) -> int | None:
        """The code the bridge closes with; None if it just hangs up."""
        async with asyncio.timeout(WAIT_S):
            try:
                while True:
                    opcode, payload = await self._frame()
                    if opcode == CLOSE:
                        self._connection.send(frame(CLOSE, payload))
                        return int(struct.unpack("!H", payload[:2])[0])
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def _frame(self) -> tuple[int, bytes]:
        read = self._connection.reader.readexactly
        first, size = await read(2)
        if size == 126:
            (size,) = struct.unpack("!H", await read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await read(8))
        return first & 0x0F, await read(size)


async def open_socket(connection: Connection, data: bytes) -> Socket | Answer:
    """The media socket that an upgrade gives, or the refusal."""
    connection.send(data)
    async with asyncio.timeout(WAIT_S):
        head = await connection.reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101"):
        return Socket(connection, head)
    return Answer(head + (await connection.answer()).raw)
