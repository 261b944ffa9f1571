"""A real Chromium for the tests, driven by Playwright: Debian's package `chromium`, or another.

Its microphone is a sound file, looped; its speaker is none. Playwright's own browsers are not used.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ON_MACOS = (
    Path("/Applications/Chromium.app/Contents/MacOS/Chromium"),
    Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
)

PATIENCE_MS = 30_000
"""For what a page is to do: a slow machine may be busy with other tests."""

expect.set_options(timeout=PATIENCE_MS)


def executable() -> str:
    """Where the browser is.

    Raises:
        RuntimeError: there is none; `./scripts/test` installs it.
    """
    found = [path for name in NAMES if (path := shutil.which(name))]
    found += [str(path) for path in ON_MACOS if path.exists()]
    if not found:
        raise RuntimeError("no Chromium here: ./scripts/test installs it")
    return found[0]


@asynccontextmanager
async def chromium(
    microphone: Path | None = None, more_flags: Sequence[str] = ()
) -> AsyncIterator[Browser]:
    """A browser. `microphone` is a WAV that it hears; without one there is a beeping device, and in
    either case the user is taken to have agreed.
    """
    flags = [
        "--no-sandbox",  # tests may run as root, in a container
        "--disable-dev-shm-usage",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        *more_flags,
    ]
    if microphone is not None:
        flags.append(f"--use-file-for-fake-audio-capture={microphone}")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable(), args=flags)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_of(
    browser: Browser, *, width: int = 1280, height: int = 800, dark: bool = False
) -> AsyncIterator[Page]:
    """A page of its own in the browser: no cookies, no storage of others.

    What goes wrong in it fails the test: errors that no one caught, and what the content security
    policy has refused.
    """
    context: BrowserContext = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
    )
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None,
    )
    try:
        yield page
    finally:
        await context.close()
    assert not faults
