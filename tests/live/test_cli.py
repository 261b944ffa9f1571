"""The console command, as a user runs it: real processes, exit codes, what is printed."""

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

import pytest
import soundfile

from personaplex_bridge.audio.files import write_wav
from tests.live.harness import speech

COMMAND = [sys.executable, "-m", "personaplex_bridge"]
LIMIT_S = 20.0


async def start(*arguments: str, cwd: Path, **environ: str) -> Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWILIO_")}
    return await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=PIPE, stderr=STDOUT, cwd=cwd, env={**kept, **environ}
    )


async def run(*arguments: str, cwd: Path, **environ: str) -> tuple[int | None, str]:
    """Exit code and everything that was printed."""
    process = await start(*arguments, cwd=cwd, **environ)
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    return process.returncode, output.decode()


async def line_with(process: Process, pattern: str) -> re.Match[str]:
    """The first line of output that matches."""
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        async for line in process.stdout:
            found = re.search(pattern, line.decode())
            if found:
                return found
    pytest.fail(f"no line with {pattern!r}")


@asynccontextmanager
async def running(
    pattern: str, *arguments: str, cwd: Path, **environ: str
) -> AsyncIterator[tuple[Process, str]]:
    """A server process, ready; ended by SIGTERM, which must give exit code 0."""
    process = await start(*arguments, cwd=cwd, **environ)
    try:
        yield process, (await line_with(process, pattern))[1]
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 0, output.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "short.wav"
    write_wav(path, speech()[8000:24_000])
    return path


@pytest.mark.parametrize("command", [[], ["serve"], ["demo"], ["call"], ["standin"], ["doctor"]])
async def test_help_teaches(command: list[str], tmp_path: Path) -> None:
    code, output = await run(*command, "--help", cwd=tmp_path)
    assert code == 0
    assert output.startswith("usage: personaplex-bridge")
    assert len(output.splitlines()) >= 6


async def test_demo_writes_its_folder(sound: Path, tmp_path: Path) -> None:
    code, output = await run("demo", "--wav", str(sound), "--prompt-ms", "100", cwd=tmp_path)
    assert code == 0, output
    folder = tmp_path / "demo-output"
    assert {path.name for path in folder.iterdir()} == {
        "caller.wav",
        "heard.wav",
        "stereo.wav",
        "transcript.txt",
        "timeline.png",
        "report.txt",
        "report.json",
    }
    assert soundfile.info(folder / "stereo.wav").channels == 2
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["lost_or_doubled"] == {"uplink": 0, "downlink": 0}
    assert "déjà vu!" in (folder / "transcript.txt").read_text("utf-8")
    assert (folder / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert output.count("lost or doubled: 0") == 2


async def test_three_processes_make_calls(sound: Path, tmp_path: Path) -> None:
    """`standin`, `serve` with signatures, and `call`, as three programs."""
    token = {"TWILIO_AUTH_TOKEN": "0123456789abcdef"}
    heard = tmp_path / "heard.wav"
    async with (
        running(
            r"PERSONAPLEX_URL=(\S+)", "standin", "--port", "0", "--behave", "echo", cwd=tmp_path
        ) as (_, model_url),
        running(
            r"webhook is at (\S+)", "serve", "--port", "0", cwd=tmp_path,
            PERSONAPLEX_URL=model_url, WHEN_BUSY="reject", **token,
        ) as (_, webhook),
    ):  # fmt: skip
        call = ["call", str(sound), "--url", webhook]
        good = await run(*call, "--out", str(heard), "--dtmf", "5@0.5", cwd=tmp_path, **token)
        unsigned = await run(*call, cwd=tmp_path)
        two = await run(*call, "--calls", "2", "--hang-up-after", "2", cwd=tmp_path, **token)
    assert good[0] == 0, good[1]
    assert "the caller hung up" in good[1]
    assert soundfile.info(heard).duration > 2.0
    assert unsigned[0] == 1
    assert "403" in unsigned[1]
    # The model takes one call at a time.
    assert two[0] == 1
    assert "1 call(s): rejected: busy" in two[1]


async def test_serve_without_a_model_says_so_and_ends_calls_on_ctrl_c(
    sound: Path, tmp_path: Path
) -> None:
    process = await start("serve", "--port", "0", cwd=tmp_path)
    await line_with(process, "a stand-in that repeats what the caller says, not a model")
    webhook = (await line_with(process, r"webhook is at (\S+)"))[1]
    call = await start("call", str(sound), "--url", webhook, cwd=tmp_path)
    await line_with(process, "call begins")
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode == 0
    assert "shutting down" in output.decode()
    told, _ = await asyncio.wait_for(call.communicate(), LIMIT_S)
    assert "the server closed the stream with 1001, then hung up by TwiML" in told.decode()
    assert call.returncode == 1, "a call that was cut off did not go well"


async def test_wrong_settings_are_all_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=99999\nTRANSCODER=magic\n", "utf-8")
    code, output = await run("serve", cwd=tmp_path, PERSONAPLEX_URL="ftp://x")
    assert code == 2
    assert "PORT='99999' is not allowed: a whole number from 0 to 65535" in output
    assert "TRANSCODER='magic' is not allowed: one of native, soxr" in output
    assert "PERSONAPLEX_URL='ftp://x'" in output


async def test_serve_without_its_redis_says_so(tmp_path: Path) -> None:
    url = "redis://:secret@127.0.0.1:9/0"
    code, output = await run("serve", "--port", "0", cwd=tmp_path, LEASES_URL=url)
    assert code == 2
    assert "LEASES_URL='(hidden)' is not allowed: the address of a Redis that can be" in output
    assert "can't be used: ConnectionError" in output
    assert "secret" not in output
    assert "Traceback" not in output


async def test_an_env_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=\xff\xfe\n")
    code, output = await run("doctor", cwd=tmp_path)
    assert code == 2
    assert "text in UTF-8" in output


async def test_a_slow_model_is_told_of(sound: Path, tmp_path: Path) -> None:
    model = ["--step-ms", "130", "--prompt-ms", "100"]
    _, output = await run("demo", "--wav", str(sound), *model, cwd=tmp_path)
    behind = re.search(r"the model was (\d+) ms behind", output)
    assert behind is not None
    assert 0 < int(behind[1]) <= 700, "no more is sent than it can take"
    assert re.search(r"left out \d+ of pauses|dropped the oldest \d+", output), output


async def test_serve_without_a_model_takes_as_many_calls_as_it_is_told(
    sound: Path, tmp_path: Path
) -> None:
    async with running(
        r"webhook is at (\S+)", "serve", "--port", "0", cwd=tmp_path, PERSONAPLEX_CAPACITY="2"
    ) as (_, webhook):
        call = ["call", str(sound), "--url", webhook, "--calls", "2", "--hang-up-after", "2"]
        code, output = await run(*call, cwd=tmp_path)
    assert code == 0, output


async def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=99999\n", "utf-8")
    code, output = await run("doctor", cwd=tmp_path, PORT="0")
    assert code == 0, output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["call", "nothing.wav"], 1, "can't read nothing.wav as a sound file"),
        (["call", "x.wav", "--dtmf", "Z@1"], 2, "not of the form KEY@SECONDS"),
        (["call", "x.wav", "--out", "no/such/folder.wav"], 2, "no .wav file in a folder"),
        (["call", "x.wav", "--out", "x.foo"], 2, "no .wav file in a folder"),
        (["demo", "--out", __file__], 2, "exists and is no folder"),
        (["standin", "--host", "a..b"], 2, "can't listen"),
        (["serve", "--host", "a..b"], 2, "HOST='a..b' is not allowed"),
        (["call", "x.wav", "--calls", "0"], 2, "no whole number from 1 to 1000"),
        (["standin", "--behave", "sing"], 2, "invalid choice: 'sing'"),
        (["demo", "--wav", "nothing.wav"], 1, "can't read nothing.wav as a sound file"),
        ([], 2, "required"),
    ],
)
async def test_mistakes_are_told(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    found = await run(*arguments, cwd=tmp_path)
    assert found[0] == code
    assert message in found[1]
    assert "Traceback" not in found[1]


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = str(server.sockets[0].getsockname()[1])
        code, output = await run("standin", "--port", port, cwd=tmp_path)
        assert code == 2
        assert "can't listen" in output
        code, output = await run("doctor", cwd=tmp_path, PORT=port)
        assert code == 1
        assert f"127.0.0.1:{port}" in output


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/voice/inbound", "http://a..b/x", "nonsense"])
async def test_a_call_to_nobody_is_told(url: str, sound: Path, tmp_path: Path) -> None:
    code, output = await run("call", str(sound), "--url", url, cwd=tmp_path)
    assert code == 1
    assert f"no answer from {url}" in output


@pytest.mark.parametrize("second", [None, signal.SIGTERM, signal.SIGINT])
async def test_sigterm_lets_calls_go_on_and_a_second_signal_ends_them(
    second: signal.Signals | None, sound: Path, tmp_path: Path
) -> None:
    process = await start("serve", "--port", "0", cwd=tmp_path)
    try:
        url = (await line_with(process, r"webhook is at (\S+)"))[1]
        call = await start("call", str(sound), "--url", url, "--hang-up-after", "3", cwd=tmp_path)
        await line_with(process, "call begins")
        process.send_signal(signal.SIGTERM)
        await line_with(process, "draining: 1 calls go on, for 300 s at most")
        if second is not None:
            process.send_signal(second)
        told, _ = await asyncio.wait_for(call.communicate(), LIMIT_S)
        output, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 0, output.decode()
    finally:
        if process.returncode is None:
            process.kill()
    assert ("the caller hung up" in told.decode()) == (second is None), told.decode()
    assert ("closed the stream with 1001" in told.decode()) == (second is not None)
