"""A browser's media socket is let in by a pass: once, for its own call, in time, from our page."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from personaplex_bridge.config import Settings
from personaplex_bridge.observing import Observer, Refused
from personaplex_bridge.web import tickets
from personaplex_bridge.web.access import BROWSER_PROTOCOL
from tests.live.harness import until
from tests.phone.scene import SETTINGS, SIGNED, closing, refusal, site, socket_of, start


@pytest.mark.parametrize("settings", [SETTINGS, SIGNED], ids=["unsigned", "signed"])
async def test_a_page_gets_its_call(settings: Settings) -> None:
    async with site(settings) as here:
        granted = await here.grant()
        async with socket_of(here, granted) as socket:
            assert socket.protocol == BROWSER_PROTOCOL
            await socket.send_str(start(granted))
            record = await here.record()
            assert record.call_sid == granted["call_sid"]
            assert record.persona == "assistant"


@pytest.mark.parametrize("settings", [SETTINGS, SIGNED], ids=["unsigned", "signed"])
async def test_a_pass_is_good_once(settings: Settings) -> None:
    async with site(settings) as here:
        granted = await here.grant()
        async with socket_of(here, granted):
            assert (await refusal(here, granted))[0] == 403
        assert (await refusal(here, granted))[0] == 403


async def test_a_pass_is_no_other_calls() -> None:
    async with site(SIGNED) as here:
        granted = await here.grant()
        protocol, sid, token = granted["protocols"]
        other = f"CA{'0' * 32}"
        for wrong in (
            (protocol, other, token),
            (protocol, token, sid),
            (protocol, sid, granted["parameters"]["token"]),
            (protocol, sid, token[:-1] + ("A" if token[-1] != "A" else "B")),
            (protocol, sid),
            (protocol,),
        ):
            assert (await refusal(here, granted, protocols=wrong))[0] == 403, wrong
        # Without the protocol it is no browser's, and Twilio has not signed it.
        assert (await refusal(here, granted, protocols=(sid, token)))[0] == 403
        async with socket_of(here, granted):
            pass  # a refused attempt has not used it up


@pytest.mark.parametrize("settings", [SETTINGS, SIGNED], ids=["unsigned", "signed"])
async def test_start_must_be_the_calls_own(settings: Settings) -> None:
    async with site(settings) as here:
        granted = await here.grant()
        parameters = granted["parameters"]
        async with socket_of(here, granted) as socket:
            await socket.send_str(start(granted, call_sid=f"CA{'0' * 32}"))
            assert await closing(socket) == 1008
        await here.bridge.pool.leave(granted["call_sid"])
        for wrong in ({**parameters, "persona": "noir"}, {"persona": "assistant"}):
            granted = await here.grant()
            async with socket_of(here, granted) as socket:
                await socket.send_str(start(granted, parameters=wrong))
                assert await closing(socket) == 1008
            await here.bridge.pool.leave(granted["call_sid"])


@pytest.mark.parametrize(
    "origin", [None, "https://other.example", "null", "http://127.0.0.1:1", "http://localhost"]
)
async def test_the_page_must_be_ours(origin: str | None) -> None:
    async with site(SIGNED) as here:
        granted = await here.grant()
        assert (await refusal(here, granted, origin=origin))[0] == 403
        async with socket_of(here, granted):
            pass


async def test_a_pass_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "LIFETIME_S", -1.0)
    async with site(SIGNED) as here:
        assert (await refusal(here, await here.grant()))[0] == 403


async def test_guesses_are_counted_and_limited() -> None:
    told: list[Refused] = []

    class Ear(Observer):
        def refused(self, why: Refused) -> None:
            told.append(why)

    async with site(dataclasses.replace(SIGNED, webhook_rate=1)) as here:
        here.bridge._observer._observers = (Ear(),)
        granted = await here.grant()
        assert (await refusal(here, granted, origin="https://other.example"))[0] == 403
        assert Refused.ORIGIN in told
        await asyncio.sleep(1.1)  # one a second
        wrong = (*granted["protocols"][:2], "once_" + "x" * 43)
        statuses = [(await refusal(here, granted, protocols=wrong))[0] for _ in range(3)]
        assert statuses[0] == 403
        assert 429 in statuses
        assert Refused.TOKEN_UNKNOWN in told
        async with socket_of(here, granted):
            await until(lambda: bool(here.bridge._calls))  # what is right is never limited
