"""`doctor` names what is missing and how to mend it."""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path

import pytest
from aiohttp import web

from personaplex_bridge import doctor
from personaplex_bridge.hosting import hosted
from personaplex_bridge.simulator.model import ModelOptions
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


async def test_a_missing_library(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        if name.endswith(("opus", "ogg")):
            raise Exception("Could not find Opus library.")
        return real(name)

    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", missing)
    ailing, output = await told(capsys)
    assert ailing
    assert "apt-get install libopus0 (macOS: brew install opus," in output
    assert "apt-get install libogg0 (macOS: brew install libogg," in output


async def test_missing_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    ailing, output = await told(capsys)
    assert ailing
    assert "twilio: not installed\n      -> pip install personaplex-bridge" in output
    assert "matplotlib: not installed (only demo need it)" in output


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


async def test_a_public_bridge_without_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    ailing, output = await told(capsys, PUBLIC_URL="https://bridge.example.com")
    assert ailing
    assert "TWILIO_AUTH_TOKEN: not set\n      -> set it" in output


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
