"""What Twilio sends us: one JSON text frame an event.

`parse` and `serialize` are each other's inverse; the bridge uses the first, the stand-in for
Twilio the second. Fields that we don't know are ignored, as Twilio may add some.
Contract: https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from personaplex_bridge.errors import MessageError
from personaplex_bridge.twilio.fields import (
    Json,
    dump,
    encode_payload,
    integer_field,
    load,
    number_field,
    object_field,
    payload_field,
    text_field,
    unknown_event,
)


@dataclass(frozen=True, slots=True)
class Connected:
    """The first message on the socket."""

    protocol: str = "Call"
    version: str = "1.0.0"


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """What the media of a stream are. Twilio's are always mu-law, 8,000 Hz, mono."""

    encoding: str = "audio/x-mulaw"
    sample_rate_hz: int = 8000
    channels: int = 1

    @property
    def sample_bytes(self) -> int:
        """Of one sample: audio/L16 (RFC 2586) has two, the more significant one first."""
        return 2 if self.encoding == "audio/L16" else 1

    def __str__(self) -> str:
        """For errors."""
        return f"{self.encoding}, {self.sample_rate_hz} Hz, channels: {self.channels}"


@dataclass(frozen=True, slots=True)
class Start:
    """The stream begins; carries the `<Parameter>`s of our TwiML."""

    stream_sid: str
    call_sid: str
    account_sid: str
    sequence_number: int = 1
    tracks: tuple[str, ...] = ("inbound",)
    media_format: MediaFormat = field(default_factory=MediaFormat)
    custom_parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Media:
    """20 ms of the caller's voice: from Twilio, 160 bytes of mu-law. `timestamp_ms` is since the
    start.
    """

    stream_sid: str
    sequence_number: int
    chunk: int
    timestamp_ms: int
    payload: bytes
    track: str = "inbound"


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key."""

    stream_sid: str
    sequence_number: int
    digit: str
    track: str = "inbound_track"


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark of ours was reached in playout, or dropped by a clear."""

    stream_sid: str
    sequence_number: int
    name: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The stream ends: the caller hung up, or the call moved on."""

    stream_sid: str
    sequence_number: int
    call_sid: str
    account_sid: str


Inbound: TypeAlias = Connected | Start | Media | Dtmf | Mark | Stop


def parse(text: str | bytes) -> Inbound:
    """The event in one text frame from Twilio.

    Raises:
        MessageError: the frame is not one of the six events, or a field is wrong.
    """
    message = load(text)
    name = message.get("event")
    parser = _PARSERS.get(name) if isinstance(name, str) else None
    if parser is None:
        raise unknown_event(name)
    return parser(message)


def serialize(event: Inbound) -> str:
    """The text frame Twilio would send for `event`."""
    match event:
        case Media():
            media = {
                "track": event.track,
                "chunk": str(event.chunk),
                "timestamp": str(event.timestamp_ms),
                "payload": encode_payload(event.payload),
            }
            return dump(_envelope("media", event) | {"media": media})
        case Connected():
            message = {"protocol": event.protocol, "version": event.version}
            return dump({"event": "connected"} | message)
        case Start():
            return dump(_envelope("start", event) | {"start": _start_body(event)})
        case Dtmf():
            dtmf = {"track": event.track, "digit": event.digit}
            return dump(_envelope("dtmf", event) | {"dtmf": dtmf})
        case Mark():
            return dump(_envelope("mark", event) | {"mark": {"name": event.name}})
        case Stop():
            stop = {"accountSid": event.account_sid, "callSid": event.call_sid}
            return dump(_envelope("stop", event) | {"stop": stop})


def _envelope(name: str, event: Start | Media | Dtmf | Mark | Stop) -> Json:
    number = str(event.sequence_number)
    return {"event": name, "sequenceNumber": number, "streamSid": event.stream_sid}


def _start_body(event: Start) -> Json:
    return {
        "accountSid": event.account_sid,
        "streamSid": event.stream_sid,
        "callSid": event.call_sid,
        "tracks": list(event.tracks),
        "mediaFormat": {
            "encoding": event.media_format.encoding,
            "sampleRate": event.media_format.sample_rate_hz,
            "channels": event.media_format.channels,
        },
        "customParameters": dict(event.custom_parameters),
    }


def _parse_connected(message: Json) -> Connected:
    return Connected(text_field(message, "protocol"), text_field(message, "version"))


def _parse_start(message: Json) -> Start:
    body = object_field(message, "start")
    parameters = body.get("customParameters", {})
    tracks = body.get("tracks", ["inbound"])
    if not _is_text_map(parameters):
        raise MessageError("bad-field", "customParameters must map strings to strings")
    if not isinstance(tracks, list) or not all(isinstance(track, str) for track in tracks):
        raise MessageError("bad-field", "tracks must be a list of strings")
    return Start(
        stream_sid=text_field(message, "streamSid"),
        call_sid=text_field(body, "callSid"),
        account_sid=text_field(body, "accountSid"),
        sequence_number=number_field(message, "sequenceNumber"),
        tracks=tuple(tracks),
        media_format=_parse_media_format(object_field(body, "mediaFormat")),
        custom_parameters=parameters,
    )


def _parse_media_format(body: Json) -> MediaFormat:
    return MediaFormat(
        text_field(body, "encoding"),
        integer_field(body, "sampleRate"),
        integer_field(body, "channels"),
    )


def _parse_media(message: Json) -> Media:
    body = object_field(message, "media")
    return Media(
        text_field(message, "streamSid"),
        number_field(message, "sequenceNumber"),
        number_field(body, "chunk"),
        number_field(body, "timestamp"),
        payload_field(body),
        text_field(body, "track"),
    )


def _parse_dtmf(message: Json) -> Dtmf:
    body = object_field(message, "dtmf")
    return Dtmf(
        text_field(message, "streamSid"),
        number_field(message, "sequenceNumber"),
        text_field(body, "digit"),
        text_field(body, "track"),
    )


def _parse_mark(message: Json) -> Mark:
    name = text_field(object_field(message, "mark"), "name")
    return Mark(text_field(message, "streamSid"), number_field(message, "sequenceNumber"), name)


def _parse_stop(message: Json) -> Stop:
    body = object_field(message, "stop")
    return Stop(
        text_field(message, "streamSid"),
        number_field(message, "sequenceNumber"),
        text_field(body, "callSid"),
        text_field(body, "accountSid"),
    )


def _is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


_PARSERS: dict[str, Callable[[Json], Inbound]] = {
    "connected": _parse_connected,
    "start": _parse_start,
    "media": _parse_media,
    "dtmf": _parse_dtmf,
    "mark": _parse_mark,
    "stop": _parse_stop,
}
