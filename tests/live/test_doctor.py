"""`doctor` names what is missing and how to mend it."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from importlib import metadata
from pathlib import Path

import pytest
from aiohttp import web

from personaplex_bridge import doctor
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.web.hosting import hosted
from tests.live.harness import HOST, standin

WELL = {"PORT": "0"}


async def told(capsys: pytest.CaptureFixture[str], **environ: str) -> tuple[bool, str]:
    ailing = await doctor.examine({**WELL, **environ})
    return ailing, capsys.readouterr().out


async def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    ailing, output = await told(capsys)
    assert not ailing
    assert "libopus: libopus 1." in output
    assert "aiohttp: " + metadata.version("aiohttp") in output
    assert output.endswith("All is well.\n")


async def _in_a_crippled_process(crippling: str, *command: str) -> tuple[int | None, str]:
    """Run a command after some Python that takes something away."""
    run = f"import sys\nfrom personaplex_bridge.cli import main\nsys.exit(main({list(command)}))"
    program = f"{crippling}\n{run}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=PIPE, stderr=STDOUT, env={**os.environ, **WELL}
    )
    output, _ = await asyncio.wait_for(process.communicate(), 20.0)
    return process.returncode, output.decode()


NO_LIBRARIES = "import ctypes.util\nctypes.util.find_library = lambda name: None"
MENDS = [
    "libopus is missing\n      -> apt-get install libopus0 (macOS: brew install opus, and ",
    "libogg is missing\n      -> apt-get install libogg0 (macOS: brew install libogg, and ",
]


async def test_missing_libraries() -> None:
    code, output = await _in_a_crippled_process(NO_LIBRARIES, "doctor")
    assert code == 1
    assert all(mend in output for mend in MENDS), output


@pytest.mark.parametrize("command", ["serve", "demo", "standin"])
async def test_commands_without_the_libraries_say_what_is_missing(command: str) -> None:
    code, output = await _in_a_crippled_process(NO_LIBRARIES, command)
    assert code == 1
    assert "is missing: apt-get install lib" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "package", ["aiohttp", "websockets", "twilio", "orjson", "soxr", "soundfile", "numpy"]
)
async def test_missing_packages(package: str) -> None:
    code, output = await _in_a_crippled_process(
        f"import sys\nsys.modules[{package!r}] = None", "doctor"
    )
    assert code == 1
    assert f"MEND  {package}: can't be imported" in output
    assert "./scripts/demo installs it" in output
    assert "Traceback" not in output


async def test_missing_extras_are_no_trouble() -> None:
    code, output = await _in_a_crippled_process(
        "import sys\nsys.modules['matplotlib'] = None", "doctor"
    )
    assert code == 0, output
    assert "matplotlib: not installed (only demo needs it)" in output


async def test_wrong_settings(capsys: pytest.CaptureFixture[str]) -> None:
    ailing, output = await told(capsys, TRANSCODER="magic", LOG_LEVEL="LOUD")
    assert ailing
    assert "TRANSCODER='magic'\n      -> allowed: one of native, soxr" in output
    assert "LOG_LEVEL='LOUD'" in output


async def test_wrong_personas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "personas.toml"
    path.write_text('[personas.x]\nvoice = "ROBOT"\ntext_prompt = "You are x."\n', "utf-8")
    ailing, output = await told(capsys, PERSONAS_FILE=str(path))
    assert ailing
    assert "persona 'x': voice 'ROBOT' is not one of" in output


@pytest.mark.parametrize(
    ("variable", "what"), [("RINGBACK", "ringback"), ("HOLD_SOUND", "hold sound")]
)
async def test_a_sound_that_is_none(
    variable: str, what: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "waiting.mp3"
    path.write_text("la la la", "utf-8")
    ailing, output = await told(capsys, **{variable: str(path)})
    assert ailing
    assert f"{what}: can't read {path} as a sound file" in output
    assert f"-> mend {variable}" in output


async def test_a_public_bridge_without_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    ailing, output = await told(capsys, PUBLIC_URL="https://bridge.example.com")
    assert ailing
    assert "TWILIO_AUTH_TOKEN: not set\n      -> set it" in output


async def test_several_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    ailing, output = await told(capsys, TWILIO_AUTH_TOKEN="secret-1, secret-2")
    assert not ailing
    assert "signatures are checked, 2 tokens: take the old ones out" in output
    assert "secret-" not in output


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"HOST": "0.0.0.0"}, "MEND  ALLOW_UNSIGNED: yes: anyone who reaches 0.0.0.0 can call"),
        ({"HOST": "127.0.0.1"}, "ok  ALLOW_UNSIGNED: yes, which 127.0.0.1 doesn't need"),
        ({"HOST": "0.0.0.0", "TWILIO_AUTH_TOKEN": "x"}, "ok  ALLOW_UNSIGNED: yes, which does noth"),
    ],
)
async def test_unsigned_on_purpose(
    environ: dict[str, str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ailing, output = await told(capsys, ALLOW_UNSIGNED="yes", **environ)
    assert found in output
    assert ailing == found.startswith("MEND")


async def test_an_unsigned_bridge_for_everyone_is_no_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ailing, output = await told(capsys, HOST="0.0.0.0")
    assert ailing
    assert "MEND  setting: HOST='0.0.0.0'\n      -> allowed: without TWILIO_AUTH_TOKEN" in output


async def test_proxies_that_are_everyone(capsys: pytest.CaptureFixture[str]) -> None:
    ailing, output = await told(capsys, TRUSTED_PROXIES="10.0.0.0/8, 0.0.0.0/0, ::/0")
    assert ailing
    assert "MEND  TRUSTED_PROXIES: 0.0.0.0/0, ::/0\n      -> name your proxies'" in output


async def test_a_model_server_is_found_without_disturbing_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with standin(ModelOptions()) as (url, model):
        ailing, output = await told(capsys, PERSONAPLEX_URL=url)
    assert not ailing
    assert f"model server: {url} answers" in output
    assert not model.sessions, "a probe must not open a session"


async def test_no_model_server(capsys: pytest.CaptureFixture[str]) -> None:
    ailing, output = await told(capsys, PERSONAPLEX_URL=f"ws://{HOST}:9")
    assert ailing
    assert "is it running, and is PERSONAPLEX_URL right?" in output


async def test_something_else_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    async with hosted(web.Application(), HOST, 0) as port:
        ailing, output = await told(capsys, PERSONAPLEX_URL=f"http://{HOST}:{port}")
    assert ailing
    assert "answers HTTP 404" in output


async def test_each_model_server_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    async with standin(ModelOptions()) as (url, _), standin(ModelOptions()) as (other, _):
        ailing, output = await told(capsys, PERSONAPLEX_URL=f"{url}, {other}#capacity=4")
    assert not ailing
    assert f"model server: {url} answers; calls at a time: 1" in output
    assert f"model server: {other} answers; calls at a time: 4" in output


async def test_a_redis_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    ailing, output = await told(capsys, LEASES_URL=f"redis://:secret@{HOST}:9/0")
    assert ailing
    assert "LEASES_URL: the Redis there can't be used\n      -> is it running" in output
    assert "secret" not in output
