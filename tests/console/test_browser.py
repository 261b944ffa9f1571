"""The console's pages in a real Chromium, with calls in progress.

With SCREENSHOTS set to a folder, pictures of every page are put there: light and dark, wide and
narrow.
"""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import io
import os
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Page, expect

from personaplex_bridge.audio import mulaw
from personaplex_bridge.console.access import GUESSES
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.web.paths import WEBHOOK_PATH
from tests.browser import chromium, page_of
from tests.console.shelf import MODEL_BEGINS_S, Shelf, record, said, shelf
from tests.console.site import LOCKED, OPEN, TOKEN, Site, site
from tests.history.makers import CALLER, entry, write

SCREENSHOTS = os.environ.get("SCREENSHOTS")
LOOKS = [(1280, 900, False), (1280, 900, True), (390, 844, False), (390, 844, True)]

expect.set_options(timeout=30_000)


async def log_in(page: Page, at: Site, token: str = TOKEN) -> None:
    await page.goto(at.base + "/")
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Log in").click()


@asynccontextmanager
async def history(tmp_path: Path) -> AsyncIterator[tuple[Shelf, Site, Page]]:
    """A console with calls past, and a page of it that shows nothing yet."""
    async with (
        shelf(tmp_path) as kept,
        site(past=kept.past) as at,
        chromium() as browser,
        page_of(browser) as page,
    ):
        yield kept, at, page


async def test_a_wrong_token_is_refused_and_the_right_one_is_not() -> None:
    async with site(LOCKED) as at, chromium() as browser, page_of(browser) as page:
        await log_in(page, at, "not-the-token-at-all")
        await expect(page.get_by_role("alert")).to_contain_text("not the token")
        assert page.url.endswith("/console/login")
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("status").first).to_have_text("Live")
        (cookie,) = await page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Token")).to_be_visible()
        await page.goto(at.base + "/#calls")
        await expect(page.get_by_label("Token")).to_be_visible()


async def test_what_stands_behind_the_hash_survives_the_login() -> None:
    """Without being sent: it may hold a prompt."""
    async with site(LOCKED) as at, chromium() as browser, page_of(browser) as page:
        asked: list[str] = []
        page.on("request", lambda one: asked.append(f"{one.url.partition('#')[0]} {one.post_data}"))
        to_the_phone = "/phone#persona=noir&text_prompt=Say+%22lighthouse%22+%E2%82%AC"
        await page.goto(at.base + to_the_phone)
        for token in ("not-the-token-at-all", TOKEN):
            await page.get_by_label("Token").fill(token)
            await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_label("Prompt")).to_have_value('Say "lighthouse" €')
        await expect(page.get_by_label("Persona")).to_have_value("noir")
        assert page.url == at.base + to_the_phone
        assert any(f"/console/login token={TOKEN}" in one for one in asked)
        assert not any("lighthouse" in one for one in asked)

        await page.goto(at.base + "/#personas")
        await expect(page.get_by_role("heading", name="Personas")).to_be_visible()
        await page.context.clear_cookies()
        await page.reload()
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", name="Personas")).to_be_visible()


async def test_too_many_wrong_tokens_are_answered_in_a_sentence() -> None:
    async with site(LOCKED) as at, chromium() as browser, page_of(browser) as page:
        await page.goto(at.base + "/")
        await page.get_by_label("Token").fill("not-the-token-at-all")
        for _ in range(GUESSES):
            await at.ask("/api/bridge", headers={"Authorization": "Bearer not-the-token-at-all"})
        await page.get_by_role("button", name="Log in").click()
        told = re.compile(r"Too many wrong tokens; wait \d+ s\.")
        await expect(page.get_by_role("alert")).to_have_text(told)


async def test_a_call_is_seen_from_its_begin_to_its_end() -> None:
    settings = dataclasses.replace(OPEN, forward_to="+15550199")
    async with site(settings) as at, chromium() as browser, page_of(browser) as page:
        await page.goto(at.base + "/")
        await expect(page.get_by_role("heading", name="No calls")).to_be_visible()
        hint = f"personaplex-bridge call hello.wav --url {at.base}{WEBHOOK_PATH}"
        await expect(page.get_by_text(hint, exact=True)).to_be_visible()
        async with at.call() as calling:
            card = page.locator(f'[data-sid="{calling.sid}"]')
            await expect(card).to_be_visible()
            await expect(card).to_contain_text("Talking")
            await expect(card).to_contain_text("+155***11")
            await expect(card.locator(".transcript li").first).not_to_be_empty()
            meter = card.get_by_role("meter").first
            level = await meter.get_attribute("aria-valuenow")
            await expect(meter).not_to_have_attribute("aria-valuenow", level or "")
            await card.get_by_role("button", name="Hang up").click()
            question = page.get_by_role("dialog")
            await expect(question).to_contain_text("Hang up on this call?")
            await question.get_by_role("button", name="Cancel").click()
            await expect(card).to_be_visible()
            await card.get_by_role("button", name="Say goodbye").click()
            await question.get_by_role("button", name="Say goodbye").click()
            report = await calling.over()
            assert OPEN.again_words in [moment.what for moment in report.moments]
            await expect(card).to_have_count(0)
        row = page.locator(".list details").first
        await expect(row).to_contain_text("ended politely from the console")
        await row.locator("summary").click()
        await expect(row.locator(".transcript li").first).to_be_visible()


async def test_a_deleted_call_leaves_the_first_page(tmp_path: Path) -> None:
    async with history(tmp_path) as (kept, at, page):
        await page.goto(at.base + "/")
        async with at.call() as calling:
            await at.ask(f"/api/calls/{calling.sid}/hangup", True)
            await calling.over()
        rows = page.locator("#page-calls .list > details")
        await expect(rows).to_have_count(1)
        same = entry("hello", call_sid=calling.sid)
        await write(kept.database, [same], tmp_path)
        assert (await at.ask(f"/api/history/{same.id}", method="DELETE"))[0] == 200
        await expect(rows).to_have_count(0)


async def test_it_comes_back_by_itself_when_the_bridge_does() -> None:
    async with chromium() as browser, page_of(browser) as page:
        async with site(LOCKED) as at:
            await log_in(page, at)
            await expect(page.locator("#connection")).to_have_text("Live")
        await expect(page.locator("#connection")).to_have_text("Reconnecting…")
        async with site(LOCKED, port=at.port) as again:
            await expect(page.locator("#connection")).to_have_text("Live")
            async with again.call() as calling:
                await expect(page.locator(f'[data-sid="{calling.sid}"]')).to_be_visible()


async def test_drafts_of_personas_are_kept_and_tried_in_the_phone() -> None:
    async with site() as at, chromium() as browser, page_of(browser) as page:
        await page.goto(at.base + "/#personas")
        await page.get_by_role("button", name="noir").click()
        await expect(page.get_by_label("Name")).to_have_value("noir")
        prompt = page.get_by_label("Prompt")
        await prompt.fill("You are a lighthouse keeper.")
        await page.get_by_label("Voice").select_option("VARM1")
        await expect(page.locator("#draft-count")).to_contain_text("changed")
        await page.get_by_role("button", name="assistant").click()
        await expect(prompt).not_to_have_value("You are a lighthouse keeper.")
        await page.reload()
        await page.get_by_role("button", name="noir").click()
        await expect(prompt).to_have_value("You are a lighthouse keeper.")
        async with page.expect_popup() as popup:
            await page.get_by_role("link", name="Try it in the phone").click()
        phone = await popup.value
        await expect(phone.get_by_label("Persona")).to_have_value("noir")
        await expect(phone.get_by_label("Voice")).to_have_value("VARM1")
        await expect(phone.get_by_label("Prompt")).to_have_value("You are a lighthouse keeper.")
        await page.get_by_role("button", name="Undo changes").click()
        await expect(prompt).not_to_have_value("You are a lighthouse keeper.")
        await page.reload()
        await expect(page.locator(".draft:visible")).to_have_count(0)


async def test_a_new_persona_is_drafted_and_copied() -> None:
    async with site() as at, chromium() as browser, page_of(browser) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.goto(at.base + "/#personas")
        listed = page.get_by_role("list", name="Personas").get_by_role("button")
        count = len(load_catalogue().personas)
        await expect(listed).to_have_count(count)
        await page.get_by_role("button", name="noir").click()
        await page.get_by_label("Name").fill("film noir")
        renamed = page.get_by_role("button", name="film noir draft from noir")
        await expect(renamed).to_have_attribute("aria-pressed", "true")

        await page.get_by_role("button", name="New persona").click()
        await expect(listed).to_have_count(count + 1)
        await page.get_by_label("Name").fill("keeper")
        await page.get_by_label("Voice").select_option("VARM1")
        prompt = 'You keep a "lighthouse".\n\nC:\\temp is\twhere """ is.'
        await page.get_by_label("Prompt").fill(prompt)
        await page.reload()
        await expect(renamed).to_be_visible()
        await page.get_by_role("button", name="keeper").click()
        await expect(page.get_by_label("Prompt")).to_have_value(prompt)
        link = page.get_by_role("link", name="Try it in the phone")
        await expect(link).to_have_attribute("href", re.compile("/phone#voice=VARM1&text_prompt="))
        await page.get_by_role("button", name="Copy as TOML").click()
        await expect(page.get_by_text("Copied.")).to_be_visible()
        toml = await page.evaluate("navigator.clipboard.readText()")
        assert tomllib.loads(toml) == {
            "personas": {"keeper": {"voice": "VARM1", "text_prompt": prompt}}
        }
        assert toml.count("\n") == 6, "the prompt's own lines"
        await page.get_by_role("button", name="Delete draft").click()
        await expect(listed).to_have_count(count)
        await page.reload()
        await expect(renamed).to_be_visible()
        await expect(listed).to_have_count(count)


async def test_keys_alone_are_enough() -> None:
    settings = dataclasses.replace(OPEN, forward_to="+15550199")
    async with (
        site(settings) as at,
        at.call() as calling,
        chromium() as browser,
        page_of(browser) as page,
    ):
        await page.goto(at.base + "/")
        card = page.locator(f'[data-sid="{calling.sid}"]')
        await card.get_by_role("button", name="Hang up").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await calling.over()
        await expect(card).to_have_count(0)


async def test_calls_past_are_searched_and_opened(tmp_path: Path) -> None:
    async with history(tmp_path) as (kept, at, page):
        await page.goto(at.base + "/#history")
        rows = page.locator("#page-history .list > details")
        await expect(rows).to_have_count(len(kept.calls))
        await page.get_by_label("The model said").fill("welcome")
        await page.get_by_role("button", name="Search").click()
        await expect(rows).to_have_count(4)
        persona = page.get_by_role("combobox", name="Persona")
        offered = await persona.evaluate("({ list }) => [...list.options].map((one) => one.value)")
        assert offered == list(load_catalogue().personas)
        await persona.fill("assistant")
        await page.keyboard.press("Enter")
        await expect(rows).to_have_count(1)
        await rows.first.locator("summary").first.click()
        await expect(rows.first).to_contain_text("welcome")
        await expect(rows.first).to_contain_text("It was not recorded")
        await page.get_by_role("button", name="Clear").click()
        await page.get_by_label("Model", exact=True).select_option("failed")
        await page.get_by_role("button", name="Search").click()
        await expect(rows).to_have_count(1)
        await expect(rows.first).to_contain_text("model failed")
        await page.get_by_role("button", name="Clear").click()
        await page.locator("#past-number").fill("+155***11")
        await page.get_by_role("button", name="Search").click()
        await expect(page.locator("#page-history").get_by_role("status")).to_contain_text(
            "Number must be the whole number"
        )
        await page.goto(at.base + "/#history/nonsense")
        alert = page.locator("#page-history").get_by_role("alert")
        await expect(alert).to_have_text("No such call is kept.")


async def test_a_recording_is_seen_and_heard(tmp_path: Path) -> None:
    async with history(tmp_path) as (kept, at, page):
        await page.goto(f"{at.base}/#history/{kept.recorded}")
        player = page.get_by_role("group", name="Recording")
        await expect(player).to_have_attribute("data-drawn", "yes")
        await expect(player.locator(".player-time")).to_have_text("0:00 / 0:24")
        rows = page.locator("#page-history .list > details")
        await expect(rows).to_have_count(len(kept.calls) + 1)  # the search is over, too
        await expect(rows.filter(visible=True)).to_have_count(1)
        await expect(page.get_by_role("button", name="Search")).to_be_hidden()
        assert await page.evaluate(LOUDNESS) == pytest.approx([1.0, 1.0], abs=0.05)
        lag_s = await page.evaluate(LAG)
        assert lag_s == pytest.approx(MODEL_BEGINS_S, abs=0.08), "the two sides, in their places"

        word = page.get_by_text("Tuesday.", exact=True)
        await word.click()
        await expect(word).to_have_class("word now")
        await expect(player.get_by_role("button", name="Pause")).to_be_visible()
        await expect(player.locator(".player-time")).not_to_have_text("0:07 / 0:24")
        await player.get_by_role("button", name="Pause").click()
        await player.get_by_role("button", name="Go to 0:13: Caller interrupts").click()
        await expect(player.locator(".player-time")).to_have_text("0:13 / 0:24")
        await page.get_by_role("button", name="Play from 0:05").first.focus()
        await page.keyboard.press("Enter")
        await expect(player.locator(".player-time")).to_have_text("0:05 / 0:24")
        wave = player.locator(".wave")
        box = await wave.bounding_box()
        assert box is not None
        await wave.click(position={"x": box["width"] / 2, "y": 20})
        await expect(player.locator(".player-time")).to_have_text("0:12 / 0:24")
        await player.get_by_label("Position").focus()
        await page.keyboard.press("ArrowRight")
        await expect(player.locator(".player-time")).to_have_text("0:13 / 0:24")

        drawn, sound = await wave.element_handle(), await player.locator("audio").element_handle()
        assert await drawn.evaluate("wave => wave.firstElementChild.childElementCount")
        await player.get_by_role("button", name="Play", exact=True).click()
        await page.get_by_role("link", name="All calls").click()
        await expect(rows.filter(visible=True)).to_have_count(len(kept.calls))
        assert await drawn.evaluate("wave => wave.firstElementChild.childElementCount") == 0, (
            "it is closed"
        )
        assert await sound.evaluate("sound => sound.paused")


PEAKS = """
async () => {
  const { peaksOf } = await import("/console/static/peaks.js");
  const { peaks } = await peaksOf(document.querySelector("audio").src);
"""
LOUDNESS = (
    PEAKS
    + """
  const [left, right] = peaks.map((side) => side.reduce((sum, one) => sum + one, 0));
  return [peaks[0].length / 600, right / left > 0.9 ? 1 : right / left];
}
"""
)
"""How long the peaks are, of 24 s, and how loud the right is against the left."""
LAG = (
    PEAKS
    + """
  const fits = (lag) => peaks[0].reduce((sum, one, at) => sum + one * (peaks[1][at + lag] ?? 0), 0);
  const lags = Array.from({ length: 50 }, (_, lag) => lag);
  return lags.sort((a, b) => fits(b) - fits(a))[0] / 25;
}
"""
)
"""How much later the right side says what the left says."""


async def test_a_long_recording_is_drawn_in_its_places(tmp_path: Path) -> None:
    """It is decoded a minute at a time."""
    async with history(tmp_path) as (kept, at, page):
        await asyncio.to_thread(kept.recording.unlink)
        await asyncio.to_thread(record, kept.recording, 150)
        await page.goto(f"{at.base}/#history/{kept.recorded}")
        player = page.get_by_role("group", name="Recording")
        await expect(player).to_have_attribute("data-drawn", "yes")
        await expect(player.locator(".player-time")).to_have_text("0:00 / 2:30")
        left = np.array(await page.evaluate(PEAKS + "return [...peaks[0]]; }"))
    wanted = np.abs(mulaw.decode(said(150)).astype(np.float64)).reshape(-1, 320).max(axis=1) / 32768
    assert len(left) == len(wanted)
    for begin in range(0, len(wanted), 750):
        part = slice(begin, begin + 750)
        assert np.corrcoef(left[part], wanted[part])[0, 1] > 0.95, f"from {begin / 25} s"


async def test_a_call_deleted_on_its_own_page_is_gone_from_the_list(tmp_path: Path) -> None:
    async with history(tmp_path) as (kept, at, page):
        rows = page.locator("#page-history .list > details").filter(visible=True)
        await page.goto(at.base + "/#history")
        await expect(rows).to_have_count(len(kept.calls))
        await page.goto(f"{at.base}/#history/{kept.recorded}")
        await expect(rows).to_have_count(1)
        await rows.get_by_role("button", name="Delete this call…").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete the call").click()
        await expect(rows).to_have_count(len(kept.calls) - 1)
        await expect(page.locator(f'[data-id="{kept.recorded}"]')).to_have_count(0)


async def test_a_callers_calls_are_exported_and_deleted(tmp_path: Path) -> None:
    async with history(tmp_path) as (kept, at, page):
        await page.goto(at.base + "/#history")
        rows = page.locator("#page-history .list > details")
        await page.locator("#past-number").fill(CALLER)
        await page.get_by_role("button", name="Search").click()
        await expect(rows).to_have_count(6)
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Export CSV").click()
        exported = await (await download.value).path()
        lines = list(csv.DictReader(io.StringIO(exported.read_text("utf-8"))))
        assert [line["caller"] for line in lines] == ["'+155***11"] * 6

        question = page.get_by_role("dialog")
        await page.get_by_role("button", name="Delete a caller").click()
        await question.get_by_role("button", name="Cancel").click()
        await rows.first.locator("summary").first.click()
        await rows.first.get_by_role("button", name="Delete this call…").click()
        await question.get_by_role("button", name="Delete the call").click()
        await expect(page.get_by_text("1 call and 1 recording deleted")).to_be_visible()
        await expect(rows).to_have_count(5)
        await page.get_by_role("button", name="Delete a caller").click()
        await question.get_by_label("whole number").fill(CALLER)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("5 calls and 0 recordings deleted")).to_be_visible()
        await expect(page.get_by_text("No call fits")).to_be_visible()
        await page.get_by_role("button", name="Clear").click()
        await expect(rows).to_have_count(6)
        await rows.first.locator("summary").first.click()
        await rows.first.get_by_role("button", name="Delete this caller…").click()
        await question.get_by_role("button", name="Delete all").click()
        await expect(rows).to_have_count(1)
    assert await asyncio.to_thread(kept.recording.exists) is False


async def test_calls_that_are_left_are_shown_after_a_deletion(tmp_path: Path) -> None:
    async with history(tmp_path) as (kept, at, page):
        await asyncio.to_thread(kept.recording.unlink)
        await asyncio.to_thread(kept.recording.mkdir)  # no file: it can't be unlinked
        await page.goto(at.base + "/#history")
        rows = page.locator("#page-history .list > details")
        await expect(rows).to_have_count(len(kept.calls))
        question = page.get_by_role("dialog")
        await page.get_by_role("button", name="Delete a caller").click()
        await question.get_by_label("whole number").fill(CALLER)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("5 calls deleted; kept for now")).to_be_visible()
        await expect(rows).to_have_count(len(kept.calls) - 5)


@pytest.mark.skipif(not SCREENSHOTS, reason="SCREENSHOTS names no folder")
@pytest.mark.parametrize(("width", "height", "dark"), LOOKS)
async def test_pictures(width: int, height: int, dark: bool, tmp_path: Path) -> None:
    folder = Path(SCREENSHOTS or ".")
    name = f"{'wide' if width > 600 else 'narrow'}-{'dark' if dark else 'light'}"
    settings = dataclasses.replace(LOCKED, forward_to="+15550199", max_calls=200)
    async with (
        shelf(tmp_path) as kept,
        site(settings, past=kept.past) as at,
        chromium() as browser,
        page_of(browser, width=width, height=height, dark=dark) as page,
    ):

        async def picture(what: str) -> None:
            await page.evaluate("scrollTo(0, 0)")
            await page.screenshot(path=folder / f"{what}-{name}.png", full_page=True)

        await log_in(page, at, "a-wrong-one-to-see")
        await picture("login")
        await log_in(page, at)
        await expect(page.locator("#connection")).to_have_text("Live")
        await picture("empty")
        async with at.call() as first, at.call(caller="+15550123"):
            await page.wait_for_timeout(9000)
            await picture("calls")
            await (
                page.locator(f'[data-sid="{first.sid}"]')
                .get_by_role("button", name="Hang up")
                .click()
            )
            await picture("question")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await first.over()
            await page.locator("#page-calls .list details summary").first.click()
            await picture("ended")
        await page.goto(at.base + "/#history")
        await expect(page.locator("#page-history .list > details")).to_have_count(12)
        await picture("history")
        await page.get_by_role("button", name="Delete a caller").click()
        await picture("delete")
        await page.keyboard.press("Escape")
        await page.goto(f"{at.base}/#history/{kept.recorded}")
        await expect(page.get_by_role("group", name="Recording")).to_have_attribute(
            "data-drawn", "yes"
        )
        await page.get_by_text("Tuesday.", exact=True).click()
        await page.get_by_role("button", name="Pause").click()
        await page.get_by_text("All figures").click()
        await picture("recording")
        await page.goto(f"{at.base}/#history/{'0' * 16}")
        await expect(page.get_by_role("alert")).to_be_visible()
        await picture("no-such-call")
        await page.goto(at.base + "/#personas")
        await page.get_by_label("Prompt").fill("You are a lighthouse keeper, and glad of company.")
        await picture("personas")
        await page.goto(at.base + "/api/docs")
        await page.locator("#watch summary").click()
        await picture("docs")
