"""The libraries of others: unchanged, licensed, served as pages need them, and usable there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

import personaplex_bridge.vendor
from personaplex_bridge.vendor.serving import VENDOR_PATH, load_libraries
from tests.browser import chromium, page_of
from tests.phone.scene import SIGNED, site

VENDOR = Path(personaplex_bridge.vendor.__file__).parent
SCRIPTS = Path(__file__).parents[2] / "scripts"
MANIFEST = json.loads((VENDOR / "vendored.json").read_text("utf-8"))


@pytest.mark.parametrize("library", MANIFEST)
def test_the_files_are_those_of_the_manifest(library: str) -> None:
    files = MANIFEST[library]["files"]
    assert {path.name for path in (VENDOR / library).iterdir()} == set(files)
    assert "LICENSE.txt" in files
    for name, origin in files.items():
        content = (VENDOR / library / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == origin["sha256"], name


def test_their_licences_are_told() -> None:
    notice = (SCRIPTS.parent / "NOTICE").read_text("utf-8").splitlines()
    for library in load_libraries().values():
        assert any(
            line.startswith(f"{library.package} ") and library.licence in line for line in notice
        )


@pytest.mark.parametrize("arguments", [["--update", "uplot"], ["--update", "left-pad@1"], ["x"]])
def test_the_script_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    ran = _vendor(*arguments)
    assert ran.returncode == 2
    assert "NAME@VERSION" in ran.stderr


def test_a_changed_package_is_refused(tmp_path: Path) -> None:
    """An `npm` that packs another file than the manifest's."""
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\nfor folder; do :; done\necho no archive > "$folder/x.tgz"\n')
    npm.chmod(0o755)
    ran = _vendor("--check", path=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert ran.returncode == 1
    assert "uplot@" in ran.stderr
    assert MANIFEST["uplot"]["integrity"] in ran.stderr


def test_without_npm_it_says_so(tmp_path: Path) -> None:
    ran = _vendor("--check", path=str(tmp_path))
    assert ran.returncode == 2
    assert "npm is missing" in ran.stderr


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm here")
def test_the_files_are_what_npm_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_fetch_timeout", "20000")
    ran = _vendor("--check")
    if ran.returncode == 2:
        pytest.skip("npm's registry can't be reached")
    assert ran.returncode == 0, ran.stderr


async def test_they_are_served_to_anybody() -> None:
    async with site(SIGNED) as here:
        for name, library in load_libraries().items():
            for file in library.files:
                path = f"{VENDOR_PATH}/{name}/{file}"
                status, headers, text = await here.ask("GET", path)
                assert status == 200
                assert text == (VENDOR / name / file).read_text("utf-8")
                assert headers["Content-Type"] == f"{TYPES[Path(file).suffix]}; charset=utf-8"
                assert headers["Cache-Control"] == "no-cache"
                assert headers["X-Content-Type-Options"] == "nosniff"
                again = {"If-None-Match": headers["ETag"]}
                assert (await here.ask("GET", path, headers=again))[0] == 304
                _, headers, _ = await here.ask("GET", f"{path}?v={library.version}")
                assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
                _, headers, _ = await here.ask("GET", f"{path}?v=0.0.0")
                assert headers["Cache-Control"] == "no-cache"
        for wrong in ("uplot/x.js", "x/uPlot.esm.js", "uplot/..%2fvendored.json", "vendored.json"):
            assert (await here.ask("GET", f"{VENDOR_PATH}/{wrong}"))[0] == 404


TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("chart.js", {"position": "relative", "red": True}),
        ("waveform.js", {"styles": 0, "cursor": "absolute", "canvases": 2}),
        ("softphone.js", {"isSupported": True}),
    ],
)
async def test_they_work_under_the_pages_policy(script: str, expected: dict[str, object]) -> None:
    """`page_of` fails for whatever the content security policy has refused."""
    async with site() as here, chromium() as browser, page_of(browser) as page:
        await _settled(page, here.base)
        found = await page.evaluate(Path(__file__).with_name(script).read_text("utf-8"))
        assert found == expected


async def _settled(page: Page, base: str) -> None:
    await page.goto(f"{base}/phone")
    await expect(page.get_by_label("Persona")).to_have_value("assistant")


def _vendor(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "lib" / "vendor.py"), *arguments],
        env={**os.environ, "PATH": path or os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
