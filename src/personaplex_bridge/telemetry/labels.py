"""Values of labels: words of ours only, so that nobody can make up new ones from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from personaplex_bridge import errors
from personaplex_bridge.observing import Answer
from personaplex_bridge.record import EndedBy
from personaplex_bridge.web.paths import (
    AFTER_PATH,
    FORWARDED_PATH,
    QUEUED_PATH,
    RECORDED_PATH,
    WAIT_PATH,
    WEBHOOK_PATH,
)

OTHER = "other"

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def of_kind(kind: str) -> str:
    """For `Ending.kind`, and the class of an error: `hung_up`, `model_closed`."""
    return _KINDS.get(kind, OTHER)


def _tree(error: type[errors.BridgeError]) -> Iterator[type[errors.BridgeError]]:
    yield error
    for below in error.__subclasses__():
        yield from _tree(below)


_OPERATOR = ("operator_hung_up", "operator_goodbye", "operator_forwarded")
_WORDS = ("hung_up", "shutting_down", "longest_call", "internal_error", *_OPERATOR)
_CLASSES = tuple(error.__name__ for error in _tree(errors.BridgeError))
_KINDS = {name: _HUMP.sub("_", name).lower() for name in (*_WORDS, *_CLASSES)}

MODEL_ERRORS = tuple(
    of_kind(error.__name__)
    for error in _tree(errors.ModelError)
    if error is not errors.QueueFull  # webhooks only
)
REASONS = (
    *((EndedBy.CALLER, kind) for kind in ("hung_up", "stream_error")),
    *((EndedBy.MODEL, kind) for kind in MODEL_ERRORS),
    *((EndedBy.BRIDGE, kind) for kind in ("shutting_down", "longest_call", "internal_error")),
    *((EndedBy.BRIDGE, kind) for kind in _OPERATOR),
)
"""How calls end."""
RESERVATIONS = ("reserved", "model_busy", "model_unavailable", "leases_unavailable")
_GIVEN_UP = (Answer.SORRY, Answer.FORWARDED, Answer.VOICEMAIL)
_AWAY = (Answer.SENT_ON, Answer.CALL_AGAIN)
ANSWERS: Mapping[str, Sequence[Answer]] = {
    WEBHOOK_PATH: (Answer.CONNECTED, Answer.QUEUED, Answer.REJECTED, *_GIVEN_UP, *_AWAY),
    WAIT_PATH: (Answer.HOLDING, Answer.LEFT_QUEUE),
    QUEUED_PATH: (Answer.CONNECTED, Answer.QUEUED, Answer.HUNG_UP, *_GIVEN_UP, *_AWAY),
    AFTER_PATH: (Answer.HUNG_UP, Answer.CALL_AGAIN, *_GIVEN_UP),
    FORWARDED_PATH: (Answer.HUNG_UP, Answer.SORRY, Answer.VOICEMAIL),
    RECORDED_PATH: (Answer.HUNG_UP,),
}
"""What each webhook may be answered."""
