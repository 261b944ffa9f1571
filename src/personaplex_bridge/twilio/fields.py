"""Reading fields out of a Media Streams JSON object, saying exactly what was wrong.

Numbers travel as strings, except `sampleRate` and `channels`
(https://www.twilio.com/docs/voice/media-streams/websocket-messages).
"""

from __future__ import annotations

import binascii
from typing import Any, TypeAlias

import orjson

from personaplex_bridge.errors import MessageError

Json: TypeAlias = dict[str, Any]

MAX_PAYLOAD_BYTES = 60 * 8000
"""Longest media payload accepted: one minute of mu-law, ten seconds of audio/L16 at 24 kHz.
Anything longer is a mistake, not speech.
"""

MAX_SHOWN_CHARS = 80


def load(text: str | bytes) -> Json:
    """The JSON object in a text frame.

    Raises:
        MessageError: `bad-json` for anything that isn't a JSON object.
    """
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MessageError("bad-json", str(error)) from None
    if not isinstance(message, dict):
        raise MessageError("bad-json", f"expected an object, got {type(message).__name__}")
    return message


def dump(message: Json) -> str:
    """The text frame for a message."""
    return orjson.dumps(message).decode()


def text_field(message: Json, name: str) -> str:
    """A string that must be there."""
    value = message.get(name)
    if isinstance(value, str):
        return value
    raise _wrong(name, "a string", value)


def number_field(message: Json, name: str) -> int:
    """A whole number written as a string."""
    value = message.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    raise _wrong(name, "a string of digits", value)


def integer_field(message: Json, name: str) -> int:
    """A whole number written as a number."""
    value = message.get(name)
    if type(value) is int:
        return value
    raise _wrong(name, "a number", value)


def object_field(message: Json, name: str) -> Json:
    """A nested object."""
    value = message.get(name)
    if isinstance(value, dict):
        return value
    raise _wrong(name, "an object", value)


def payload_field(message: Json) -> bytes:
    """The decoded base64 of `payload`: at least one byte.

    Raises:
        MessageError: `bad-field`, `bad-base64` or `huge-payload`.
    """
    value = text_field(message, "payload")
    if len(value) > MAX_PAYLOAD_BYTES * 4 // 3 + 4:
        raise MessageError("huge-payload", f"{len(value)} characters of base64")
    try:
        payload = binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise MessageError("bad-base64", str(error)) from None
    if not payload:
        raise MessageError("bad-base64", "the payload is empty")
    return payload


def encode_payload(payload: bytes) -> str:
    """Base64 of media."""
    return binascii.b2a_base64(payload, newline=False).decode()


def shown(text: str) -> str:
    """Somebody else's text, fit for a line of a log: quoted, and no longer than 80 characters."""
    return repr(text[:MAX_SHOWN_CHARS])[:MAX_SHOWN_CHARS]


def unknown_event(name: object) -> MessageError:
    """For what no event is called. Of a name that is no text only the type is told: a list may
    be nested deeper than Python can show.
    """
    told = shown(name) if isinstance(name, str) else f"a name of type {type(name).__name__}"
    return MessageError("unknown-event", told)


def _wrong(name: str, expected: str, value: object) -> MessageError:
    got = "nothing" if value is None else type(value).__name__
    return MessageError("bad-field", f"{name} must be {expected}, got {got}")
