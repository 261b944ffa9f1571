"""A whole bridge with its phone, before the model's stand-in."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from personaplex_bridge.audio import mulaw
from personaplex_bridge.config import Settings
from personaplex_bridge.phone.routes import CALLS_PATH
from personaplex_bridge.phone.softphone import SoftphoneSettings
from personaplex_bridge.record import CallRecord
from personaplex_bridge.serve import NO_SOFTPHONE, running
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.twilio import inbound
from personaplex_bridge.values import ServerAddress
from personaplex_bridge.web.bridge import Bridge
from tests.live.harness import speech, standin, until

SETTINGS = Settings(port=0, warm_lines=False, ringback=None)
SIGNED = dataclasses.replace(SETTINGS, twilio_auth_tokens=("0123456789abcdef0123456789abcdef",))


@dataclass
class Site:
    """A running bridge."""

    base: str
    bridge: Bridge
    model: ModelServer

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        origin: str | None = "",
    ) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text. The origin is that of our own page, unless another is given;
        None: no such header.
        """
        sent = {"Content-Type": "application/json"} if method == "POST" else {}
        if origin is not None:
            sent["Origin"] = origin or self.base
        data = raw if raw is not None else json.dumps(body or {}).encode()
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                method,
                self.base + path,
                data=data if method == "POST" else None,
                headers={**sent, **(headers or {})},
                allow_redirects=False,
            ) as answer,
        ):
            return answer.status, answer.headers, await answer.text()

    async def grant(self, **asked: str) -> dict[str, Any]:
        """What a page gets that calls."""
        status, _, text = await self.ask("POST", CALLS_PATH, asked)
        assert status == 201, text
        granted: dict[str, Any] = json.loads(text)
        return granted

    async def record(self) -> CallRecord:
        """The record of the one call in progress, its model being ready."""
        await until(lambda: any(call.handshake_s for call in self.bridge.records), 20.0)
        return self.bridge.records[0]


@asynccontextmanager
async def site(
    settings: Settings = SETTINGS,
    options: ModelOptions | None = None,
    softphone: SoftphoneSettings = NO_SOFTPHONE,
) -> AsyncIterator[Site]:
    """A bridge to the model's stand-in, as `serve` runs it."""
    options = options or ModelOptions(prompt_ms=100)
    async with standin(options) as (url, model):
        settings = dataclasses.replace(settings, personaplex_servers=(ServerAddress(url),))
        async with running(settings, softphone) as bridge:
            yield Site(bridge.address, bridge.bridge, model)


@asynccontextmanager
async def socket_of(
    site: Site, granted: Mapping[str, Any], **changed: Any
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """The media socket that was granted, or one a little different."""
    origin = changed.get("origin", site.base)
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            granted["stream_url"],
            protocols=changed.get("protocols", granted["protocols"]),
            origin=origin,
        ) as socket,
    ):
        yield socket


def said(seconds: float) -> bytes:
    """The first words of the shipped caller, mu-law."""
    sound = speech()
    loud = np.flatnonzero(np.abs(mulaw.decode(sound).astype(int)) > 1000)
    return sound[int(loud[0]) :][: int(seconds * 8000)]


def start(granted: Mapping[str, Any], **changed: Any) -> str:
    """The `start` that the page sends."""
    event = inbound.Start(
        granted["stream_sid"],
        changed.get("call_sid", granted["call_sid"]),
        granted["account_sid"],
        media_format=changed.get("media_format", inbound.MediaFormat()),
        custom_parameters=changed.get("parameters", granted["parameters"]),
    )
    return inbound.serialize(event)


async def refusal(site: Site, granted: Mapping[str, Any], **changed: Any) -> tuple[int, str]:
    """Status and reason phrase of an upgrade that must be refused."""
    try:
        async with socket_of(site, granted, **changed):
            return 101, ""
    except aiohttp.WSServerHandshakeError as error:
        return error.status, error.message


async def closing(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """The code a media socket is closed with."""
    async with asyncio.timeout(10):
        while not (await socket.receive()).type.name.startswith("CLOS"):
            pass
    return socket.close_code
