"""Calls of softphones at the webhook: what they may ask for, and that nobody else may."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping

import pytest

from personaplex_bridge.phone.softphone import SoftphoneSettings
from personaplex_bridge.serve import NO_SOFTPHONE
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.web.paths import WEBHOOK_PATH
from tests.phone.gateway import ACCOUNT, APP, COMPLETE
from tests.phone.scene import SIGNED, said, site

WISHES = {"persona": "noir", "voice": "VARM1", "text_prompt": "You enjoy tests."}
OURS = {"ApplicationSid": APP, **WISHES}


async def called_by(
    caller: str,
    parameters: Mapping[str, str],
    softphone: SoftphoneSettings = COMPLETE,
    query: str = "",
) -> tuple[str, str, str]:
    """Persona, voice and prompt of a short call, as the model's server got them."""
    settings = dataclasses.replace(SIGNED, twilio_account_sid=ACCOUNT)
    async with site(settings, softphone=softphone) as here:
        plan = CallPlan(
            here.base + WEBHOOK_PATH + query,
            said(1.0),
            caller=caller,
            called="",
            account_sid=ACCOUNT,
            auth_token=SIGNED.twilio_auth_tokens[0],
            hang_up_after_s=20.0,
            parameters=parameters,
        )
        calling = asyncio.create_task(PhoneCall(plan).run())
        record = await here.record()
        session = here.model.sessions[0]
        calling.cancel()
        await asyncio.wait([calling])
        return record.persona, session.voice, session.text_prompt


async def test_a_softphone_chooses() -> None:
    assert await called_by("client:ann", OURS) == ("noir", "VARM1.pt", "You enjoy tests.")


async def test_what_it_leaves_open_is_as_the_url_says() -> None:
    asked = {"ApplicationSid": APP, "voice": "VARM1", "text_prompt": ""}
    persona, voice, _ = await called_by("client:ann", asked, query="?persona=noir&voice=NATM0")
    assert (persona, voice) == ("noir", "VARM1.pt")


@pytest.mark.parametrize(
    ("caller", "parameters", "softphone"),
    [
        ("+15550111", OURS, COMPLETE),
        ("sip:ann@host.example", OURS, COMPLETE),
        ("client:ann", {**OURS, "ApplicationSid": "AP" + "0" * 32}, COMPLETE),
        ("client:ann", WISHES, COMPLETE),
        ("client:ann", OURS, NO_SOFTPHONE),
    ],
    ids=["telephone", "sip", "another app", "no app", "no app of ours"],
)
async def test_others_do_not(
    caller: str, parameters: Mapping[str, str], softphone: SoftphoneSettings
) -> None:
    persona, voice, prompt = await called_by(caller, parameters, softphone)
    assert persona == "assistant"
    assert voice != "VARM1.pt"
    assert prompt != WISHES["text_prompt"]
