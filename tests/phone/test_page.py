"""The page in a real Chromium, whose microphone is a sound file: whole calls to the stand-in."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soxr
from playwright.async_api import Page, Route, expect

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.format import HD
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.config import Settings
from personaplex_bridge.console.pages import DOCS_PATH
from personaplex_bridge.phone.routes import CALLS_PATH, PAGE_PATH
from personaplex_bridge.phone.softphone_page import PAGE_PATH as SOFTPHONE_PATH
from personaplex_bridge.simulator.alignment import find_speech
from personaplex_bridge.simulator.model import ModelOptions
from tests.browser import chromium, page_of
from tests.live.harness import until
from tests.phone.scene import SETTINGS, SIGNED, Site, said, site
from tests.sound import band_db, wide_speech

PATIENCE_S = 30.0
SAID_S = 4.0
RATE_HZ = 48_000


@asynccontextmanager
async def phone(
    tmp_path: Path,
    settings: Settings = SETTINGS,
    options: ModelOptions | None = None,
    microphone: Pcm | None = None,
) -> AsyncIterator[tuple[Site, Page]]:
    """A bridge, and its phone in a browser that hears somebody speak and fall silent; or what is
    given, at 48 kHz.
    """
    spoken = write_microphone(tmp_path / "microphone.wav", microphone)
    async with (
        site(settings, options) as here,
        chromium(spoken) as browser,
        page_of(browser) as page,
    ):
        await page.goto(here.base + PAGE_PATH)
        await expect(page.get_by_label("Persona")).to_have_value("assistant")
        yield here, page


def write_microphone(path: Path, pcm: Pcm | None = None) -> Path:
    """A second of silence, some seconds of speech, and a minute of silence; the browser repeats
    that.
    """
    if pcm is None:
        # Its images are above the telephone's band.
        pcm = np.repeat(mulaw.decode(said(SAID_S)), RATE_HZ // 8000)
    sound = np.concatenate([np.zeros(RATE_HZ), pcm, np.zeros(60 * RATE_HZ)]).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(sound.tobytes())
    return path


async def save(page: Page, path: Path, rate_hz: int = 8000) -> tuple[Pcm, Pcm]:
    """The page's own recording of its call: the caller's side and the model's."""
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Save recording").click()
    await (await download.value).save_as(path)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, rate_hz)
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


async def test_a_conversation(tmp_path: Path) -> None:
    async with phone(tmp_path, SIGNED) as (here, page):
        await page.get_by_role("button", name="Call").click()
        record = await here.record()
        await expect(page.get_by_role("status")).to_have_text("Talking")
        # The stand-in says what it heard, once the speaker is silent, and some words with it.
        await expect(page.get_by_role("log")).to_contain_text("here it is again: déjà vu!")
        await page.wait_for_timeout(1000 * (SAID_S + 2))
        for key in "17":
            await page.get_by_role("button", name=key, exact=True).click()
        await page.get_by_role("log").focus()
        await page.keyboard.press("#")
        await until(lambda: record.keys == "17#", PATIENCE_S)
        await page.get_by_role("button", name="Hang up").click()
        await until(lambda: record.ending is not None, PATIENCE_S)
        assert record.ending is not None
        assert record.ending.kind == "hung_up"
        assert not record.bad_messages
        spoken, heard = await save(page, tmp_path / "call.wav")

    assert record.caller_frames * 160 == len(spoken)
    matches = find_speech(mulaw.encode(spoken), mulaw.encode(heard))
    assert len(matches) >= 3
    found = [match.correlation for match in matches]
    # A busy machine may shift some of it by a frame.
    assert max(found) > 0.95, found
    assert np.median(found) > 0.5, found
    # What was said is what the microphone's file holds, after the browser's own clean-up of it.
    assert find_speech(said(SAID_S), mulaw.encode(spoken))[1].correlation > 0.5


async def test_a_conversation_in_hd(tmp_path: Path) -> None:
    """What is said above the telephone's band is heard, and comes back."""
    echo = ModelOptions("echo", prompt_ms=100)
    async with phone(tmp_path, SIGNED, echo, wide_speech(SAID_S, RATE_HZ)) as (here, page):
        await page.get_by_role("switch", name="HD").check()
        await page.get_by_role("button", name="Call").click()
        record = await here.record()
        await expect(page.get_by_text("in HD")).to_be_visible()
        await page.wait_for_timeout(1000 * (SAID_S + 2))
        await page.get_by_role("button", name="5", exact=True).click()
        await until(lambda: record.keys == "5", PATIENCE_S)
        await page.get_by_role("button", name="Hang up").click()
        await until(lambda: record.ending is not None, PATIENCE_S)
        assert not record.bad_messages
        spoken, heard = await save(page, tmp_path / "call.wav", HD.rate_hz)

    assert record.caller_frames * 480 == len(spoken)
    # The stand-in's encoder keeps the form of the wave in the lower part of the band alone.
    low, echoed = (soxr.resample(side.astype(float), HD.rate_hz, 8000) for side in (spoken, heard))
    asked, answered = (mulaw.encode(np.asarray(side, np.int16)) for side in (low, echoed))
    matches = find_speech(asked, answered, within_s=2)
    # A busy machine may shift a part of it by a frame.
    assert max(match.correlation for match in matches) > 0.7, matches
    wanted = wide_speech(SAID_S)
    for side in (spoken, heard):
        # The browser's own clean-up of the microphone changes it, too.
        level = band_db(side, HD.rate_hz, 4000, 9000)
        assert level > band_db(wanted, HD.rate_hz, 4000, 9000) - 6


async def test_the_address_may_ask_for_hd(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        for sound, is_on in (("hd", True), ("telephone", False), ("other", False)):
            await page.goto("about:blank")
            await page.goto(here.base + PAGE_PATH + f"#sound={sound}")
            await expect(page.get_by_role("switch", name="HD")).to_be_checked(checked=is_on)


async def test_the_end_arrives(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        await page.get_by_role("button", name="Call").click()
        await here.record()
        await here.bridge.end_calls()
        await expect(page.get_by_role("alert")).to_contain_text("shuts down")
        await page.get_by_role("button", name="Call", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("takes no more calls")


async def test_a_page_that_is_left_frees_the_line(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        for _ in range(2):
            await page.get_by_role("button", name="Call").click()
            await here.record()
            await page.reload()
            await until(lambda: not here.bridge.records and not here.bridge.pool.is_taken)
            await expect(page.get_by_label("Persona")).to_have_value("assistant")


async def test_busy_is_said_and_passes(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        granted = await here.grant()
        await page.get_by_role("button", name="Call").click()
        await expect(page.get_by_role("alert")).to_contain_text("try again")
        await here.ask("DELETE", f"{CALLS_PATH}/{granted['call_sid']}")
        await page.get_by_role("button", name="Call").click()
        await here.record()
        await page.get_by_role("button", name="Hang up").click()


async def test_no_microphone_no_permission_no_server(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        for name, says in (
            ("NotFoundError", "no microphone"),
            ("NotAllowedError", "may not use the microphone"),
            ("NotReadableError", "another program"),
        ):
            await page.evaluate(
                "name => { navigator.mediaDevices.getUserMedia = "
                "async () => { throw new DOMException('x', name); } }",
                name,
            )
            await page.get_by_role("button", name="Call").click()
            await expect(page.get_by_role("alert")).to_contain_text(says)
            assert not here.bridge.pool.is_taken
        await page.reload()
        await page.route("**/phone/calls", lambda route: route.abort())
        await page.get_by_role("button", name="Call").click()
        await expect(page.get_by_role("alert")).to_contain_text("is it running?")


async def test_who_hangs_up_early_keeps_no_place(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        # While the browser asks for the microphone.
        await page.evaluate(
            "() => { const devices = navigator.mediaDevices; const get = "
            "devices.getUserMedia.bind(devices); devices.getUserMedia = async (wanted) => "
            "{ await new Promise((go) => { window.agree = go; }); "
            "window.got = await get(wanted); return window.got; } }"
        )
        await page.get_by_role("button", name="Call").click()
        await page.get_by_role("button", name="Hang up").click()
        await page.evaluate(
            "async () => { agree(); while (window.got?.getTracks()[0].readyState !== 'ended') "
            "await new Promise((go) => setTimeout(go, 20)); }"
        )
        assert not here.bridge.pool.is_taken
        # While the bridge is asked for a place.
        await page.reload()
        asked, may_go = asyncio.Event(), asyncio.Event()

        async def hold(route: Route) -> None:
            asked.set()
            await may_go.wait()
            await route.continue_()

        await page.route("**/phone/calls", hold)
        await page.get_by_role("button", name="Call").click()
        await asked.wait()
        await page.get_by_role("button", name="Hang up").click()
        async with page.expect_response("**/phone/calls/CA*") as answered:
            may_go.set()
        assert (await answered.value).status == 204
        await until(lambda: not here.bridge.pool.is_taken)


async def test_the_choices_travel(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        address = "#persona=noir&voice=VARM1&text_prompt=You+enjoy+tests."
        await page.goto("about:blank")
        await page.goto(here.base + PAGE_PATH + address)
        await expect(page.get_by_label("Persona")).to_have_value("noir")
        await page.get_by_role("button", name="Call").click()
        record = await here.record()
        assert record.persona == "noir"
        session = here.model.sessions[0]
        assert (session.voice, session.text_prompt) == ("VARM1.pt", "You enjoy tests.")
        await page.get_by_role("button", name="Hang up").click()
        await until(lambda: not here.bridge.records)


async def test_muted_the_model_hears_silence(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        await page.get_by_role("button", name="Call").click()
        record = await here.record()
        await page.get_by_role("button", name="Mute").click()
        await expect(page.get_by_role("button", name="Muted")).to_have_attribute(
            "aria-pressed", "true"
        )
        await page.wait_for_timeout(3000)
        await page.get_by_role("button", name="Hang up").click()
        await until(lambda: record.ending is not None)
        spoken, _ = await save(page, tmp_path / "call.wav")
        assert len(spoken) > 8000
        assert not spoken[-8000:].any()


async def test_whoever_needs_a_token_logs_in_first(tmp_path: Path) -> None:
    settings = dataclasses.replace(SIGNED, console_token="a-token-of-the-tests")
    async with site(settings) as here, chromium() as browser, page_of(browser) as page:
        answer = await page.goto(here.base + PAGE_PATH)
        assert answer is not None
        assert "/console/login" in page.url
        for path in (PAGE_PATH, SOFTPHONE_PATH, DOCS_PATH):
            await page.goto(here.base + path)
            await page.get_by_label("Token").fill("a-token-of-the-tests")
            await page.get_by_role("button", name="Log in").click()
            tabs = page.get_by_role("navigation", name="Pages")
            await expect(tabs.get_by_role("link", name="Phone")).to_be_visible()
            await page.get_by_role("button", name="Log out").click()
            await expect(page.get_by_label("Token")).to_be_visible()
            assert json.dumps(await page.context.cookies()) == "[]"


async def test_without_a_token_there_is_nothing_to_log_out_of(tmp_path: Path) -> None:
    async with phone(tmp_path) as (here, page):
        for path in (PAGE_PATH, SOFTPHONE_PATH, DOCS_PATH):
            async with page.expect_response(here.base + "/api/bridge"):
                await page.goto(here.base + path)
            await expect(page.get_by_role("link", name="Phone", exact=True)).to_be_visible()
            await expect(page.get_by_role("button", name="Log out")).to_be_hidden()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
async def test_the_button_is_in_sight(width: int, height: int) -> None:
    """With all that can stand above it: the notice, the prompt; and in a call."""
    settings = dataclasses.replace(SETTINGS, recording=True)
    async with (
        site(settings) as here,
        chromium() as browser,
        page_of(browser, width=width, height=height) as page,
    ):
        await page.goto(here.base + PAGE_PATH + "#text_prompt=You+enjoy+tests.")
        await expect(page.get_by_label("Persona")).to_have_value("assistant")
        await expect(page.get_by_text(settings.recording_words or "")).to_be_visible()
        await expect(page.get_by_label("Prompt")).to_be_visible()
        await expect(page.get_by_role("group", name="Keys")).to_be_hidden()
        await expect(page.get_by_role("button", name="Call")).to_be_in_viewport(ratio=1)
        await page.get_by_role("button", name="Call").click()
        await expect(page.get_by_role("group", name="Keys")).to_be_in_viewport(ratio=1)
        await expect(page.get_by_role("button", name="Hang up")).to_be_in_viewport(ratio=1)
