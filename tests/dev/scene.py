"""A Twilio account and an ngrok agent on this machine, and `dev` between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from personaplex_bridge.config import Settings
from personaplex_bridge.dev.command import DevPlan, dev
from personaplex_bridge.dev.settings import TunnelSettings
from personaplex_bridge.numbers.rest import TwilioRest, open_rest
from personaplex_bridge.numbers.saved import SavedNumbers
from personaplex_bridge.numbers.settings import AccountSettings
from personaplex_bridge.simulator.ngrok_agent import NgrokAgentStandin
from personaplex_bridge.simulator.twilio_rest import TwilioStandin
from personaplex_bridge.web.hosting import hosted

HOST = "127.0.0.1"
NUMBER, OTHER_NUMBER = "+15550100", "+15550101"
BEFORE = "https://demo.twilio.com/welcome/voice/"
LIMIT_S = 60.0


@dataclass
class Town:
    """Both stand-ins, and the settings that lead to them."""

    twilio: TwilioStandin
    agent: NgrokAgentStandin
    twilio_url: str
    ngrok_url: str
    folder: Path

    @property
    def account(self) -> AccountSettings:
        twilio = self.twilio
        return AccountSettings(twilio.account_sid, (twilio.auth_token,), api_url=self.twilio_url)

    @property
    def settings(self) -> Settings:
        """As `serve` would read them; any free port."""
        twilio = self.twilio
        return replace(
            Settings(ringback=None),
            port=0,
            twilio_account_sid=twilio.account_sid,
            twilio_auth_tokens=(twilio.auth_token,),
        )

    @property
    def saved(self) -> SavedNumbers:
        return SavedNumbers(self.folder / "personaplex-bridge" / "numbers")

    @property
    def environ(self) -> dict[str, str]:
        """For processes."""
        return {
            "TWILIO_API_URL": self.twilio_url,
            "TWILIO_ACCOUNT_SID": self.twilio.account_sid,
            "TWILIO_AUTH_TOKEN": self.twilio.auth_token,
            "NGROK_API_URL": self.ngrok_url,
            "XDG_STATE_HOME": str(self.folder),
            "PORT": "0",
            "RINGBACK": "off",
        }

    def plan(self, **changes: Any) -> DevPlan:
        plan = DevPlan(self.settings, self.account, TunnelSettings(self.ngrok_url), self.saved)
        return replace(plan, **changes)

    def webhook(self, number: str = NUMBER) -> str:
        """Where a number points."""
        return str(self.twilio.number(number)["voice_url"])

    @asynccontextmanager
    async def rest(self) -> AsyncIterator[TwilioRest]:
        async with open_rest(self.account) as rest:
            yield rest

    @asynccontextmanager
    async def command(self, *arguments: str, **environ: str) -> AsyncIterator[Process]:
        """The console command as a process; killed, if it is still there."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TWILIO_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "personaplex_bridge", *arguments),
            stdout=PIPE,
            stderr=STDOUT,
            cwd=self.folder,
            env={**kept, **self.environ, **environ},
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def told(self, *arguments: str, **environ: str) -> tuple[int | None, str]:
        """Exit code of a command, and what it printed."""
        async with self.command(*arguments, **environ) as process:
            output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
        return process.returncode, output.decode()


@asynccontextmanager
async def town(folder: Path, *numbers: str, **account: Any) -> AsyncIterator[Town]:
    """A town with these numbers."""
    twilio, agent = TwilioStandin(**account), NgrokAgentStandin()
    for number in numbers or (NUMBER,):
        twilio.add_number(number)
    async with (
        hosted(twilio.application(), HOST, 0) as twilio_port,
        hosted(agent.application(), HOST, 0) as ngrok_port,
    ):
        urls = f"http://{HOST}:{twilio_port}", f"http://{HOST}:{ngrok_port}"
        yield Town(twilio, agent, *urls, folder)


@dataclass
class Run:
    """`dev` in this process: its lines, and what it came to."""

    task: asyncio.Task[None]
    lines: asyncio.Queue[str]
    said: list[str] = field(default_factory=list)

    async def line(self, begin: str) -> str:
        """The next line that begins so, or the error that `dev` ends with."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                getting = asyncio.create_task(self.lines.get())
                await asyncio.wait({getting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    self.task.result()
                    raise AssertionError(f"ended without {begin!r}: {self.said}")
                self.said.append(getting.result())
                if self.said[-1].strip().startswith(begin):
                    return self.said[-1]

    async def end(self, how: signal.Signals = signal.SIGINT) -> list[str]:
        """Send this process a signal, which `dev` hears; all that was said."""
        os.kill(os.getpid(), how)
        await asyncio.wait_for(asyncio.shield(self.task), LIMIT_S)
        while not self.lines.empty():
            self.said.append(self.lines.get_nowait())
        return self.said


@asynccontextmanager
async def running(plan: DevPlan) -> AsyncIterator[Run]:
    """`dev` in this process."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(dev(plan, lines.put_nowait))
    try:
        yield Run(task, lines)
    finally:
        task.cancel()
        await asyncio.wait({task})
        with contextlib.suppress(BaseException):
            task.result()


async def line_of(process: Process, begin: str) -> str:
    """The next line of a process that begins so."""
    assert process.stdout is not None
    said = []
    async with asyncio.timeout(LIMIT_S):
        async for line in process.stdout:
            said.append(line.decode())
            if said[-1].strip().startswith(begin):
                return said[-1].strip()
    raise AssertionError(f"no line with {begin!r}: {said}")


async def until_calls(base: str, number: int) -> None:
    """Until the bridge at an address has so many calls."""
    async with asyncio.timeout(LIMIT_S), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{base}/healthz") as answer:
                if (await answer.json())["sessions"] >= number:
                    return
            await asyncio.sleep(0.05)
