"""A bridge with its console on real sockets, between stand-ins, and calls through it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.config import Settings
from personaplex_bridge.console.past import PastCalls
from personaplex_bridge.console.serving import Console
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.phone.routes import Phone
from personaplex_bridge.phone.softphone import SoftphoneSettings
from personaplex_bridge.pool import make_pool
from personaplex_bridge.simulator.account import TwilioAccount
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.values import CHAT_PATH, ServerAddress
from personaplex_bridge.vendor.serving import Vendored
from personaplex_bridge.web.bridge import Bridge
from personaplex_bridge.web.hosting import hosted
from personaplex_bridge.web.paths import WEBHOOK_PATH
from tests.live.harness import speech, until

HOST = "127.0.0.1"
TOKEN = "a-token-of-the-tests"
OPEN = Settings(warm_lines=False)
LOCKED = dataclasses.replace(OPEN, console_token=TOKEN)


@dataclass
class Site:
    """A running bridge with a console."""

    port: int
    bridge: Bridge
    token: str | None = None
    account: TwilioAccount = field(default_factory=TwilioAccount)

    @property
    def base(self) -> str:
        return f"http://{HOST}:{self.port}"

    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    async def ask(
        self,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "",
    ) -> tuple[int, Any]:
        """Status and JSON of the answer. A body is posted; so is True, without one."""
        async with aiohttp.ClientSession(headers={**self.headers(), **(headers or {})}) as http:
            method = method or ("GET" if body is None else "POST")
            sent = None if body is None or body is True else body
            async with http.request(method, self.base + path, json=sent) as answer:
                return answer.status, await answer.json(content_type=None)

    @asynccontextmanager
    async def call(self, seconds: float = 30.0, **plan: Any) -> AsyncIterator[Calling]:
        """A call that goes on inside the block, for so long at most."""
        details = CallPlan(
            self.base + WEBHOOK_PATH, speech(), hang_up_after_s=seconds, quiet_s=seconds, **plan
        )
        call = PhoneCall(details, SYSTEM_CLOCK, self.account)
        task = asyncio.create_task(call.run())
        try:
            sid = call.report.call_sid
            await until(
                lambda: any(one.record.call_sid == sid for one in self.bridge.sessions), 10.0
            )
            yield Calling(sid, task)
        finally:
            task.cancel()
            await asyncio.wait({task})

    @asynccontextmanager
    async def watch(self, last_id: str = "") -> AsyncIterator[AsyncIterator[Heard]]:
        """The server-sent events, read as a browser would."""
        headers = {**self.headers(), **({"Last-Event-ID": last_id} if last_id else {})}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(self.base + "/api/events") as answer,
        ):
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield _events(answer.content)


@dataclass(frozen=True)
class Calling:
    """A call in progress."""

    sid: str
    task: asyncio.Task[PhoneReport]

    async def over(self) -> PhoneReport:
        """What it came to."""
        return await asyncio.wait_for(asyncio.shield(self.task), 20.0)


@dataclass(frozen=True)
class Heard:
    """An event."""

    kind: str
    id: str
    data: Any


async def _events(lines: aiohttp.StreamReader) -> AsyncIterator[Heard]:
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield Heard(fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}


async def hear(events: AsyncIterator[Heard], wanted: Any, within_s: float = 20.0) -> Heard:
    """The first event that is wanted."""
    async with asyncio.timeout(within_s):
        async for event in events:
            if wanted(event):
                return event
    raise AssertionError("the events have ended")


@asynccontextmanager
async def site(
    settings: Settings = OPEN,
    *,
    behave: str = "repeat",
    sessions: int = 4,
    port: int = 0,
    past: PastCalls | None = None,
) -> AsyncIterator[Site]:
    """A bridge, its model's stand-in, and its console."""
    model = ModelServer(ModelOptions(behave=behave, sessions=sessions, prompt_ms=50))
    catalogue = load_catalogue()
    async with hosted(model.application(), HOST, 0) as model_port:
        server = ServerAddress(f"ws://{HOST}:{model_port}{CHAT_PATH}", sessions)
        pool = make_pool(settings, [server], catalogue.get(settings.persona).role)
        console = Console(settings)
        bridge = Bridge(settings, catalogue, pool, observers=console.observers)
        app = bridge.application()
        guard, calls = console.access, bridge.browser_calls
        Phone(guard, calls, bridge, catalogue, settings, SoftphoneSettings()).add_to(app)
        Vendored().add_to(app)
        console.add_to(app, bridge, past)
        async with hosted(app, HOST, port) as chosen:
            yield Site(chosen, bridge, settings.console_token)
