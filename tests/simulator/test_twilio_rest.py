"""Twilio's REST stand-in: as strict as Twilio, asked without the `twilio` package."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from personaplex_bridge.simulator.plan import CallFailed
from personaplex_bridge.simulator.twilio_rest import TwilioStandin
from personaplex_bridge.web.hosting import hosted

HOST, NUMBER = "127.0.0.1", "+15550100"
APP, TRUNK = "AP" + "a" * 32, "TK" + "b" * 32


class Client:
    """Asks the stand-in, as the account unless said otherwise."""

    def __init__(self, twilio: TwilioStandin, base: str) -> None:
        self.twilio = twilio
        self.sid = twilio.add_number(NUMBER)
        self.account = f"/2010-04-01/Accounts/{twilio.account_sid}"
        self.number = f"{self.account}/IncomingPhoneNumbers/{self.sid}.json"
        self.numbers = f"{self.account}/IncomingPhoneNumbers.json"
        self._base = base

    async def ask(
        self, method: str, path: str, user: tuple[str, str] | None = None, **options: Any
    ) -> tuple[int, Any]:
        who = user or (self.twilio.account_sid, self.twilio.auth_token)
        headers = {"Authorization": aiohttp.encode_basic_auth(*who), **options.pop("headers", {})}
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self._base + path, headers=headers, **options) as answer,
        ):
            return answer.status, await answer.json()

    async def update(self, **fields: str) -> tuple[int, Any]:
        return await self.ask("POST", self.number, data=fields)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    twilio = TwilioStandin()
    async with hosted(twilio.application(), HOST, 0) as port:
        yield Client(twilio, f"http://{HOST}:{port}")


@pytest.mark.parametrize(
    "user", [("AC" + "0" * 32, "x"), ("", ""), ("SK1", "wrong"), ("nobody", "nothing")]
)
async def test_who_has_no_token_is_refused(client: Client, user: tuple[str, str]) -> None:
    client.twilio.api_keys["SK1"] = "right"
    status, body = await client.ask("GET", client.numbers, user)
    assert status == 401
    assert body == {
        "code": 20003,
        "message": "Authenticate",
        "more_info": "https://www.twilio.com/docs/errors/20003",
        "status": 401,
    }


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!!", "Bearer abc", "Basic YQ=="])
async def test_odd_credentials_are_refused(client: Client, header: str) -> None:
    status, body = await client.ask("GET", client.numbers, headers={"Authorization": header})
    assert (status, body["code"]) == (401, 20003)


async def test_another_account_is_not_found(client: Client) -> None:
    status, body = await client.ask("GET", "/2010-04-01/Accounts/AC" + "9" * 32 + ".json")
    assert (status, body["code"]) == (404, 20404)
    status, body = await client.ask("GET", client.number.replace(client.sid, "PN1"))
    assert (status, body["code"]) == (404, 20404)
    status, body = await client.ask("GET", "/2010-04-01/Elsewhere.json")
    assert (status, body["code"]) == (404, 20404)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"VoiceUrl": "nonsense"}, 21402),
        ({"VoiceUrl": "wss://bridge.example.com/"}, 21402),
        ({"VoiceFallbackUrl": "https://"}, 21402),
        ({"VoiceMethod": "PUT"}, 21403),
        ({"VoiceApplicationSid": TRUNK}, 20001),
        ({"TrunkSid": "TK1"}, 20001),
        ({"VoiceApplicationSid": APP, "TrunkSid": TRUNK}, 20001),
        ({"voice_url": "https://x.example/"}, 20001),
        ({"Colour": "green"}, 20001),
    ],
)
async def test_an_update_that_is_wrong_changes_nothing(
    client: Client, fields: dict[str, str], code: int
) -> None:
    before = dict(client.twilio.number(NUMBER))
    status, body = await client.update(**{"VoiceUrl": "https://good.example/", **fields})
    assert (status, body["code"]) == (400, code)
    assert client.twilio.number(NUMBER) == before
    assert client.twilio.changes == []


async def test_updates_must_be_forms(client: Client) -> None:
    status, body = await client.ask("POST", client.number, json={"VoiceUrl": "https://x.example/"})
    assert (status, body["code"]) == (400, 20001)


async def test_an_application_and_a_trunk_replace_each_other(client: Client) -> None:
    await client.update(VoiceApplicationSid=APP)
    status, body = await client.update(TrunkSid=TRUNK)
    assert (status, body["trunk_sid"], body["voice_application_sid"]) == (200, TRUNK, None)
    _, body = await client.update(VoiceApplicationSid=APP)
    assert (body["trunk_sid"], body["voice_application_sid"]) == (None, APP)
    _, body = await client.update(VoiceApplicationSid="")
    assert body["voice_application_sid"] is None


async def test_lists_have_pages_and_a_filter(client: Client) -> None:
    for number in range(1, 5):
        client.twilio.add_number(f"+1555010{number}")
    found: list[str] = []
    path: Any = client.numbers + "?PageSize=2"
    while path:
        status, body = await client.ask("GET", path)
        assert status == 200
        found += [each["phone_number"] for each in body["incoming_phone_numbers"]]
        path = body["next_page_uri"]
    assert found == [NUMBER, *(f"+1555010{number}" for number in range(1, 5))]
    _, body = await client.ask("GET", client.numbers, params={"PhoneNumber": "+1555*103"})
    assert [each["phone_number"] for each in body["incoming_phone_numbers"]] == ["+15550103"]
    for wrong in ({"PageSize": "0"}, {"PageSize": "x"}, {"Colour": "green"}):
        status, body = await client.ask("GET", client.numbers, params=wrong)
        assert (status, body["code"]) == (400, 20001)


async def test_too_many(client: Client) -> None:
    client.twilio.too_many = 1
    assert (await client.ask("GET", client.numbers))[0] == 429
    assert (await client.ask("GET", client.numbers))[0] == 200


@pytest.mark.parametrize(
    "field", [{"trunk_sid": TRUNK}, {"voice_application_sid": APP}, {"voice_url": ""}]
)
async def test_a_number_that_has_no_webhook_is_not_dialled(
    client: Client, field: dict[str, str]
) -> None:
    client.twilio.number(NUMBER).update(field)
    with pytest.raises(CallFailed, match="webhook isn't used"):
        await client.twilio.dial(NUMBER, b"")


async def test_secrets_and_numbers_are_not_shown(client: Client) -> None:
    shown = repr(client.twilio)
    assert client.twilio.auth_token not in shown
    assert NUMBER not in shown
