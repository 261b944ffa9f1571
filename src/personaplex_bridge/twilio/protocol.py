"""The order of events on one media stream, without any I/O.

    state    event      next
    OPENED   connected  OPENED
    OPENED   start      STARTED
    STARTED  media, dtmf, mark   STARTED
    STARTED  stop       STOPPED

Everything else is out of order. Events after `start` must carry its streamSid.
"""

from __future__ import annotations

from enum import Enum, auto

from personaplex_bridge.errors import MessageError
from personaplex_bridge.twilio.fields import shown
from personaplex_bridge.twilio.inbound import (
    Connected,
    Dtmf,
    Inbound,
    Mark,
    Media,
    MediaFormat,
    Start,
    Stop,
    parse,
)


class StreamState(Enum):
    """Where a media stream stands."""

    OPENED = auto()
    STARTED = auto()
    STOPPED = auto()


_TRANSITIONS: dict[tuple[StreamState, type[Inbound]], StreamState] = {
    (StreamState.OPENED, Connected): StreamState.OPENED,
    (StreamState.OPENED, Start): StreamState.STARTED,
    (StreamState.STARTED, Media): StreamState.STARTED,
    (StreamState.STARTED, Dtmf): StreamState.STARTED,
    (StreamState.STARTED, Mark): StreamState.STARTED,
    (StreamState.STARTED, Stop): StreamState.STOPPED,
}


class StreamProtocol:
    """Checks the events of one stream against the table above, and its media against the format
    that they must have.
    """

    def __init__(self, media_format: MediaFormat = MediaFormat()) -> None:  # noqa: B008 - frozen
        self._media_format = media_format
        self._sample_bytes = media_format.sample_bytes
        self.state = StreamState.OPENED
        self.stream_sid = ""

    def receive(self, text: str | bytes) -> Inbound:
        """The event in a text frame, if it may come now.

        Raises:
            MessageError: malformed, out of order (`media-before-start` and the like), of
                another stream, in another format, or with a part of a sample. The state is
                unchanged, so the caller may ignore the frame and go on.
        """
        event = parse(text)
        following = _TRANSITIONS.get((self.state, type(event)))
        if following is None:
            raise self._out_of_order(event)
        self._check(event)
        self.state = following
        return event

    def _check(self, event: Inbound) -> None:
        match event:
            case Connected():
                pass
            case Start(media_format=found):
                if found != self._media_format:
                    told = f"must be {self._media_format}; got {shown(str(found))}"
                    raise MessageError("bad-format", told)
                self.stream_sid = event.stream_sid
            case _:
                if event.stream_sid != self.stream_sid:
                    raise MessageError("wrong-stream", shown(event.stream_sid))
                if self._sample_bytes > 1 and isinstance(event, Media):
                    self._check_samples(len(event.payload))

    def _check_samples(self, size_bytes: int) -> None:
        if size_bytes % self._sample_bytes:
            raise MessageError("split-sample", f"{size_bytes} bytes of media")

    def _out_of_order(self, event: Inbound) -> MessageError:
        name = type(event).__name__.lower()
        if self.state is StreamState.OPENED:
            return MessageError(f"{name}-before-start", "the stream has not started")
        return MessageError(f"unexpected-{name}", f"the stream is {self.state.name.lower()}")
