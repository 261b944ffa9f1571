"""The client's side of one connection to a model server, without any I/O.

    state     message                    next
    WAITING   handshake                  TALKING
    WAITING   error, ping, metadata      WAITING
    TALKING   audio, text, error, ping, metadata, control   TALKING

Everything else is ignored and counted: the contract asks clients to ignore unknown kinds, and a
call isn't worth ending for a message nobody needs. The other way round there is no mercy: what
is sent before the handshake is thrown away by the server, and if the Ogg headers were among it
the session is dead (docs/protocol.md), so `send_audio` refuses.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto

from personaplex_bridge.errors import LocalProtocolError, MessageError
from personaplex_bridge.personaplex.messages import (
    Audio,
    Control,
    Handshake,
    Message,
    Metadata,
    Ping,
    ServerError,
    Text,
    Unknown,
    parse,
    serialize,
)


class LineState(Enum):
    """Where a connection to a model server stands."""

    WAITING = auto()
    TALKING = auto()


_TRANSITIONS: dict[tuple[LineState, type[Message]], LineState] = {
    (LineState.WAITING, Handshake): LineState.TALKING,
    (LineState.WAITING, ServerError): LineState.WAITING,
    (LineState.WAITING, Ping): LineState.WAITING,
    (LineState.WAITING, Metadata): LineState.WAITING,
    (LineState.TALKING, Audio): LineState.TALKING,
    (LineState.TALKING, Text): LineState.TALKING,
    (LineState.TALKING, ServerError): LineState.TALKING,
    (LineState.TALKING, Ping): LineState.TALKING,
    (LineState.TALKING, Metadata): LineState.TALKING,
    (LineState.TALKING, Control): LineState.TALKING,
}


class LineProtocol:
    """Checks messages against the table above."""

    def __init__(self) -> None:
        self.state = LineState.WAITING
        self.ignored: Counter[str] = Counter()

    def receive(self, data: bytes | str) -> Message | None:
        """The message in a frame, or None for one that is ignored and counted."""
        if isinstance(data, str):
            self.ignored["text-frame"] += 1
            return None
        try:
            message = parse(data)
        except MessageError as error:
            self.ignored[error.reason] += 1
            return None
        following = _TRANSITIONS.get((self.state, type(message)))
        if following is None:
            self.ignored[self._why(message)] += 1
            return None
        self.state = following
        return message

    def send_audio(self, ogg: bytes) -> bytes:
        """The frame that carries Ogg Opus bytes to the model.

        Raises:
            LocalProtocolError: the handshake has not come yet.
        """
        if self.state is not LineState.TALKING:
            raise LocalProtocolError("audio sent before the model's handshake")
        return serialize(Audio(ogg))

    def _why(self, message: Message) -> str:
        if isinstance(message, Unknown):
            return "unknown-kind"
        name = type(message).__name__.lower()
        waiting = self.state is LineState.WAITING
        return f"{name}-before-handshake" if waiting else f"unexpected-{name}"
