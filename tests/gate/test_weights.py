"""What is known of the weights: in the cache, and at the hub."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from personaplex_bridge.gate import cache, weights
from personaplex_bridge.gate.condition import Condition, Failed, Loading, Stage
from personaplex_bridge.gate.settings import GateSettings
from personaplex_bridge.gate.watching import Watch
from personaplex_bridge.web.hosting import hosted
from tests.live.harness import HOST, until
from tests.logged import logged

HUB = Path("hub/models--nvidia--personaplex-7b-v1")
HF_TOKEN = "hf_" + "x" * 30


@asynccontextmanager
async def hub(status: int) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """Stands for huggingface.co, as strictly as that: HEAD, the right path, a token."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        assert request.headers["Authorization"] == f"Bearer {HF_TOKEN}"
        location = {"Location": "https://cdn.invalid/x"} if status == 302 else None
        return web.Response(status=status, headers=location)

    app = web.Application()
    app.router.add_head("/nvidia/personaplex-7b-v1/resolve/main/config.json", answer)
    async with hosted(app, HOST, 0) as port:
        yield f"http://{HOST}:{port}", asked


async def problem(hf_home: Path | None, endpoint: str = "http://127.0.0.1:9", **more: str) -> str:
    settings = GateSettings(
        hf_home=hf_home, hf_endpoint=endpoint, hf_token=more.get("hf_token", HF_TOKEN)
    )
    return await weights.problem_with(settings) or ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, ""),
        (302, ""),
        (307, ""),
        (401, "refuses HF_TOKEN: make a read token at https://huggingface.co/settings/tokens"),
        (403, "accept it at https://huggingface.co/nvidia/personaplex-7b-v1"),
        (404, ""),
        (500, ""),
    ],
)
async def test_the_hub_is_asked(status: int, words: str, tmp_path: Path) -> None:
    with logged() as log:
        async with hub(status) as (url, asked):
            found = await problem(tmp_path, url)
    assert words in found
    assert bool(words) == bool(found)
    assert len(asked) == 1
    assert ("going on" in log.getvalue()) == (status in (404, 500))
    assert HF_TOKEN not in log.getvalue() + found


async def test_no_answer_is_no_reason_to_stop(tmp_path: Path) -> None:
    with logged() as log:
        assert not await problem(tmp_path)
    assert "no answer from http://127.0.0.1:9" in log.getvalue()


async def test_tokens_that_are_none(tmp_path: Path) -> None:
    assert "HF_TOKEN is not set" in await problem(tmp_path, hf_token="")
    found = await problem(tmp_path, hf_token="{{ RUNPOD_SECRET_HF_TOKEN }}")
    assert "asks for the RunPod secret HF_TOKEN, which doesn't exist" in found


def _fill(hf_home: Path) -> Path:
    """What the hub's library leaves: a blob, and a link to it in a snapshot."""
    folder = hf_home / HUB
    (folder / "blobs").mkdir(parents=True)
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "blobs/123").write_bytes(bytes(1000))
    (folder / "snapshots/abc/model.safetensors").symlink_to("../../blobs/123")
    return folder


async def test_what_is_cached_needs_no_token(tmp_path: Path) -> None:
    folder = _fill(tmp_path)
    assert cache.is_complete(tmp_path)
    assert cache.downloaded_bytes(tmp_path) == 1000
    assert not await problem(tmp_path, hf_token="")
    (folder / "blobs/456.incomplete").write_bytes(bytes(500))
    assert not cache.is_complete(tmp_path)
    assert cache.downloaded_bytes(tmp_path) == 1500
    assert "HF_TOKEN is not set" in await problem(tmp_path, hf_token="")
    assert not await problem(None, hf_token=""), "without HF_HOME nothing is known"


def test_a_link_that_leads_nowhere_is_not_cached(tmp_path: Path) -> None:
    folder = _fill(tmp_path)
    (folder / "blobs/123").unlink()
    assert not cache.is_complete(tmp_path)
    assert cache.downloaded_bytes(tmp_path) == 0


async def test_stages_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("personaplex_bridge.gate.watching.LOADING_POLL_S", 0.01)
    monkeypatch.setattr("personaplex_bridge.gate.watching.TELL_S", 0.05)
    import asyncio

    condition = Condition()
    watch = Watch(condition, "http://127.0.0.1:9", tmp_path, lambda: False)
    with logged() as log:
        task = asyncio.create_task(watch.run())
        await until(lambda: condition.state == Loading(Stage.DOWNLOADING, 0))
        folder = _fill(tmp_path)
        (folder / "blobs/456.incomplete").write_bytes(bytes(500))
        await until(lambda: condition.state == Loading(Stage.DOWNLOADING, 1500))
        await until(lambda: log.getvalue().count("0.0 of about 16.7 GB") >= 3)
        (folder / "blobs/456.incomplete").unlink()
        await until(lambda: condition.state == Loading(Stage.WARMING))
        condition.set(Failed("why"))
        task.cancel()
        await asyncio.wait({task})
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("downloading the weights: 0.0 of about 16.7 GB")
    assert lines[-2:] == [
        "the weights are there, the model is being loaded and warmed up",
        "the model has failed: why",
    ]


def test_settings_show_no_secret() -> None:
    settings = dataclasses.replace(
        GateSettings(), tokens=("t" * 16,), hf_token="h" * 9, runpod_api_key="k" * 9
    )
    shown = repr(settings)
    assert not [secret for secret in settings.secrets if secret in shown]
    assert len(settings.secrets) == 3
