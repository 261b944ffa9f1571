"""Tokens for Twilio's Voice SDK: what is in them, and who gets one."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import time
from typing import Any

import pytest

from personaplex_bridge.errors import ConfigError
from personaplex_bridge.phone.routes import TOKEN_PATH
from personaplex_bridge.phone.softphone import SoftphoneSettings, read_softphone_settings
from tests.phone.scene import SIGNED, site

ACCOUNT, KEY, APP = "AC" + "3" * 32, "SK" + "4" * 32, "AP" + "5" * 32
SECRET = "the secret of a test, long enough"
COMPLETE = SoftphoneSettings(ACCOUNT, KEY, SECRET, APP)


async def test_a_token_says_who_and_through_which_app() -> None:
    async with site(SIGNED, softphone=COMPLETE) as here:
        status, headers, text = await here.ask("POST", TOKEN_PATH, {"identity": "ann_1"})
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        answer = json.loads(text)
    assert (answer["identity"], answer["expires_in"]) == ("ann_1", 3600)
    header, payload = _read(answer["token"])
    assert header == {"typ": "JWT", "alg": "HS256", "cty": "twilio-fpa;v=1"}
    assert (payload["iss"], payload["sub"]) == (KEY, ACCOUNT)
    assert 3500 < payload["exp"] - time.time() <= 3600
    assert payload["grants"] == {
        "identity": "ann_1",
        "voice": {"incoming": {"allow": True}, "outgoing": {"application_sid": APP}},
    }


async def test_who_gets_none() -> None:
    locked = dataclasses.replace(SIGNED, console_token="a-token-of-the-tests")
    async with site(locked, softphone=COMPLETE) as here:
        assert (await here.ask("POST", TOKEN_PATH))[0] == 401
    async with site(SIGNED, softphone=COMPLETE) as here:
        assert (await here.ask("POST", TOKEN_PATH, origin="https://other.example"))[0] == 403
        for wrong in ("ann 1", "é", "x" * 122):
            status, _, text = await here.ask("POST", TOKEN_PATH, {"identity": wrong})
            assert status == 422
            assert "letters, digits and underscores" in text
    async with site(SIGNED) as here:
        status, _, text = await here.ask("POST", TOKEN_PATH)
        assert status == 404
        assert "TWILIO_APP_SID" in text


def test_an_app_needs_all_that_signs() -> None:
    with pytest.raises(ConfigError) as caught:
        read_softphone_settings({"TWILIO_APP_SID": APP})
    for name in ("TWILIO_ACCOUNT_SID", "TWILIO_API_KEY", "TWILIO_API_SECRET"):
        assert name in str(caught.value)
    with pytest.raises(ConfigError, match="TwiML App"):
        read_softphone_settings({"TWILIO_APP_SID": "AC1"})
    assert SECRET not in repr(COMPLETE)
    assert COMPLETE.secrets == (SECRET,)


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload of a token that is signed right (RFC 7519, HS256), without its library."""
    signed, _, signature = token.rpartition(".")
    right = hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64encode(right).rstrip(b"=").decode() == signature
    header, payload = (
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        for part in signed.split(".")
    )
    return header, payload
