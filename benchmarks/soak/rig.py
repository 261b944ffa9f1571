"""All that runs in a soak: bridge, models' stand-ins and watcher as processes, the phones here."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from benchmarks import model_process
from benchmarks.processes import BRIDGE, ended, free_port, line_of, started, until_listening
from benchmarks.soak import watch
from benchmarks.soak.findings import Stall
from benchmarks.soak.phones import Phones
from benchmarks.soak.plan import Sizes
from benchmarks.soak.watch import Sample, Watcher
from personaplex_bridge.audio.files import read_as_mulaw

PROGRESS_S = 10.0
SETTLED_WITHIN_S = 90.0
LOOK_EVERY_S = 0.5
LOOKS = 5
UNEXPECTED = ("Traceback", " ERROR ", " CRITICAL ", "never retrieved", "never awaited")
MAX_ERRORS = 100

Tell = Callable[[str], None]

_SETTINGS = Path(__file__).resolve().parent.parent.parent / ".env.example"


@dataclass
class Models:
    """What the models' process tells."""

    sessions: list[dict[str, Any]] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)
    crowded: int = 0

    async def listen(self, process: Process) -> None:
        """To its end."""
        assert process.stdout is not None
        async for line in process.stdout:
            told = orjson.loads(line)
            if "stall" in told:
                self.stalls.append((told["stall"][0], told["stall"][1]))
                continue
            self.crowded += told["is_crowded"]
            if "is_bad" not in told:
                self.sessions.append(told)


@dataclass
class Rig:
    """All that runs."""

    phones: Phones
    models: Models
    watcher: Watcher
    bridge: Process
    log: IO[bytes]
    began_s: float
    rest_s: float
    tell: Tell
    samples: list[dict[str, Any]] = field(default_factory=list)
    phase: str = "warm-up"
    progress: asyncio.Task[None] | None = None

    async def watch(self) -> None:
        """A line every ten seconds, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(PROGRESS_S)

    async def look(self) -> Sample:
        """Look at the bridge now, write it down, and tell."""
        if self.bridge.returncode is not None:
            raise RuntimeError(f"the bridge has ended, with exit code {self.bridge.returncode}")
        sample = await self.watcher.look()
        self._note(sample)
        return sample

    async def rest(self, phase: str) -> Sample:
        """Wait until nothing is in progress any more, then a while; what the bridge holds then."""
        self.phase = phase
        for _ in range(int(SETTLED_WITHIN_S / LOOK_EVERY_S)):
            if (await self.watcher.look()).is_settled:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        await asyncio.sleep(self.rest_s)
        looks = []
        for _ in range(LOOKS):
            await asyncio.sleep(self.rest_s / LOOKS)
            looks.append(await self.watcher.look())
        # Whoever asks for the bridge's health is none of what it keeps.
        looks.reverse()  # the latest of the best
        sample = min(looks, key=lambda look: (not look.is_settled, look.tasks, look.descriptors))
        self._note(sample)
        return sample

    def forget(self) -> None:
        """What was so far is over."""
        for told in (self.phones.made, self.models.sessions):
            told.clear()
        for stalls in (self.models.stalls, self.watcher.stalls):
            stalls.clear()

    async def end(self) -> list[str]:
        """End the bridge; lines of its log that tell of an error that it has not expected."""
        if self.progress is not None:
            self.progress.cancel()
        await ended(self.bridge)
        self.log.seek(0)
        lines = (line.decode(errors="replace").strip() for line in self.log)
        return [line for line in lines if any(word in line for word in UNEXPECTED)][:MAX_ERRORS]

    def _note(self, sample: Sample) -> None:
        self.samples.append({"phase": self.phase, **sample.as_json(self.began_s)})
        elapsed_s, phones = int(sample.at_s - self.began_s), self.phones
        self.tell(
            f"{elapsed_s // 60}:{elapsed_s % 60:02} {self.phase}: {len(phones.made)} calls made, "
            f"{phones.in_progress} in progress; bridge: {sample.resident_mb:.1f} MB, "
            f"{sample.descriptors} descriptors, {sum(sample.sockets.values())} sockets, "
            f"{sample.tasks} tasks, {sample.sessions} sessions"
        )


@asynccontextmanager
async def running(sizes: Sizes, speech: Path, tell: Tell) -> AsyncIterator[Rig]:
    """All of it, inside the block."""
    token, models = secrets.token_hex(16), Models()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = stack.enter_context((folder / "log").open("w+b"))
        command = model_process.command(speech, servers=sizes.servers, capacity=1)
        model = await stack.enter_async_context(started(command))
        addresses = model_process.addresses(int(await line_of(model)), servers=sizes.servers)
        port = free_port()
        # As shipped, but for what has no default. In a folder without a .env.
        settings = {
            **dict.fromkeys(re.findall(r"^([A-Z_]+)=", _SETTINGS.read_text("utf-8"), re.M), ""),
            "PERSONAPLEX_URL": addresses,
            "PORT": str(port),
            "TWILIO_AUTH_TOKEN": token,
            "WHEN_BUSY": "reject",
        }
        bridge = await stack.enter_async_context(started(BRIDGE, log, folder, **settings))
        await until_listening(port)
        watching = await stack.enter_async_context(started(watch.command(bridge.pid, port)))
        webhook_url = f"http://127.0.0.1:{port}/voice/inbound"
        phones = Phones(webhook_url, token, read_as_mulaw(speech), sizes.spread_s)
        watcher, now_s = Watcher(watching), time.monotonic()
        rig = Rig(phones, models, watcher, bridge, log, now_s, sizes.rest_s, tell)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        rig.progress = group.create_task(rig.watch(), name="progress")
        listening = group.create_task(models.listen(model), name="listen-to-models")
        yield rig
        rig.progress.cancel()
        listening.cancel()
