"""The softphone in a real Chromium, with Twilio's own SDK: whole calls to a stand-in of Twilio's.

With SCREENSHOTS set to a folder, pictures of it are put there: light and dark, wide and narrow.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from personaplex_bridge.phone.routes import TOKEN_PATH
from personaplex_bridge.phone.softphone import SoftphoneSettings
from personaplex_bridge.phone.softphone_page import OPTIONS_PATH, PAGE_PATH, POLICY
from personaplex_bridge.serve import NO_SOFTPHONE
from personaplex_bridge.vendor.serving import load_libraries
from personaplex_bridge.web.paths import WEBHOOK_PATH
from tests.browser import chromium, page_of
from tests.live.harness import until
from tests.phone.gateway import APP, COMPLETE, Gateway, serving
from tests.phone.scene import SIGNED, Site, site

PEER = Path(__file__).with_name("peer.js").read_text("utf-8")
PATIENCE_S = 30.0
KEY_5, KEY_HASH = [770, 1336], [941, 1477]


@dataclasses.dataclass
class Scene:
    """A bridge, its softphone in a browser, and Twilio."""

    here: Site
    page: Page
    twilio: Gateway

    async def go_online(self, name: str = "ann") -> None:
        await self.page.get_by_label("Your name at Twilio").fill(name)
        await self.page.get_by_role("button", name="Go online").click()
        await expect(self.page.get_by_role("status")).to_have_text("Ready to call")

    async def call(self) -> None:
        await self.page.get_by_role("button", name="Call", exact=True).click()
        await expect(self.page.get_by_role("status")).to_have_text("Talking")

    async def peer(self, method: str, *arguments: Any) -> Any:
        """What the other side of the sound has to say to this."""
        script = f"(given) => peer.{method}(...given)"
        return await asyncio.wait_for(
            self.twilio.peer.evaluate(script, list(arguments)), PATIENCE_S
        )


@asynccontextmanager
async def softphone(
    folder: Path, softphone: SoftphoneSettings = COMPLETE, **twilio: Any
) -> AsyncIterator[Scene]:
    """The page, before anything is pressed. Twilio's hosts are the stand-in, by TLS as ever."""
    settings = dataclasses.replace(SIGNED, twilio_account_sid=COMPLETE.account_sid)
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(site(settings, softphone=softphone))
        token = SIGNED.twilio_auth_tokens[0]
        gateway = Gateway(here.base + WEBHOOK_PATH, token, **twilio)
        port = await stack.enter_async_context(serving(gateway, folder))
        flags = [
            f"--host-resolver-rules=MAP *.twilio.com 127.0.0.1:{port}",
            "--ignore-certificate-errors",
            "--disable-features=WebRtcHideLocalIpsWithMdns",
            "--allow-loopback-in-peer-connection",
        ]
        browser = await stack.enter_async_context(chromium(more_flags=flags))
        gateway.peer = await stack.enter_async_context(page_of(browser))
        await gateway.peer.evaluate(PEER)
        page = await stack.enter_async_context(page_of(browser))
        await page.goto(here.base + PAGE_PATH)
        yield Scene(here, page, gateway)


async def test_a_call_through_the_app(tmp_path: Path) -> None:
    async with softphone(tmp_path) as scene:
        page, twilio = scene.page, scene.twilio
        await expect(page.get_by_role("button", name="Call", exact=True)).to_be_disabled()
        await scene.go_online()
        assert (await twilio.hear("register")) == {"media": {"audio": True}}
        await page.get_by_label("Persona").select_option("noir")
        await page.get_by_label("Voice").select_option("VARM1")
        await page.get_by_text("Text prompt of my own").click()
        await page.get_by_label("Text prompt", exact=True).fill("You enjoy tests & “quotes”.")
        await scene.call()
        record = await scene.here.record()
        session = scene.here.model.sessions[0]
        assert record.persona == "noir"
        assert (session.voice, session.text_prompt) == ("VARM1.pt", "You enjoy tests & “quotes”.")
        await scene.peer("hearsSound")
        await expect(page.get_by_role("meter", name="Other side")).not_to_have_attribute(
            "aria-valuenow", "0"
        )
        await expect(page.get_by_role("meter", name="You")).not_to_have_attribute(
            "aria-valuenow", "0"
        )
        await expect(page.locator("#codec")).to_have_text("opus")
        await expect(page.locator("#edge")).to_have_text("dublin")
        await page.get_by_role("button", name="Mute").click()
        await expect(page.get_by_role("button", name="Muted")).to_have_attribute(
            "aria-pressed", "true"
        )
        heard = asyncio.create_task(scene.peer("hears", KEY_5))
        await page.get_by_role("button", name="5", exact=True).click()
        assert await heard
        heard = asyncio.create_task(scene.peer("hears", KEY_HASH))
        await page.get_by_role("log").focus()
        await page.keyboard.press("#")
        assert await heard
        await page.get_by_role("button", name="Hang up").click()
        assert (await twilio.hear("hangup"))["callsid"] == twilio.call_sid
        await expect(page.get_by_role("status")).to_have_text("Ready to call")
        await expect(page.get_by_role("log")).to_contain_text("The call is over")
        await until(lambda: not scene.here.bridge.records, PATIENCE_S)
        assert any(path.startswith("sdk.twilio.com/") for path in twilio.asked_for)
        assert any(path.startswith("eventgw.us1.twilio.com/") for path in twilio.asked_for)
