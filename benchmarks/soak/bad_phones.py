"""Phones that misbehave: whatever can come along a media socket that Twilio itself has opened."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientWebSocketResponse, WSMsgType

from personaplex_bridge.simulator.account import TwilioAccount
from personaplex_bridge.simulator.asking import Asking
from personaplex_bridge.simulator.obey import ConnectStream, read_twiml
from personaplex_bridge.simulator.plan import CallFailed, CallPlan
from personaplex_bridge.twilio import inbound

CLOSED_WITHIN_S = 20.0
FRAMES_AT_ONCE = 1000
"""20 s of media; in small heaps, for the sake of the good phones in this process."""
HEAP = 20
MALFORMED = 200
LARGE_BYTES = 1 << 20


class RawPhone:
    """Twilio's end of a media socket: plays nothing and echoes no marks."""

    def __init__(self, stream: ClientWebSocketResponse, plan: CallPlan, call_sid: str) -> None:
        self.stream = stream
        self._plan = plan
        self._call_sid = call_sid
        self._stream_sid = "MZ" + secrets.token_hex(16)
        self._frames = 0

    async def connect(self) -> None:
        """The first message."""
        await self.stream.send_str(inbound.serialize(inbound.Connected()))

    async def start(self, parameters: dict[str, str]) -> None:
        """The second."""
        sids = (self._stream_sid, self._call_sid, self._plan.account_sid)
        start = inbound.Start(*sids, sequence_number=1, custom_parameters=parameters)
        await self.stream.send_str(inbound.serialize(start))

    async def speak(self, seconds: float) -> None:
        """In real time."""
        for _ in range(int(seconds / 0.02)):
            await self.frame()
            await asyncio.sleep(0.02)

    async def frame(self) -> None:
        """The next 20 ms."""
        number = self._frames
        self._frames += 1
        payload = self._plan.speech[number * 160 : number * 160 + 160].ljust(160, b"\xff")
        media = inbound.Media(self._stream_sid, number + 2, number + 1, number * 20, payload)
        await self.stream.send_str(inbound.serialize(media))

    def cut(self) -> None:
        """The connection is gone, without a word."""
        theirs = self.stream.get_extra_info("socket")  # uvloop's own can't be shut down
        if theirs is not None:
            with socket.socket(fileno=os.dup(theirs.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)

    async def until_closed(self) -> str:
        """What the bridge ends it with."""
        async with asyncio.timeout(CLOSED_WITHIN_S):
            while (await self.stream.receive()).type not in _ENDED:
                pass
        return f"the server closed the stream with {self.stream.close_code}"


_ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)

Deed = Callable[[RawPhone], Awaitable[str]]


async def play(plan: CallPlan, fault: str) -> str:
    """Make a call that misbehaves after it has spoken for `plan.hang_up_after_s`; how it ended."""
    call_sid = "CA" + secrets.token_hex(16)
    async with aiohttp.ClientSession() as http:
        asking = Asking(http, plan, call_sid, TwilioAccount())
        [verb] = read_twiml(await asking.ask(plan.webhook_url, {}, "ringing"))[:1]
        if not isinstance(verb, ConnectStream):
            raise CallFailed("turned away")
        if plan.faults.answer_after_s:
            await asyncio.sleep(plan.faults.answer_after_s)
        headers = asking.signed(urlsplit(verb.url)._replace(scheme="wss").geturl(), {})
        async with http.ws_connect(verb.url, headers=headers, compress=0) as stream:
            phone = RawPhone(stream, plan, call_sid)
            await phone.connect()
            if fault != NEVER_STARTS:
                await phone.start(verb.parameters)
                await phone.speak(plan.hang_up_after_s or 0.0)
            try:
                return await DEEDS[fault](phone)
            except ConnectionError:
                return "the server cut the connection"


async def _vanishes(phone: RawPhone) -> str:
    phone.cut()
    return "the phone cut the connection"


async def _closes(phone: RawPhone) -> str:
    await phone.stream.close()
    return "the phone closed"


async def _waits(phone: RawPhone) -> str:
    return await phone.until_closed()


async def _floods(phone: RawPhone) -> str:
    for _ in range(FRAMES_AT_ONCE // HEAP):
        for _ in range(HEAP):
            await phone.frame()
        await asyncio.sleep(0.005)
    return await phone.until_closed()


async def _sends_malformed(phone: RawPhone) -> str:
    for _ in range(MALFORMED):
        await phone.stream.send_str("{")
    return await phone.until_closed()


async def _sends_a_megabyte(phone: RawPhone) -> str:
    await phone.stream.send_str("x" * LARGE_BYTES)
    return await phone.until_closed()


NEVER_STARTS = "phone never sends start"
DEEDS: dict[str, Deed] = {
    "phone vanishes": _vanishes,
    "phone closes without a stop": _closes,
    NEVER_STARTS: _waits,
    "phone floods media": _floods,
    "phone sends 200 malformed messages": _sends_malformed,
    "phone sends a message of 1 MB": _sends_a_megabyte,
}
"""Faults that the stand-in of Twilio doesn't play."""
