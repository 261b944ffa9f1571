"""The binary messages of the model server: one kind byte, then the payload.

`parse` and `serialize` are each other's inverse. Only kinds 0 to 2 are sent by NVIDIA's server;
3 to 6 are defined by the protocol (Kyutai's `moshi`), and others may follow, so an unknown kind
is an event like any other and never an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from personaplex_bridge.errors import MessageError


class Kind(IntEnum):
    """The first byte of a message."""

    HANDSHAKE = 0
    AUDIO = 1
    TEXT = 2
    CONTROL = 3
    METADATA = 4
    ERROR = 5
    PING = 6


@dataclass(frozen=True, slots=True)
class Handshake:
    """The model is ready. Kyutai's Rust server adds 8 bytes, NVIDIA's none."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Audio:
    """Ogg Opus bytes, mono; not necessarily whole pages."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """One piece of what the model says: a token's text, or a byte piece like `<0xC3>`."""

    piece: str


@dataclass(frozen=True, slots=True)
class Control:
    """A control action; not used by NVIDIA's server."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Metadata:
    """JSON about the model; not used by NVIDIA's server."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class ServerError:
    """The server says in words what went wrong."""

    message: str


@dataclass(frozen=True, slots=True)
class Ping:
    """A sign of life."""

    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A kind this version of the protocol doesn't define."""

    kind: int
    payload: bytes


Message: TypeAlias = Handshake | Audio | Text | Control | Metadata | ServerError | Ping | Unknown


def parse(data: bytes) -> Message:
    """The message in one binary frame. Text that is no UTF-8 is read with U+FFFD in its place.

    Raises:
        MessageError: `empty-message`, the only thing without a kind.
    """
    if not data:
        raise MessageError("empty-message", "a binary frame without a kind byte")
    payload = data[1:]
    match data[0]:
        case Kind.AUDIO:
            return Audio(payload)
        case Kind.TEXT:
            return Text(payload.decode("utf-8", "replace"))
        case Kind.HANDSHAKE:
            return Handshake(payload)
        case Kind.CONTROL:
            return Control(payload)
        case Kind.METADATA:
            return Metadata(payload)
        case Kind.ERROR:
            return ServerError(payload.decode("utf-8", "replace"))
        case Kind.PING:
            return Ping(payload)
        case kind:
            return Unknown(kind, payload)


def serialize(message: Message) -> bytes:
    """The binary frame for `message`."""
    match message:
        case Audio(payload):
            return b"\x01" + payload
        case Text(piece):
            return b"\x02" + piece.encode()
        case Handshake(payload):
            return b"\x00" + payload
        case Control(payload):
            return b"\x03" + payload
        case Metadata(payload):
            return b"\x04" + payload
        case ServerError(text):
            return b"\x05" + text.encode()
        case Ping(payload):
            return b"\x06" + payload
        case Unknown(kind, payload):
            return bytes([kind]) + payload
