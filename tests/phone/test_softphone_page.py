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


async def test_keys_by_signalling_where_sound_takes_none(tmp_path: Path) -> None:
    async with softphone(tmp_path, takes_keys=False) as scene:
        await scene.go_online()
        await scene.call()
        await scene.page.get_by_role("button", name="5", exact=True).click()
        told = await scene.twilio.hear("dtmf")
        assert told == {"callsid": scene.twilio.call_sid, "dtmf": "5"}


async def test_a_call_comes_in_and_is_answered(tmp_path: Path) -> None:
    async with softphone(tmp_path) as scene:
        page, twilio = scene.page, scene.twilio
        await scene.go_online("bob_1")
        await twilio.ring("+15550111")
        ringing = page.get_by_role("alertdialog", name="+15550111")
        await expect(ringing).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("Ringing")
        await ringing.get_by_role("button", name="Answer").click()
        assert (await twilio.hear("answer"))["callsid"] == twilio.call_sid
        await expect(page.get_by_role("status")).to_have_text("Talking")
        await expect(ringing).to_be_hidden()
        await scene.peer("hearsSound")
        await twilio.hang_up()
        await expect(page.get_by_role("status")).to_have_text("Ready to call")
        assert not twilio.of("hangup")


async def test_a_call_comes_in_and_is_refused_or_given_up(tmp_path: Path) -> None:
    async with softphone(tmp_path) as scene:
        page, twilio = scene.page, scene.twilio
        await scene.go_online()
        await twilio.ring("client:carol")
        await page.get_by_role("button", name="Refuse").click()
        assert (await twilio.hear("reject"))["callsid"] == twilio.call_sid
        await expect(page.get_by_role("status")).to_have_text("Ready to call")
        await twilio.ring("sip:dave@host.example")
        await expect(page.get_by_role("alertdialog")).to_contain_text("sip:dave@host.example")
        await twilio.tell("cancel", callsid=twilio.call_sid)
        await expect(page.get_by_role("alertdialog")).to_be_hidden()
        await expect(page.get_by_role("button", name="Call", exact=True)).to_be_enabled()


async def test_a_refused_token_says_what_to_do(tmp_path: Path) -> None:
    wrong = dataclasses.replace(COMPLETE, api_secret="another secret, which is as long")
    async with softphone(tmp_path, wrong) as scene:
        page = scene.page
        await page.get_by_label("Your name at Twilio").fill("ann")
        await page.get_by_role("button", name="Go online").click()
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("Invalid access token (Twilio's error 20101)")
        await expect(alert).to_contain_text("TWILIO_API_SECRET")
        await expect(page.get_by_role("button", name="Go online")).to_be_enabled()
        await expect(page.get_by_role("status")).to_have_text("Offline")


async def test_the_token_is_renewed_in_time(tmp_path: Path) -> None:
    async with softphone(tmp_path, token_lives_s=61.0) as scene:
        await scene.go_online()
        await expect(scene.page.get_by_role("log")).to_contain_text("The token is renewed")
        await scene.twilio.hear("listen", 2)
        await scene.page.route(f"**{TOKEN_PATH}", lambda route: route.abort())
        await expect(scene.page.get_by_role("alert")).to_contain_text("can't be renewed")
        await expect(scene.page.get_by_role("alert")).to_contain_text("is it running?")
        await scene.twilio.tell("error", error={"code": 31205, "message": "expired"})
        await expect(scene.page.get_by_role("alert")).to_contain_text("Twilio's error 20104")
        await expect(scene.page.get_by_role("status")).to_have_text("Offline")


async def test_it_comes_back_when_the_connection_is_lost(tmp_path: Path) -> None:
    async with softphone(tmp_path) as scene:
        await scene.go_online()
        await scene.twilio.sockets[-1].close()
        await scene.twilio.hear("register", 2)
        await expect(scene.page.get_by_role("log")).to_contain_text("connection to Twilio is lost")
        await expect(scene.page.get_by_role("status")).to_have_text("Ready to call")
        await scene.page.get_by_role("button", name="Go offline").click()
        await expect(scene.page.get_by_role("status")).to_have_text("Offline")
        await expect(scene.page.get_by_role("button", name="Call", exact=True)).to_be_disabled()


async def test_a_call_goes_on_when_signalling_is_lost(tmp_path: Path) -> None:
    async with softphone(tmp_path) as scene:
        await scene.go_online()
        await scene.call()
        await scene.twilio.sockets[-1].close()
        await scene.twilio.hear("invite", 2)
        await expect(scene.page.get_by_role("log")).to_contain_text("is lost; trying again")
        await expect(scene.page.get_by_role("status")).to_have_text("Talking")
        # In a call it must be the edge that the call is at: the page's policy allows all of them.
        assert scene.twilio.hosts == ["voice-js.roaming.twilio.com", "voice-js.dublin.twilio.com"]
        await scene.page.get_by_role("button", name="Hang up").click()
        await scene.twilio.hear("hangup")


async def test_what_keeps_a_call_from_being_is_said(tmp_path: Path) -> None:
    async with softphone(tmp_path) as scene:
        page = scene.page
        await scene.go_online()
        await page.evaluate(
            "() => { const devices = navigator.mediaDevices; window.get = devices.getUserMedia;"
            "devices.getUserMedia = async () => "
            "{ throw new DOMException('x', 'NotAllowedError'); } }"
        )
        await page.get_by_role("button", name="Call", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("Twilio's error 31401")
        await expect(page.get_by_role("alert")).to_contain_text("Allow the microphone")
        await expect(page.get_by_role("status")).to_have_text("Ready to call")
        await page.evaluate("() => { navigator.mediaDevices.getUserMedia = window.get; }")
        await scene.call()
        await scene.twilio.hang_up(error={"code": 31404, "message": "no such app"})
        await expect(page.get_by_role("alert")).to_contain_text("Twilio's error 31404")
        await expect(page.get_by_role("alert")).to_contain_text("TWILIO_APP_SID")
        await expect(page.get_by_role("status")).to_have_text("Ready to call")


async def test_leaving_the_page_hangs_up(tmp_path: Path) -> None:
    async with softphone(tmp_path) as scene:
        await scene.go_online()
        await scene.call()
        scene.page.on("dialog", lambda dialog: dialog.accept())
        await scene.page.goto(scene.here.base + "/phone")
        assert (await scene.twilio.hear("hangup"))["callsid"] == scene.twilio.call_sid


async def test_without_an_account_it_says_what_is_missing(tmp_path: Path) -> None:
    partly = SoftphoneSettings(account_sid=COMPLETE.account_sid)
    async with softphone(tmp_path, partly) as scene:
        page = scene.page
        await expect(page.get_by_role("heading", name="What the softphone needs")).to_be_visible()
        await expect(page.get_by_label("Settings")).to_contain_text("missingTWILIO_APP_SID")
        await expect(page.get_by_label("Settings")).to_contain_text("setTWILIO_ACCOUNT_SID")
        await expect(page.get_by_role("button", name="Go online")).to_be_hidden()
        await expect(page.get_by_text("/voice/inbound")).to_be_visible()
        kinds = page.get_by_role("navigation", name="Kind of phone")
        await expect(kinds.get_by_role("link", name="In this browser")).to_be_visible()
        assert not scene.twilio.said


async def test_only_this_page_may_go_to_twilio() -> None:
    async with site(softphone=COMPLETE) as here:
        headers = (await here.ask("GET", PAGE_PATH))[1]
        assert headers["Content-Security-Policy"] == POLICY
        assert "wss://voice-js.roaming.twilio.com" in POLICY
        assert "unsafe" not in POLICY
        assert "*" not in POLICY
        assert POLICY.count("script-src 'self';") == 1
        for path in ("/", "/phone", OPTIONS_PATH, "/phone/static/softphone.js"):
            assert "twilio" not in (await here.ask("GET", path))[1]["Content-Security-Policy"]


async def test_who_may_use_it() -> None:
    locked = dataclasses.replace(SIGNED, console_token="a-token-of-the-tests")
    async with site(locked, softphone=COMPLETE) as here:
        visit = {"Accept": "text/html"}
        status, headers, _ = await here.ask("GET", PAGE_PATH, headers=visit, origin=None)
        assert (status, headers["Location"]) == (303, f"/console/login?next={PAGE_PATH}")
        assert (await here.ask("GET", OPTIONS_PATH))[0] == 401
        shown = {"Authorization": f"Bearer {locked.console_token}"}
        status, _, text = await here.ask("GET", OPTIONS_PATH, headers=shown)
        assert status == 200
        assert COMPLETE.api_secret is not None
        assert COMPLETE.api_secret not in text
        assert APP not in text
    async with site(softphone=NO_SOFTPHONE) as here:
        _, _, text = await here.ask("GET", OPTIONS_PATH)
        assert '"is_ready": false' in text


async def test_the_page_asks_for_the_version_that_is_there() -> None:
    async with site() as here:
        _, _, text = await here.ask("GET", PAGE_PATH)
    version = load_libraries()["twilio-voice-sdk"].version
    assert f'"/vendor/twilio-voice-sdk/twilio.min.js?v={version}"' in text


SCREENSHOTS = os.environ.get("SCREENSHOTS")
LOOKS = [(1280, 900, False), (1280, 900, True), (390, 844, False), (390, 844, True)]


@pytest.mark.parametrize(("width", "height", "dark"), LOOKS if SCREENSHOTS else LOOKS[2:3])
async def test_it_fits(tmp_path: Path, width: int, height: int, dark: bool) -> None:
    """Nothing is wider than the window, in any state."""
    look = f"{'dark' if dark else 'light'}-{'narrow' if width < 700 else 'wide'}"

    async def take(name: str) -> None:
        assert await page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name
        if SCREENSHOTS is not None:
            path = Path(SCREENSHOTS) / f"{name}-{look}.png"
            await page.screenshot(path=path, full_page=True)

    async with softphone(tmp_path) as scene:
        page = scene.page
        await page.set_viewport_size({"width": width, "height": height})
        await page.emulate_media(color_scheme="dark" if dark else "light")
        await expect(page.get_by_label("Persona")).to_have_value("assistant")
        await take("softphone-offline")
        await scene.go_online()
        await scene.twilio.ring("+15550111")
        await expect(page.get_by_role("alertdialog")).to_be_visible()
        await take("softphone-ringing")
        await page.get_by_role("button", name="Refuse").click()
        await scene.call()
        await expect(page.locator("#codec")).to_have_text("opus")
        await page.wait_for_timeout(1500)
        await take("softphone-talking")
        await scene.twilio.hang_up(error={"code": 31404, "message": "no such app"})
        await expect(page.get_by_role("alert")).to_be_visible()
        await take("softphone-problem")
        await page.goto(f"{scene.here.base}/phone")
        await expect(page.get_by_label("Persona")).to_have_value("assistant")
        await take("phone")
    async with softphone(tmp_path, NO_SOFTPHONE) as scene:
        page = scene.page
        await page.set_viewport_size({"width": width, "height": height})
        await page.emulate_media(color_scheme="dark" if dark else "light")
        await expect(page.get_by_role("heading", name="What the softphone needs")).to_be_visible()
        await take("softphone-setup")
