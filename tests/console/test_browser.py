"""The console's pages in a real Chromium, with calls in progress.

With SCREENSHOTS set to a folder, pictures of every page are put there: light and dark, wide and
narrow.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser import chromium, page_of
from tests.console.shelf import shelf
from tests.console.site import LOCKED, OPEN, TOKEN, Site, site

SCREENSHOTS = os.environ.get("SCREENSHOTS")
LOOKS = [(1280, 900, False), (1280, 900, True), (390, 844, False), (390, 844, True)]

expect.set_options(timeout=30_000)


async def log_in(page: Page, at: Site, token: str = TOKEN) -> None:
    await page.goto(at.base + "/")
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Log in").click()


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


async def test_a_call_is_seen_from_its_begin_to_its_end() -> None:
    settings = dataclasses.replace(OPEN, forward_to="+15550199")
    async with site(settings) as at, chromium() as browser, page_of(browser) as page:
        await page.goto(at.base + "/")
        await expect(page.get_by_role("heading", name="No calls")).to_be_visible()
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


async def test_drafts_of_personas_go_to_the_phone() -> None:
    async with site() as at, chromium() as browser, page_of(browser) as page:
        await page.goto(at.base + "/#personas")
        await page.get_by_role("button", name="noir").click()
        await expect(page.get_by_label("Name")).to_have_value("noir")
        await page.get_by_label("Prompt").fill("You are a lighthouse keeper.")
        await expect(page.locator("#draft-count")).to_contain_text("changed")
        phone = page.get_by_text("Try it in the phone")
        await expect(phone).to_have_attribute("aria-disabled", "true")


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
    async with (
        shelf(tmp_path) as kept,
        site(past=kept.past) as at,
        chromium() as browser,
        page_of(browser) as page,
    ):
        await page.goto(at.base + "/#history")
        rows = page.locator("#page-history .list > details")
        await expect(rows).to_have_count(2)
        await page.get_by_label("The model said").fill("noir")
        await page.get_by_role("button", name="Search").click()
        await expect(rows).to_have_count(1)
        await rows.first.locator("summary").first.click()
        await expect(rows.first).to_contain_text("The rain had not stopped")


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
        await page.locator("#page-history .list details summary").first.click()
        await page.wait_for_timeout(500)
        await picture("history")
        await page.goto(at.base + "/#personas")
        await expect(page.get_by_label("Prompt")).to_be_visible()
        await picture("personas")
        await page.goto(at.base + "/api/docs")
        await page.locator("#watch summary").click()
        await picture("docs")
