"""Pointing numbers here and back: each row of the table in `numbers.pointing`, and the traps."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from personaplex_bridge.errors import NumberError, TwilioError
from personaplex_bridge.numbers import pointing
from personaplex_bridge.numbers.pointing import Pointed
from personaplex_bridge.numbers.rest import TwilioRest
from personaplex_bridge.numbers.saved import MAX_URLS, Saved
from tests.dev.scene import BEFORE, NUMBER, OTHER_NUMBER, Town, town

HERE = "https://bridge.example.com/voice/inbound"
THERE = "https://other.example.com/voice/inbound"
ELSEWHERE = "https://elsewhere.example/voice"
APP, TRUNK = "AP" + "a" * 32, "TK" + "b" * 32


@dataclass
class Scene:
    place: Town
    rest: TwilioRest

    @property
    def found(self) -> dict[str, Any]:
        """What Twilio says of the number."""
        return self.place.twilio.number(NUMBER)

    @property
    def kept(self) -> list[Saved]:
        return self.place.saved.all(self.place.twilio.account_sid)

    async def point(self, url: str = HERE, *, stays: bool = True) -> Pointed:
        number = await pointing.choose(self.rest, None)
        account, saved = self.place.twilio.account_sid, self.place.saved
        return await pointing.point(self.rest, saved, account, number, url, stays=stays)

    async def restore(self, *, force: bool = False) -> Pointed:
        [kept] = self.kept
        return await pointing.restore(self.rest, self.place.saved, kept, force=force)

    async def release(self) -> Pointed:
        [kept] = self.kept
        return await pointing.release(self.rest, self.place.saved, kept)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path) as place, place.rest() as rest:
        yield Scene(place, rest)


async def test_there_and_back(scene: Scene) -> None:
    scene.found.update(
        voice_method="GET",
        voice_fallback_url="https://fallback.example/",
        voice_fallback_method="GET",
        status_callback="https://status.example/",
        status_callback_method="GET",
    )
    before = dict(scene.found)
    done = await scene.point()
    assert done.was.told == BEFORE
    assert done.number.routing.told == HERE
    assert scene.found == {**before, "voice_url": HERE, "voice_method": "POST"}
    done = await scene.restore()
    assert done.was.told == HERE
    assert scene.found == before
    assert scene.kept == []


async def test_pointed_twice_it_goes_back_to_the_first(scene: Scene) -> None:
    await scene.point(HERE)
    await scene.point(THERE)
    await scene.point(THERE)
    [kept] = scene.kept
    assert (kept.before.voice_url, kept.ours) == (BEFORE, (HERE, THERE))
    await scene.restore()
    assert scene.found["voice_url"] == BEFORE
    assert scene.kept == []


async def test_one_that_points_here_already_is_left_alone(scene: Scene) -> None:
    scene.found["voice_url"] = HERE
    done = await scene.point()
    assert done.before is None
    assert scene.kept == []
    assert scene.place.twilio.changes == []


async def test_with_the_wrong_method_it_does_not_point_here(scene: Scene) -> None:
    scene.found.update(voice_url=HERE, voice_method="GET")
    await scene.point()
    assert scene.found["voice_method"] == "POST"
    await scene.restore()
    assert scene.found["voice_method"] == "GET"


async def test_an_application_is_taken_out_and_put_back(scene: Scene) -> None:
    scene.found["voice_application_sid"] = APP
    done = await scene.point()
    assert done.was.told == f"the TwiML app {APP}"
    assert (scene.found["voice_url"], scene.found["voice_application_sid"]) == (HERE, None)
    await scene.restore()
    assert (scene.found["voice_url"], scene.found["voice_application_sid"]) == (BEFORE, APP)


async def test_a_trunk_is_refused(scene: Scene) -> None:
    scene.found["trunk_sid"] = TRUNK
    with pytest.raises(NumberError, match=f"belongs to the SIP trunk {TRUNK}"):
        await scene.point()
    assert scene.kept == []
    assert scene.place.twilio.changes == []


@pytest.mark.parametrize(
    "change",
    [
        {"voice_url": ELSEWHERE},
        {"voice_application_sid": APP},
        {"trunk_sid": TRUNK},
        {"voice_method": "GET"},
    ],
)
async def test_one_that_somebody_has_changed_is_left_alone(
    change: dict[str, str], scene: Scene
) -> None:
    before = dict(scene.found)
    await scene.point()
    scene.found.update(change)
    with pytest.raises(NumberError, match="somebody has changed the number PN") as told:
        await scene.restore()
    assert NUMBER not in str(told.value)
    assert len(scene.kept) == 1
    await scene.restore(force=True)
    assert scene.found == before


async def test_by_force_everything_is_put_back(scene: Scene) -> None:
    await scene.point()
    scene.found.update(voice_url=ELSEWHERE, voice_fallback_url=ELSEWHERE)
    await scene.restore(force=True)
    assert (scene.found["voice_url"], scene.found["voice_fallback_url"]) == (BEFORE, "")


async def test_a_fallback_that_somebody_has_set_since_stays(scene: Scene) -> None:
    await scene.point()
    scene.found["voice_fallback_url"] = ELSEWHERE
    await scene.restore()
    assert (scene.found["voice_url"], scene.found["voice_fallback_url"]) == (BEFORE, ELSEWHERE)


async def test_pointed_anew_after_somebody_has_changed_it_theirs_is_kept(scene: Scene) -> None:
    await scene.point()
    scene.found["voice_url"] = ELSEWHERE
    await scene.point(THERE)
    await scene.restore()
    assert scene.found["voice_url"] == ELSEWHERE


async def test_killed_after_keeping_and_before_pointing(scene: Scene) -> None:
    await scene.point()
    scene.found["voice_url"] = BEFORE
    done = await scene.restore()
    assert done.was == done.number.routing
    assert scene.kept == []


async def test_an_answer_that_is_lost(scene: Scene) -> None:
    scene.place.twilio.lost_answers = 1
    with pytest.raises(TwilioError):
        await scene.point()
    assert scene.found["voice_url"] == HERE
    await scene.restore()
    assert scene.found["voice_url"] == BEFORE


async def test_for_a_while_over_one_that_stays(scene: Scene) -> None:
    await scene.point(HERE)
    await scene.point(THERE, stays=False)
    await scene.release()
    assert scene.found["voice_url"] == HERE
    await scene.point(THERE, stays=False)  # and killed; then once more
    await scene.point(ELSEWHERE, stays=False)
    await scene.release()
    assert scene.found["voice_url"] == HERE
    await scene.restore()
    assert scene.found["voice_url"] == BEFORE


async def test_for_a_while_over_nothing(scene: Scene) -> None:
    await scene.point(THERE, stays=False)
    await scene.release()
    assert scene.found["voice_url"] == BEFORE
    assert scene.kept == []


async def test_no_more_urls_are_remembered_than_needed(scene: Scene) -> None:
    for number in range(MAX_URLS + 5):
        await scene.point(f"https://tunnel-{number}.example/voice/inbound", stays=False)
    [kept] = scene.kept
    assert len(kept.ours) == MAX_URLS
    await scene.release()
    assert scene.found["voice_url"] == BEFORE


async def test_the_one_that_stays_is_never_forgotten(scene: Scene) -> None:
    await scene.point(HERE)
    for number in range(MAX_URLS + 5):
        await scene.point(f"https://tunnel-{number}.example/voice/inbound", stays=False)
    await scene.release()
    assert scene.found["voice_url"] == HERE
    await scene.point(THERE)
    await scene.restore()
    assert scene.found["voice_url"] == BEFORE


async def test_a_number_that_was_given_up_is_forgotten(scene: Scene) -> None:
    await scene.point()
    scene.place.twilio.numbers.clear()
    with pytest.raises(NumberError, match="not this account's any more"):
        await scene.restore()
    assert scene.kept == []


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_done_theirs_comes_back(seed: int, scene: Scene) -> None:
    """Any walk of pointing, releasing, being killed and being changed ends where somebody else has
    last pointed the number.
    """
    chance, theirs = random.Random(seed), BEFORE
    for step in range(15):
        url = f"https://bridge-{chance.randrange(4)}.example/voice/inbound"
        match chance.choice(["point", "for a while", "release", "restore", "somebody", "cut off"]):
            case "point":
                await scene.point(url)
            case "for a while":
                await scene.point(url, stays=False)
            case "somebody":
                theirs = scene.found["voice_url"] = f"https://theirs-{step}.example/"
            case "cut off":
                scene.place.twilio.lost_answers = 1
                with contextlib.suppress(TwilioError):
                    await scene.point(url, stays=False)
                scene.place.twilio.lost_answers = 0
            case going_back if scene.kept:
                with contextlib.suppress(NumberError):  # theirs is left alone
                    await (scene.release() if going_back == "release" else scene.restore())
    if scene.kept:
        with contextlib.suppress(NumberError):
            await scene.restore()
    assert scene.found["voice_url"] == theirs


async def test_the_only_one_that_takes_calls_is_chosen(tmp_path: Path) -> None:
    async with town(tmp_path, NUMBER) as place, place.rest() as rest:
        place.twilio.add_number(OTHER_NUMBER, voice=False)
        assert (await pointing.choose(rest, None)).number == NUMBER
        with pytest.raises(NumberError, match="no number that takes calls"):
            await pointing.choose(rest, OTHER_NUMBER)
        with pytest.raises(NumberError, match="no such number") as told:
            await pointing.choose(rest, "+15559999")
        assert "+15559999" not in str(told.value)


async def test_several_are_refused_and_one_can_be_named(tmp_path: Path) -> None:
    async with town(tmp_path, NUMBER, OTHER_NUMBER) as place, place.rest() as rest:
        with pytest.raises(NumberError, match="2 numbers that take calls"):
            await pointing.choose(rest, None)
        assert (await pointing.choose(rest, OTHER_NUMBER)).number == OTHER_NUMBER


def test_the_webhook_of_a_persona() -> None:
    base, path = "https://bridge.example.com", "/voice/inbound"
    assert pointing.webhook_url(base, path) == HERE
    assert pointing.webhook_url(base, path, "head coach&x") == f"{HERE}?persona=head+coach%26x"
