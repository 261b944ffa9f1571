"""Reading TwiML as Twilio does, as far as a phone call with a stream needs it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from personaplex_bridge.errors import BridgeError
from personaplex_bridge.twilio.twiml import fits_parameter
from personaplex_bridge.values import LOOPBACK_HOSTS

MAX_TWIML_BYTES = 64 * 1024


class TwimlError(BridgeError):
    """Twilio would not accept this document; says why, with Twilio's error code."""


@dataclass(frozen=True, slots=True)
class ConnectStream:
    """`<Connect><Stream>`: talk to the media socket until our server closes it."""

    url: str
    parameters: dict[str, str] = field(default_factory=dict)


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


Verb: TypeAlias = ConnectStream | Hangup | Reject | Say


def read_twiml(document: str) -> list[Verb]:
    """The verbs of a TwiML document, in order.

    Raises:
        TwimlError: not well-formed, a verb this stand-in doesn't know, or a stream that Twilio
            would refuse.
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
    return [_read_verb(element) for element in root]


def _read_verb(element: ET.Element) -> Verb:
    match element.tag:
        case "Connect":
            return _read_connect(element)
        case "Hangup":
            return Hangup()
        case "Reject":
            return Reject(element.get("reason", "rejected"))
        case "Say":
            return Say(element.text or "")
        case other:
            raise TwimlError(f"<{other}> is not a verb this stand-in knows")


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
    return ConnectStream(url, parameters)


def _split_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise TwimlError(f"the stream URL is no URL: {error}") from None
    return parts
