"""What `doctor` says of calls from a phone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from personaplex_bridge.config import read_settings
from personaplex_bridge.doctor import phone
from personaplex_bridge.findings import Finding
from personaplex_bridge.numbers import pointing
from tests.dev.scene import HOST, NUMBER, OTHER_NUMBER, Town, town

URL = "https://bridge.example.com"


async def examined(place: Town, **environ: str) -> dict[str, Finding]:
    given = {**place.environ, **environ}
    return {each.what: each for each in await phone.examine(given, read_settings(given))}


async def test_all_is_there(tmp_path: Path) -> None:
    async with town(tmp_path, NUMBER, OTHER_NUMBER) as place:
        place.twilio.number(NUMBER)["voice_url"] = f"{URL}/voice/inbound"
        found = await examined(place, PUBLIC_URL=URL, RUNPOD_API_KEY="secret")
    assert found["Twilio account"].found.startswith("full, active; ")
    assert found["Twilio numbers"].found == "2, of which 1 point here"
    assert found["tunnel"].found == "an ngrok agent is running, with 0 tunnels"
    assert found["RUNPOD_API_KEY"].found == "set"
    assert all(finding.is_well for finding in found.values())
    assert NUMBER not in str(found), "what doctor says is shown to others"


async def test_who_has_nothing_has_nothing_to_mend(tmp_path: Path) -> None:
    nothing = {"TWILIO_ACCOUNT_SID": "", "TWILIO_AUTH_TOKEN": ""}
    async with town(tmp_path) as place:
        found = await examined(place, **nothing, NGROK_API_URL=f"http://{HOST}:9")
        assert place.twilio.asked == []
    assert "only calls from a phone need it" in found["Twilio account"].found
    assert "no ngrok agent, and no ngrok package" in found["tunnel"].found
    assert all(finding.is_well for finding in found.values())


async def test_offline_there_is_nothing_to_mend(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        found = await examined(place, TWILIO_API_URL=f"http://{HOST}:9")
    assert "no answer from 127.0.0.1:9" in found["Twilio account"].found
    assert found["Twilio account"].is_well


async def test_an_account_that_keeps_us_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phone, "TIMEOUT_S", 0.2)
    async with town(tmp_path, too_many=2, retry_after_s=5) as place:
        found = await examined(place)
    assert found["Twilio account"].found == "no answer from Twilio; are you online?"


async def test_wrong_credentials_are_to_be_mended(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        found = await examined(place, TWILIO_AUTH_TOKEN="wrong-token")
    assert "20003" in found["Twilio account"].found
    assert not found["Twilio account"].is_well
    assert "wrong-token" not in str(found)


async def test_a_trial_without_numbers(tmp_path: Path) -> None:
    async with town(tmp_path, kind="Trial") as place:
        place.twilio.numbers.clear()
        found = await examined(place)
    assert "may not use <Stream>" in found["Twilio account"].found
    assert "none takes calls" in found["Twilio numbers"].found
    assert all(finding.is_well for finding in found.values())


async def test_a_suspended_account(tmp_path: Path) -> None:
    async with town(tmp_path, status="suspended") as place:
        found = await examined(place)
    assert not found["Twilio account"].is_well


async def test_webhooks_that_are_kept(tmp_path: Path) -> None:
    async with town(tmp_path) as place, place.rest() as rest:
        number = await pointing.choose(rest, None)
        await pointing.point(rest, place.saved, place.twilio.account_sid, number, f"{URL}/x")
        found = await examined(place)
        assert "twilio restore --all" in found["kept webhooks"].found
        place.saved.path(number.sid).write_text("{", "utf-8")
        found = await examined(place)
        assert not found["kept webhooks"].is_well


async def test_wrong_addresses_are_settings_to_mend(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        found = await examined(place, NGROK_API_URL="nonsense", TWILIO_API_URL="x://y")
    assert not found["setting"].is_well


async def test_a_token_without_the_package(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        place = replace(place, ngrok_url=f"http://{HOST}:9")
        found = await examined(place, NGROK_AUTHTOKEN="secret-token")
    assert found["tunnel"].is_well
    assert "secret-token" not in str(found)
