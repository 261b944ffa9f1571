"""Reading TwiML as Twilio does, as far as a phone call with a stream needs it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from personaplex_bridge.errors import BridgeError
from personaplex_bridge.twilio.twiml import fits_parameter
from personaplex_bridge.values import LOOPBACK_HOSTS

MAX_TWIML_BYTES = 64 * 1024
MAX_QUEUE_NAME_CHARS = 64

WHILE_WAITING = frozenset({"Play", "Say", "Pause", "Hangup", "Redirect", "Leave", "Gather"})
"""What may stand in a `waitUrl`'s document."""


class TwimlError(BridgeError):
    """Twilio would not accept this document; says why, with Twilio's error code."""


@dataclass(frozen=True, slots=True)
class ConnectStream:
    """`<Connect><Stream>`: talk to the media socket until our server closes it; then `action`."""

    url: str
    parameters: dict[str, str] = field(default_factory=dict)
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Hangup:
    """`<Hangup/>`."""


@dataclass(frozen=True, slots=True)
class Reject:
    """`<Reject>`: the caller hears a busy signal or that the number is not in service."""

    reason: str


@dataclass(frozen=True, slots=True)
class Say:
    """`<Say>`: Twilio speaks."""

    text: str


@dataclass(frozen=True, slots=True)
class Play:
    """`<Play>`: Twilio plays a sound file."""

    url: str
    loop: int = 1


@dataclass(frozen=True, slots=True)
class Pause:
    """`<Pause>`: silence."""

    length_s: int = 1


@dataclass(frozen=True, slots=True)
class Redirect:
    """`<Redirect>`: go on with another document."""

    url: str


@dataclass(frozen=True, slots=True)
class Enqueue:
    """`<Enqueue>`: hold in a queue, hearing what `wait_url` says, then `action`."""

    queue: str
    wait_url: str
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """`<Leave/>`: leave the queue."""


@dataclass(frozen=True, slots=True)
class Dial:
    """`<Dial>` of one number, SIP address or client, then `action`."""

    to: str
    action: str | None = None
    timeout_s: int = 30


@dataclass(frozen=True, slots=True)
class Record:
    """`<Record>`: the caller speaks after a beep, then `action`."""

    action: str
    timeout_s: int = 5
    max_length_s: int = 3600


Verb: TypeAlias = (
    ConnectStream
    | Hangup
    | Reject
    | Say
    | Play
    | Pause
    | Redirect
    | Enqueue
    | Leave
    | Dial
    | Record
)


def read_twiml(document: str, *, waiting: bool = False) -> list[Verb]:
    """The verbs of a TwiML document, in order; `waiting` if it is for a caller in a queue.

    Raises:
        TwimlError: not well-formed, a verb this stand-in doesn't know or that may not stand
            there, or a stream that Twilio would refuse.
    """
    if len(document.encode()) > MAX_TWIML_BYTES:
        raise TwimlError("the document is longer than 64 KB (error 11750)")
    if "<!DOCTYPE" in document or "<!ENTITY" in document:
        raise TwimlError("TwiML has no document type")
    try:
        root = ET.fromstring(document)  # noqa: S314 - entities are refused above
    except ET.ParseError as error:
        raise TwimlError(f"no well-formed XML (error 12100): {error}") from None
    if root.tag != "Response":
        raise TwimlError(f"the root is <{root.tag}>, not <Response> (error 12100)")
    for element in root:
        if waiting and element.tag not in WHILE_WAITING:
            raise TwimlError(f"<{element.tag}> may not stand in a waitUrl's document")
        if element.tag == "Leave" and not waiting:
            raise TwimlError("<Leave> outside of a queue")
    return [_read_verb(element) for element in root]


def _read_verb(element: ET.Element) -> Verb:
    read = _READERS.get(element.tag)
    if read is None:
        raise TwimlError(f"<{element.tag}> is not a verb this stand-in knows")
    if element.get("method", "POST") != "POST":
        raise TwimlError(f"<{element.tag}>: this stand-in only posts")
    return read(element)


def _read_connect(element: ET.Element) -> ConnectStream:
    if [child.tag for child in element] != ["Stream"]:
        raise TwimlError("<Connect> must hold exactly one <Stream>")
    stream = element[0]
    url = stream.get("url", "")
    parts = _split_url(url)
    if parts.query:
        raise TwimlError("the stream URL has a query (error 31920)")
    local = parts.scheme == "ws" and parts.hostname in LOOPBACK_HOSTS
    if parts.scheme != "wss" and not local:
        raise TwimlError(f"the stream URL must be wss, not {parts.scheme!r}")
    if not parts.hostname:
        raise TwimlError("the stream URL has no host")
    parameters = {p.get("name", ""): p.get("value", "") for p in stream.iter("Parameter")}
    for name, value in parameters.items():
        if not fits_parameter(name, value):
            raise TwimlError(f"<Parameter> {name!r} is longer than 500 characters")
    return ConnectStream(url, parameters, element.get("action"))


def _read_enqueue(element: ET.Element) -> Enqueue:
    name, wait_url = element.text or "", element.get("waitUrl")
    if not 0 < len(name) <= MAX_QUEUE_NAME_CHARS:
        raise TwimlError("a queue's name has 1 to 64 characters")
    if wait_url is None:
        raise TwimlError("<Enqueue> without waitUrl: this stand-in has no music of Twilio's")
    return Enqueue(name, wait_url, element.get("action"))


def _read_dial(element: ET.Element) -> Dial:
    if len(element) > 1 or any(child.tag not in ("Number", "Sip", "Client") for child in element):
        raise TwimlError("<Dial>: this stand-in dials one <Number>, <Sip> or <Client>")
    to = (element[0].text if len(element) else element.text) or ""
    if not to.strip():
        raise TwimlError("<Dial> without a number (error 13224)")
    return Dial(to, element.get("action"), _integer(element, "timeout", 30, least=5, most=600))


def _read_record(element: ET.Element) -> Record:
    action = element.get("action")
    if action is None:
        raise TwimlError("<Record> without action asks for its own document over and over")
    return Record(
        action,
        _integer(element, "timeout", 5, least=1, most=14_400),
        _integer(element, "maxLength", 3600, least=1, most=14_400),
    )


def _read_say(element: ET.Element) -> Say:
    return Say("".join(element.itertext()))


def _read_play(element: ET.Element) -> Play:
    return Play(_text(element), _integer(element, "loop", 1, least=1, most=1000))


_READERS: dict[str, Callable[[ET.Element], Verb]] = {
    "Connect": _read_connect,
    "Dial": _read_dial,
    "Enqueue": _read_enqueue,
    "Hangup": lambda _: Hangup(),
    "Leave": lambda _: Leave(),
    "Pause": lambda element: Pause(_integer(element, "length", 1, least=1, most=14_400)),
    "Play": _read_play,
    "Record": _read_record,
    "Redirect": lambda element: Redirect(_text(element)),
    "Reject": lambda element: Reject(element.get("reason", "rejected")),
    "Say": _read_say,
}


def _text(element: ET.Element) -> str:
    text = (element.text or "").strip()
    if not text:
        raise TwimlError(f"<{element.tag}> without a URL")
    return text


def _integer(element: ET.Element, name: str, default: int, *, least: int, most: int) -> int:
    text = element.get(name, str(default))
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise TwimlError(f"<{element.tag}>: {name}={text!r} is no number from {least} to {most}")
    return int(text)


def _split_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise TwimlError(f"the stream URL is no URL: {error}") from None
    return parts
