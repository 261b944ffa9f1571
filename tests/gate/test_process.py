"""`personaplex-bridge gate` as a process: alone, with the command that it starts, and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from websockets.asyncio.client import connect

from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.web.hosting import hosted
from tests.gate.harness import AUTHORIZED, GOOD, TOKEN, Caller, get
from tests.live.harness import HOST, standin, until
from tests.processes import free_ports

LIMIT_S = 60.0
ROOT = Path(__file__).parents[2]
BLOCKED = [sys.executable, "-m", "tests.gate.blocked"]
OUR_OWN = ("GATE_", "HF_", "RUNPOD_", "IDLE_", "LOG_LEVEL")


async def start(*arguments: str, **environ: str) -> Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OUR_OWN)}
    settings = {"GATE_HOST": HOST, "GATE_PORT": "0", "GATE_TOKEN": TOKEN, **environ}
    return await asyncio.create_subprocess_exec(
        *BLOCKED, *arguments, stdout=PIPE, stderr=STDOUT, cwd=ROOT, env={**kept, **settings}
    )


async def run(*arguments: str, **environ: str) -> tuple[int | None, str]:
    process = await start(*arguments, **environ)
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    return process.returncode, output.decode()


async def line_with(process: Process, pattern: str) -> re.Match[str]:
    """The first line of output that matches."""
    assert process.stdout is not None
    seen = []
    async with asyncio.timeout(LIMIT_S):
        async for line in process.stdout:
            seen.append(line.decode())
            if found := re.search(pattern, seen[-1]):
                return found
    pytest.fail(f"no line with {pattern!r} in {seen}")


@asynccontextmanager
async def running(*arguments: str, **environ: str) -> AsyncIterator[tuple[Process, str]]:
    """A gate that listens, and its address; killed at the end if it is still there."""
    process = await start("gate", *arguments, **environ)
    try:
        yield process, (await line_with(process, r"listens on (http://\S+),"))[1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def stopped(process: Process, number: signal.Signals = signal.SIGTERM) -> str:
    """What it still says once it is told to end; it ends with 0."""
    process.send_signal(number)
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def until_status(base: str, wanted: str) -> dict[str, object]:
    async with asyncio.timeout(LIMIT_S):
        while (body := (await get(f"{base}/healthz", **AUTHORIZED))[1])["status"] != wanted:
            await asyncio.sleep(0.05)
    return body


async def test_help_needs_nothing_but_aiohttp() -> None:
    code, output = await run("gate", "--help")
    assert code == 0, output
    assert output.startswith("usage: personaplex-bridge gate")
    assert "PERSONAPLEX_TOKEN" in output
    code, output = await run("--help")
    assert code == 0, output
    code, output = await run("serve")
    assert code == 1
    assert "Traceback" not in output, output


async def test_a_gate_needs_nothing_but_aiohttp() -> None:
    async with standin(ModelOptions("tone", prompt_ms=50, step_ms=0)) as (url, model):
        address = url.replace("ws:", "http:").removesuffix("/api/chat")
        async with running(GATE_MODEL_URL=address) as (process, base):
            await until_status(base, "idle")
            chat = base.replace("http:", "ws:") + "/api/chat"
            query = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in GOOD)
            async with connect(
                f"{chat}?{query}", additional_headers=AUTHORIZED, ping_interval=None
            ) as connection:
                speaker = Caller(connection)
                await speaker.shake_hands()
                await speaker.talk(3, pace_s=0)
                assert (await get(f"{base}/healthz", **AUTHORIZED))[1]["status"] == "busy"
                stopping = asyncio.create_task(stopped(process, signal.SIGINT))
                await connection.wait_closed()
                assert connection.close_code == 1001
                log = await stopping
    assert "call ended after" in log
    assert model.sessions[0].frames_out == 3


def _runs(process: psutil.Process) -> bool:
    """A process that has ended is still there until its parent asks how."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


STANDIN = [sys.executable, "-m", "personaplex_bridge", "standin", "--prompt-ms", "50", "--port"]


async def test_it_starts_a_command_and_stops_it() -> None:
    (port,) = free_ports(1)
    secret = {"GATE_MODEL_URL": f"http://{HOST}:{port}", "RUNPOD_API_KEY": "rpa_secret"}
    program = (
        "import os, subprocess, sys; print('told on stdout', flush=True); "
        "print('secrets', [n for n in os.environ if n in ('GATE_TOKEN', 'RUNPOD_API_KEY')], "
        "flush=True); sys.exit(subprocess.call(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *STANDIN, str(port)]
    async with running("--", *command, **secret) as (process, base):
        await line_with(process, "^told on stdout")
        await line_with(process, r"^secrets \[\]")
        await until_status(base, "idle")
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 2
        await stopped(process)
        await until(lambda: not any(map(_runs, family)))


async def test_a_command_that_does_not_stop_is_killed() -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(600)"
    )
    async with running("--", sys.executable, "-c", program) as (process, _):
        await line_with(process, "^deaf")
        (child,) = psutil.Process(process.pid).children()
        log = await stopped(process)
    assert "doesn't stop within 10 s: killed" in log
    assert not _runs(child)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; sys.exit(3)", "ended with exit code 3"),
        ("pass", "ended with exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", r"was ended by SIGKILL \(out of memory\?\)"),
    ],
)
async def test_a_command_that_ends_ends_the_gate(program: str, why: str) -> None:
    code, output = await run("gate", "--", sys.executable, "-c", program)
    assert code == 1
    assert re.search(f"the model has failed: the command .*{why}", output), output
    assert output.count("has failed") == 1


async def test_a_command_that_can_not_be_started() -> None:
    code, output = await run("gate", "--", "/no/such/program", "--flag")
    assert code == 1
    assert "'/no/such/program' can't be started: No such file or directory" in output


async def test_in_a_pod_the_gate_stays_to_tell_what_failed() -> None:
    command = ["--", sys.executable, "-c", "import sys; sys.exit(3)"]
    async with running(*command, RUNPOD_POD_ID="abc") as (process, base):
        body = await until_status(base, "failed")
        assert "ended with exit code 3" in str(body["detail"])
        assert (await get(f"{base}/api/chat", **AUTHORIZED))[0] == 503
        assert (await get(f"{base}/healthz"))[0] == 503
        log = await stopped(process)
    assert "the gate stays, so that /healthz can tell why" in log


async def test_weights_are_checked_before_the_command_is_started(tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path), "HF_TOKEN": "{{ RUNPOD_SECRET_HF_TOKEN }}"}
    code, output = await run("gate", "--", sys.executable, "-c", "print('started')", **home)
    assert code == 1
    assert "asks for the RunPod secret HF_TOKEN, which doesn't exist" in output
    assert "started" not in output


async def test_wrong_settings_are_all_named() -> None:
    settings = {"GATE_TOKEN": "", "GATE_HOST": "0.0.0.0", "GATE_MODEL_URL": "x"}
    code, output = await run("gate", "--port", "x", **settings)
    assert code == 2
    for variable in ("GATE_TOKEN=''", "GATE_MODEL_URL='x'", "GATE_PORT='x'"):
        assert f"error: {variable} is not allowed" in output
    assert "Traceback" not in output


async def test_an_open_gate_says_so_loudly() -> None:
    settings = {"GATE_TOKEN": "", "GATE_HOST": "0.0.0.0", "GATE_ALLOW_ANYONE": "yes"}
    async with running(LOG_LEVEL="INFO", **settings) as (process, _):
        await line_with(process, "CRITICAL GATE_TOKEN is not set, so NOBODY IS ASKED WHO THEY ARE")
        await stopped(process)


async def test_a_taken_port_is_told() -> None:
    server = await asyncio.start_server(lambda *_: None, HOST, 0)
    async with server:
        port = str(server.sockets[0].getsockname()[1])
        code, output = await run("gate", "--port", port)
    assert code == 2
    assert "can't listen" in output


@asynccontextmanager
async def runpod(answers: list[int]) -> AsyncIterator[tuple[str, list[str]]]:
    """RunPod's API for one pod: refuses whatever isn't its stop, else gives each status in turn."""
    told: list[str] = []

    async def act(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer rpa_secret"
        told.append(f"{request.match_info['id']} {json.dumps(await request.json())}")
        status = answers.pop(0) if answers else 200
        if status != 200:
            body = {"title": "no", "status": status, "detail": "not now"}
            return web.json_response(body, status=status, content_type="application/problem+json")
        return web.json_response(POD)

    app = web.Application()
    app.router.add_post("/v2/pods/{id}/action", act)
    async with hosted(app, HOST, 0) as port:
        yield f"http://{HOST}:{port}", told


POD: dict[str, object] = {
    **{"id": "abc", "name": "x", "image": "x", "status": "EXITED", "actions": ["start"]},
    **{"cost": 0.0, "runtime": None, "cloud": "SECURE", "createdAt": "2026-11-21T00:00:00Z"},
}


@pytest.mark.parametrize("answers", [[], [400, 409]])
async def test_an_idle_pod_is_stopped(answers: list[int]) -> None:
    expected = len(answers) + 1
    async with (
        runpod(answers) as (api, told),
        standin(ModelOptions()) as (url, _),
        running(
            GATE_MODEL_URL=url.replace("ws:", "http:").removesuffix("/api/chat"),
            **{"IDLE_STOP_MINUTES": "0.01", "RUNPOD_POD_ID": "abc"},
            **{"RUNPOD_API_KEY": "rpa_secret", "RUNPOD_API_URL": api},
        ) as (process, base),
    ):
        await until_status(base, "idle")
        await line_with(process, "nobody has called for 0.01 minutes: stopping this pod")
        for _ in range(len(answers)):
            await line_with(process, "can't be stopped, and goes on costing.*not now.*tried again")
        await line_with(process, "RunPod stops this pod")
        assert told == ['abc {"action": "stop"}'] * expected
        await stopped(process)


async def test_in_a_pod_wrong_settings_are_told_and_nobody_is_let_in() -> None:
    """The likeliest mistake of all: the secret was never made."""
    wrong = {"RUNPOD_POD_ID": "abc", "GATE_TOKEN": "{{ RUNPOD_SECRET_PERSONAPLEX_TOKEN }}"}
    async with running("--", "sleep", "60", **wrong) as (process, base):
        status, body = await get(f"{base}/healthz")
        assert status == 503
        assert body["status"] == "failed"
        assert "the RunPod secret PERSONAPLEX_TOKEN, which doesn't exist" in body["detail"]
        for token in (wrong["GATE_TOKEN"], TOKEN):
            status, _ = await get(f"{base}/api/chat", Authorization=f"Bearer {token}")
            assert status == 401
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 2
