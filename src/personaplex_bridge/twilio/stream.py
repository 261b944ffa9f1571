"""The media socket of one call: a thin shell around an aiohttp WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter

from aiohttp import WSMsgType, web

from personaplex_bridge.errors import MessageError, StreamError
from personaplex_bridge.logs import Log
from personaplex_bridge.twilio.inbound import Inbound, MediaFormat, Start
from personaplex_bridge.twilio.outbound import Clear, Outbound, PlayMedia, SendMark, serialize
from personaplex_bridge.twilio.protocol import StreamProtocol

SEND_TIMEOUT_S = 10.0
"""A socket that takes nothing for so long has nobody at the other end."""

PROTOCOL_ERROR = 1002

MAX_BAD_MESSAGES = 100
"""After so many malformed messages the peer is no Twilio, and the stream is ended."""

_ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED)


class MediaStream:
    """Events from Twilio, commands to Twilio.

    Malformed messages are counted in `bad_messages` and skipped: one bad frame is not worth a
    call. Cancelling any method leaves the socket open; `close` ends it.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.WriteTransport,
        log: Log,
        media_format: MediaFormat = MediaFormat(),  # noqa: B008 - frozen
    ) -> None:
        self.bad_messages: Counter[str] = Counter()
        self._socket = socket
        self._transport = transport
        self._protocol = StreamProtocol(media_format)
        self._log = log

    async def start(self, timeout_s: float) -> Start:
        """Wait for the `start` event.

        Raises:
            StreamError: none came in time, or the socket ended first.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (event := await self.receive()) is not None:
                    if isinstance(event, Start):
                        return event
        except TimeoutError:
            raise StreamError(f"no start message within {timeout_s:g} s") from None
        raise StreamError("the socket closed before the start message")

    async def receive(self) -> Inbound | None:
        """The next well-formed event, or None once Twilio has closed the socket.

        Raises:
            StreamError: the transport broke, a message was too long, or too many were bad.
        """
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                try:
                    return self._protocol.receive(message.data)
                except MessageError as error:
                    self._count_bad(error)
            elif message.type in _ENDED:
                return None
            elif message.type is WSMsgType.ERROR:
                code = getattr(message.data, "code", None)  # 1009: too long
                raise StreamError(f"the socket failed: {message.data}", code or PROTOCOL_ERROR)
            else:
                self._count_bad(MessageError("binary-frame", "Twilio sends text frames only"))

    async def play(self, media: bytes) -> None:
        """Queue media at Twilio. Waits while the socket is backed up."""
        await self._send(PlayMedia(self._protocol.stream_sid, media))

    async def mark(self, name: str) -> None:
        """Ask for `name` to be echoed once everything queued before it has played."""
        await self._send(SendMark(self._protocol.stream_sid, name))

    async def clear(self) -> None:
        """Drop everything queued at Twilio and not yet played."""
        await self._send(Clear(self._protocol.stream_sid))

    async def close(self, code: int) -> None:
        """Close the socket with `code`; returns at once if it is closed already."""
        await self._socket.close(code=code)

    async def _send(self, command: Outbound) -> None:
        try:
            if self._transport.get_write_buffer_size() == 0:
                # Nothing is waiting and messages are small, so this doesn't wait either.
                await self._socket.send_str(serialize(command))
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._socket.send_str(serialize(command))
                return
        except ConnectionError as error:
            raise StreamError(f"the socket is gone: {error}") from error
        # Out here it has no context: a TimeoutError keeps its task, and that the error it ends by.
        raise StreamError(f"Twilio has read nothing for {SEND_TIMEOUT_S:g} s")

    def _count_bad(self, error: MessageError) -> None:
        self.bad_messages[error.reason] += 1
        first = self.bad_messages[error.reason] == 1
        level = logging.WARNING if first else logging.DEBUG
        self._log.log(level, "ignored a message from Twilio: %s", error)
        if self.bad_messages.total() > MAX_BAD_MESSAGES:
            raise StreamError(f"more than {MAX_BAD_MESSAGES} malformed messages")
