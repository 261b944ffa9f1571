"""Somebody who watches the bridge, in a process of their own: a console that is open, and a
Prometheus that scrapes.

`page` is the real page in a Chromium. `events` asks the bridge for the same, the page, its files
and then the stream of events, and throws away what comes; so the bridge has the same to do, and the
machine less. It prints a line when the console is open, and one of JSON at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

from personaplex_bridge.signals import until_signal

SCRAPE_EVERY_S = 5.0
"""Prometheus's own default is 60 s, a usual setting 15."""

SCRAPES = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
}
"""What Prometheus asks for."""

_FILE = re.compile(r"""(?:src|href)="(/console/static/[^"]+)\"""")

WATCHERS = ("events", "page")


def command(how: str, url: str) -> list[str]:
    """How to start it."""
    return [sys.executable, "-m", "benchmarks.watcher_process", how, url]


class Seen:
    """What has come."""

    def __init__(self) -> None:
        self.events = 0
        self.event_bytes = 0
        self.scrapes = 0
        self.scrape_bytes = 0


async def main(how: str, url: str) -> None:
    seen = Seen()
    consoles: dict[str, Callable[[], AbstractAsyncContextManager[object]]] = {
        "events": lambda: _events(url, seen),
        "page": lambda: _page(url, seen),
    }
    async with aiohttp.ClientSession(url) as http, consoles[how]():
        print("open", flush=True)
        scraping = asyncio.create_task(_scrape(http, seen))
        await until_signal()
        scraping.cancel()
        await asyncio.wait({scraping})
    print(json.dumps(vars(seen)), flush=True)


async def _scrape(http: aiohttp.ClientSession, seen: Seen) -> None:
    while True:
        async with http.get("/metrics", headers=SCRAPES) as answer:
            answer.raise_for_status()
            seen.scrape_bytes += len(await answer.read())
        seen.scrapes += 1
        await asyncio.sleep(SCRAPE_EVERY_S)


@asynccontextmanager
async def _events(url: str, seen: Seen) -> AsyncIterator[None]:
    no_end = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(url, timeout=no_end, read_bufsize=1 << 20) as http:
        async with http.get("/") as page:
            page.raise_for_status()
            files = _FILE.findall(await page.text())
        for file in files:
            async with http.get(file) as answer:
                answer.raise_for_status()
                await answer.read()
        async with http.get("/api/events") as stream:
            stream.raise_for_status()
            reading = asyncio.create_task(_read(stream, seen))
            try:
                yield
            finally:
                reading.cancel()
                await asyncio.wait({reading})


async def _read(stream: aiohttp.ClientResponse, seen: Seen) -> None:
    async for line in stream.content:
        seen.events += line.startswith(b"data:")
        seen.event_bytes += len(line)


@asynccontextmanager
async def _page(url: str, seen: Seen) -> AsyncIterator[None]:
    """Playwright is imported only here: it is a program of its own, which would count."""
    from tests.browser import chromium, page_of

    async with chromium() as browser, page_of(browser) as page:
        tools = await page.context.new_cdp_session(page)
        await tools.send("Network.enable")

        def came(event: dict[str, str]) -> None:
            seen.events += 1
            seen.event_bytes += len(event["data"])

        tools.on("Network.eventSourceMessageReceived", came)
        await page.goto(url)
        yield
        with contextlib.suppress(Exception):  # the bridge may have gone before
            await tools.detach()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
