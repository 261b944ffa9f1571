"""What may not leave in a line of a log doesn't."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_bridge import logs
from personaplex_bridge.config import read_settings
from personaplex_bridge.logs import JsonLines, Redacting
from personaplex_bridge.twilio import signature

TOKEN, OLD = "0123456789abcdef0123456789abcdef", "fedcba98"
ENVIRON = {
    "TWILIO_AUTH_TOKEN": f"{TOKEN}, {OLD}",
    "LEASES_URL": "redis://bridge:pa%24s%2Fword@redis.example:6379/0",
    "WHEN_BUSY": "forward",
    "FORWARD_TO": "sip:secretary@office.example",
}


def line(formatter: logging.Formatter, message: str, **more: object) -> str:
    """A message as it would stand in the log, without time and level."""
    made = {"msg": message, "levelname": "INFO", "levelno": logging.INFO, **more}
    text = formatter.format(logging.makeLogRecord(made))
    return text.partition("INFO    ")[2]


@pytest.fixture
def formatter() -> Redacting:
    return Redacting(read_settings(ENVIRON).secrets)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (f"token {TOKEN}, {OLD}!", "token (secret), (secret)!"),
        ("redis://bridge:pa%24s%2Fword@redis.example", "redis://bridge:(secret)@redis.example"),
        ("the password 'pa$s/word'", "the password '(secret)'"),
        ("for sip:secretary@office.example", "for (secret)"),
        ("for sip%3Asecretary%40office.example", "for (secret)"),
        ("a call from +15550111", "a call from (number)"),
        ("From=%2B4915550111&To=%2B15550100", "From=(number)&To=(number)"),
        ("'+15550111'", "'(number)'"),
        ("+123456789012345678901234", "(number)"),
        ("no persona ' 15550111'", "no persona ' (number)'"),
        ("From=15550111, To:4915550111.", "From=(number), To:(number)."),
        ("stream once_Ab-_9" + "x" * 38 + " refused", "stream (token) refused"),
        ("cut off: 'once_Ab-", "cut off: '(token)"),
        (f"signed {signature.sign(TOKEN, 'https://a.example', {})}", "signed (signature)"),
        ("signed RSOYDt4T1cUTdK1PDd93%2FVVr8B8%3D", "signed (signature)"),
        ("signed 'RSOYDt4T1cUTdK1PDd93/VVr8B8='", "signed '(signature)'"),
    ],
)
def test_private_things_are_left_out(formatter: Redacting, message: str, expected: str) -> None:
    assert line(formatter, message) == expected


@pytest.mark.parametrize(
    "message",
    [
        "call begins: 'CA9876543210abcdef9876543210abcdef', persona noir",
        "lag to model 20/60/80 ms, +50 ppm; caller frames 3160",
        "model server: ws://10.0.0.1:8998/api/chat, calls at a time: 4",
        "refused a webhook from 2001:db8::1: its signature is wrong",
        "1 + 2 = 3; a+123456; +12345; 1048576 bytes; 0.12345678 s; 4611686018427387904",
        "2026-11-21 18:28:01,012; ws://10.0.0.1:65535/20261121; 12345678.5 ms",
    ],
)
def test_the_rest_stays(formatter: Redacting, message: str) -> None:
    assert line(formatter, message) == message


def test_tracebacks_too(formatter: Redacting) -> None:
    try:
        raise ValueError(f"no call from +15550111 with {TOKEN}")
    except ValueError:
        text = line(formatter, "it failed", exc_info=sys.exc_info())
    assert "ValueError: no call from (number) with (secret)" in text


def test_arguments_too(formatter: Redacting) -> None:
    assert line(formatter, "%s and %r", args=(TOKEN, OLD)) == "(secret) and '(secret)'"


def test_what_is_configured_is_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    root, stream = logging.Logger("root"), io.StringIO()
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("INFO", [TOKEN])
    root.warning("the token is %s", TOKEN)
    assert stream.getvalue().endswith("WARNING the token is (secret)\n")


def test_no_secrets_no_harm() -> None:
    assert line(Redacting(["", ""]), "hello") == "hello"


def entry(formatter: logging.Formatter, message: str, **more: object) -> dict[str, object]:
    """A message as one line of JSON."""
    made = {"msg": message, "levelname": "INFO", "levelno": logging.INFO, "name": "x", **more}
    text = formatter.format(logging.makeLogRecord(made))
    assert "\n" not in text
    assert text.isascii()
    read = json.loads(text)
    assert isinstance(read, dict)
    return read


@pytest.fixture
def json_lines() -> JsonLines:
    return JsonLines(read_settings({**ENVIRON, "TWILIO_AUTH_TOKEN": f'{TOKEN}, quo"te\\é'}).secrets)


def test_json_has_one_object_a_line(json_lines: JsonLines) -> None:
    read = entry(json_lines, "first\nsecond %s", args=("é",), created=1_700_000_000.0625)
    assert read == {
        "time": "2023-11-14T22:13:20.062Z",
        "level": "INFO",
        "logger": "x",
        "message": "first\nsecond é",
    }


def test_json_is_redacted_too(json_lines: JsonLines) -> None:
    read = entry(json_lines, "a call from +15550111 with %r", args=(TOKEN,))
    assert read["message"] == "a call from (number) with '(secret)'"
    read = entry(json_lines, 'here: quo"te\\é')
    assert read["message"] == "here: (secret)"
    try:
        raise ValueError(f"no call from +15550111 with {TOKEN}")
    except ValueError:
        read = entry(json_lines, "it failed", exc_info=sys.exc_info())
    error = str(read["error"])
    assert error.startswith("Traceback")
    assert error.endswith("ValueError: no call from (number) with (secret)")


def test_json_tells_the_call_by_its_number(caplog: pytest.LogCaptureFixture) -> None:
    logs.CallLog(7).warning("%s frames", 12)
    assert caplog.messages == ["[call 7] 12 frames"]
    read = json.loads(JsonLines().format(caplog.records[0]))
    assert (read["call"], read["message"]) == (7, "12 frames")
    assert read["logger"] == "personaplex_bridge.call"


@settings(max_examples=200)
@given(st.text())
def test_json_of_any_text_is_one_line_and_comes_back(text: str) -> None:
    read = entry(JsonLines(), "%s", args=(text,))
    assert read["message"] == JsonLines().redacted(text)


def test_the_format_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    root, stream = logging.Logger("root"), io.StringIO()
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure("INFO", [TOKEN], "json")
    root.warning("the token is %s", TOKEN)
    assert json.loads(stream.getvalue())["message"] == "the token is (secret)"
