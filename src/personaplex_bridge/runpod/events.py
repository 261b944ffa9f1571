"""Server-sent events: bytes in, events out (HTML standard, 9.2.6)."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 1 << 20
"""Of one event; RunPod's log lines are far shorter."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event: the id it left the stream at, and its data."""

    id: str
    data: str


class EventParser:
    """Parses a stream in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""
        self._data: list[str] = []
        self._bytes = 0

    def feed(self, piece: bytes) -> list[Event]:
        """The events that this piece completes.

        Raises:
            ValueError: one is longer than MAX_EVENT_BYTES.
        """
        # A CR at the end may be the first half of CR LF: it waits for the next byte.
        self._rest += piece
        held = b"\r" if self._rest.endswith(b"\r") else b""
        text = self._rest.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        events = [event for line in lines if (event := self._line(line)) is not None]
        if self._bytes + len(self._rest) > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        self._bytes += len(line)
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None  # comments begin with a colon; `event` and `retry` are not used

    def _dispatch(self) -> Event | None:
        data, self._data, self._bytes = self._data, [], 0
        return Event(self._id, "\n".join(data)) if data else None
