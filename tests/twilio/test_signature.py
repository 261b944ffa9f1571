"""X-Twilio-Signature."""

import pytest

from personaplex_bridge.twilio.signature import sign, upgrade_is_signed, webhook_is_signed

# The vector of twilio-python's own tests (tests/unit/test_request_validator.py).
TOKEN = "12345"
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
FORM = {
    "CallSid": "CA1234567890ABCDE",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
    "Caller": "+14158675309",
}
SIGNATURE = "RSOYDt4T1cUTdK1PDd93/VVr8B8="

STREAM = "wss://bridge.example/voice/stream"


def test_known_vector() -> None:
    assert sign(TOKEN, URL, FORM) == SIGNATURE
    assert webhook_is_signed(TOKEN, URL, FORM, SIGNATURE)


@pytest.mark.parametrize(
    ("token", "url", "form", "signature"),
    [
        ("12346", URL, FORM, SIGNATURE),
        (TOKEN, URL + "3", FORM, SIGNATURE),
        (TOKEN, URL, FORM | {"Digits": "1235"}, SIGNATURE),
        (TOKEN, URL, FORM | {"More": ""}, SIGNATURE),
        (TOKEN, URL, FORM, SIGNATURE.lower()),
        (TOKEN, URL, FORM, ""),
    ],
)
def test_a_webhook_with_another_signature(
    token: str, url: str, form: dict[str, str], signature: str
) -> None:
    assert not webhook_is_signed(token, url, form, signature)


@pytest.mark.parametrize("scheme", ["wss", "https"])
@pytest.mark.parametrize("port", ["", ":443"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("ours", [STREAM, STREAM + "/", "wss://bridge.example:443/voice/stream"])
def test_upgrade_as_twilio_may_sign_it(scheme: str, port: str, slash: str, ours: str) -> None:
    theirs = f"{scheme}://bridge.example{port}/voice/stream{slash}"
    assert upgrade_is_signed(TOKEN, ours, sign(TOKEN, theirs, {}))


def test_upgrade_at_another_port() -> None:
    url = "wss://bridge.example:8443/voice/stream"
    assert upgrade_is_signed(TOKEN, url, sign(TOKEN, url, {}))


@pytest.mark.parametrize(
    ("token", "signed"),
    [
        ("12346", STREAM),
        (TOKEN, "wss://bridge.example/voice"),
        (TOKEN, "wss://bridge.example/voice/stream/other"),
        (TOKEN, "wss://evil.example/voice/stream"),
        (TOKEN, "wss://bridge.example:8443/voice/stream"),
        (TOKEN, "ws://bridge.example/voice/stream"),
        (TOKEN, STREAM + "?persona=noir"),
    ],
)
def test_upgrade_signed_for_something_else(token: str, signed: str) -> None:
    assert not upgrade_is_signed(TOKEN, STREAM, sign(token, signed, {}))


def test_upgrade_without_a_signature() -> None:
    assert not upgrade_is_signed(TOKEN, STREAM, "")
