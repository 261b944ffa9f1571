"""The walk of docs/rehearse.md: rent a GPU, point a number, call it, and put all back."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

import soundfile

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "personaplex_bridge")
NUMBER = "+15550100"
LIMIT_S = 90.0


class Operator:
    """Someone at a terminal, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TWILIO_", "RUNPOD_", "NGROK_", "PERSONAPLEX_"))
        }
        self.environ = {**kept, "XDG_STATE_HOME": str(folder / "state"), "PYTHONUNBUFFERED": "1"}

    async def start(self, *arguments: str) -> Process:
        return await asyncio.create_subprocess_exec(
            *(*COMMAND, *arguments), stdout=PIPE, stderr=STDOUT, cwd=self.folder, env=self.environ
        )

    async def run(self, *arguments: str) -> str:
        """A command that must go well; what it printed."""
        process = await self.start(*arguments)
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 0, output.decode()
        return output.decode()

    def source(self, file: Path) -> None:
        """`set -a; . FILE`."""
        for line in file.read_text("utf-8").splitlines():
            name, _, value = line.partition("=")
            self.environ[name] = value.strip("'")


async def told(process: Process, what: str) -> str:
    """What it prints, until there is a line with that."""
    assert process.stdout is not None
    lines = ""
    async with asyncio.timeout(LIMIT_S):
        async for line in process.stdout:
            lines += line.decode()
            if what in line.decode():
                return lines
    raise AssertionError(f"no line with {what!r}: {lines}")


async def end(process: Process, number: signal.Signals) -> str:
    process.send_signal(number)
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    return output.decode()


async def test_the_walk(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    (tmp_path / "deploy/runpod").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/runpod/pod.toml", tmp_path / "deploy/runpod")
    services = await operator.start("rehearse", "--speed", "200", "--port", "0")  # any
    bridge: Process | None = None
    try:
        await told(services, "runpod down")
        operator.source(tmp_path / "rehearsal.env")
        said = await operator.run(
            *("runpod", "up", "--image", "ghcr.io/you/personaplex:0.1.0", "--write-env")
        )
        assert "ready: the model is idle" in said
        assert "$0.44 an hour" in said
        assert re.search(r"^PERSONAPLEX_URL='?http", (tmp_path / ".env").read_text(), re.MULTILINE)

        bridge = await operator.start("dev", "--port", "0")
        said = await told(bridge, "Ctrl-C ends it")
        assert "unsigned webhook: refused" in said
        assert "signed webhook: accepted" in said
        assert f"Call {NUMBER}" in said
        caller = ROOT / "src/personaplex_bridge/data/caller.flac"
        await operator.run(
            *("call", str(caller), "--number", NUMBER, "--out", "heard.wav"),
            *("--hang-up-after", "12"),
        )
        heard, _ = soundfile.read(tmp_path / "heard.wav")
        assert abs(heard).max() > 0.1
        assert "a step takes" in await operator.run("runpod", "status")

        said = await end(bridge, signal.SIGINT)
        assert "again" in said
        assert "demo.twilio.com" in await operator.run("twilio", "numbers")
        assert "is deleted" in await operator.run("runpod", "down", "--yes")
    finally:
        for process in (bridge, services):
            if process is not None and process.returncode is None:
                await end(process, signal.SIGTERM)
    assert not (tmp_path / "rehearsal.env").exists()
