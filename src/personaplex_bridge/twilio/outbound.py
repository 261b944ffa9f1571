"""What we send to Twilio: `media`, `mark` and `clear`, as text frames.

Twilio is strict in this direction (error 31951: bad JSON, wrong streamSid, extra or missing
fields), so `parse`, which the stand-in for Twilio uses, is strict too.
Contract: https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from personaplex_bridge.errors import MessageError
from personaplex_bridge.twilio.fields import (
    Json,
    dump,
    encode_payload,
    load,
    object_field,
    payload_field,
    shown,
    text_field,
    unknown_event,
)


@dataclass(frozen=True, slots=True)
class PlayMedia:
    """Play media of the stream's format after everything sent before it."""

    stream_sid: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class SendMark:
    """Echo `name` when everything sent before it has been played or cleared."""

    stream_sid: str
    name: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget all media not yet played."""

    stream_sid: str


Outbound: TypeAlias = PlayMedia | SendMark | Clear


def serialize(event: Outbound) -> str:
    """The text frame for `event`."""
    match event:
        case PlayMedia():
            payload = {"payload": encode_payload(event.payload)}
            return dump({"event": "media", "streamSid": event.stream_sid, "media": payload})
        case SendMark():
            mark = {"name": event.name}
            return dump({"event": "mark", "streamSid": event.stream_sid, "mark": mark})
        case Clear():
            return dump({"event": "clear", "streamSid": event.stream_sid})


def parse(text: str | bytes) -> Outbound:
    """The event in a text frame of ours, as strictly as Twilio reads it.

    Raises:
        MessageError: the frame would earn error 31951.
    """
    message = load(text)
    match message.get("event"):
        case "media":
            body = _exactly(message, "media", "payload")
            return PlayMedia(text_field(message, "streamSid"), payload_field(body))
        case "mark":
            body = _exactly(message, "mark", "name")
            return SendMark(text_field(message, "streamSid"), text_field(body, "name"))
        case "clear":
            _only(message, "event", "streamSid")
            return Clear(text_field(message, "streamSid"))
        case other:
            raise unknown_event(other)


def _exactly(message: Json, body_name: str, field_name: str) -> Json:
    _only(message, "event", "streamSid", body_name)
    body = object_field(message, body_name)
    _only(body, field_name)
    return body


def _only(message: Json, *names: str) -> None:
    extra = sorted(set(message) - set(names))
    if extra:
        raise MessageError("bad-field", f"extra field {shown(extra[0])}")
