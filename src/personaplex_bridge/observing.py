"""Who looks on while the bridge works: metrics, traces, a history. Nobody, unless told so.

An `Observer` is told what happens, at the moment it happens and in the task of the call, so it may
neither wait nor compute much. `Several` stands between the bridge and its observers: what one of
them raises goes to the log, not into a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from personaplex_bridge import logs
from personaplex_bridge.record import CallRecord

_log = logging.getLogger(logs.NAME)


class Answer(StrEnum):
    """What a webhook was answered with; fit for a label."""

    CONNECTED = "connected"
    """Put through to a media stream of ours."""
    QUEUED = "queued"
    """The caller is to hold."""
    HOLDING = "holding"
    """The caller holds, and hears their place in line or a piece of hold sound."""
    LEFT_QUEUE = "left_queue"
    """The caller holds no longer; Twilio asks what comes next."""
    REJECTED = "rejected"
    """A busy signal."""
    FORWARDED = "forwarded"
    VOICEMAIL = "voicemail"
    SORRY = "sorry"
    """No model can go on with the call: the caller is told so, and hung up on."""
    SENT_ON = "sent_on"
    """To another bridge, because this one is being drained."""
    CALL_AGAIN = "call_again"
    """The bridge shuts down, and there is no other."""
    HUNG_UP = "hung_up"
    """All was said."""


class Refused(StrEnum):
    """Why a request or a stream was not served; fit for a label."""

    SIGNATURE = "wrong_signature"
    ACCOUNT = "other_account"
    RATE = "too_many_requests"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    NO_BODY = "no_body_in_time"
    NOT_FOUND = "not_found"
    """A path or a method that isn't served."""
    ADDRESS = "address_not_allowed"
    ORIGIN = "other_origin"
    """A browser that shows no page of ours."""
    CONSOLE = "console"
    """Somebody who may not use the console, or its API."""
    NO_START = "no_start"
    """A media socket that did not become a stream."""
    NO_ROOM = "no_room"
    """A stream without a webhook, when all model servers are taken or the bridge is full."""
    TOKEN_MISSING = "no_token"  # noqa: S105 - a reason
    TOKEN_UNKNOWN = "unknown_token"  # noqa: S105
    TOKEN_OTHER_CALL = "token_of_other_call"  # noqa: S105
    TOKEN_USED = "token_used_before"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_ALTERED = "parameters_altered"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Webhook:
    """A request of Twilio's, and what it was answered with."""

    call_sid: str
    """As Twilio sent it; empty if it did not."""
    path: str
    """One of `web.paths`."""
    answer: Answer
    took_s: float
    """From the request's headers to the answer."""
    held_s: float | None = None
    """How long the caller has held, when they leave the queue."""


class Observer(Protocol):
    """Is told what happens. Inherit from it, and override what you want to know.

    Called in the event loop: return at once, and hand work that takes time to somebody else.
    """

    def webhook_answered(self, webhook: Webhook) -> None:
        """Twilio has asked, and gets an answer. For each caller this comes before their stream."""
        return

    def refused(self, why: Refused) -> None:
        """A request, or the stream of one that was served, was not let in."""
        return

    def server_reserved(self, call_sid: str, took_s: float, failure: str | None) -> None:
        """A model server was reserved for a call in so many seconds; or none, and `failure` is
        the class of the error. Callers who hold ask again and again.
        """
        return

    def call_begins(self, record: CallRecord) -> None:
        """A stream was let in. The record's SIDs and persona are known; the rest fills up while
        the call goes on, the counters of frames only when it ends.
        """
        return

    def call_over(self, record: CallRecord) -> None:
        """A stream has ended, and its record is complete. One that was not let in has no persona,
        and no `call_begins` came before.
        """
        return


class Several:
    """Observers as one, none of which can harm a call or the others."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        self._told: set[tuple[type, type]] = set()

    def webhook_answered(self, webhook: Webhook) -> None:
        """See `Observer`."""
        self._tell(lambda observer: observer.webhook_answered(webhook))

    def refused(self, why: Refused) -> None:
        """See `Observer`."""
        self._tell(lambda observer: observer.refused(why))

    def server_reserved(self, call_sid: str, took_s: float, failure: str | None) -> None:
        """See `Observer`."""
        self._tell(lambda observer: observer.server_reserved(call_sid, took_s, failure))

    def call_begins(self, record: CallRecord) -> None:
        """See `Observer`."""
        self._tell(lambda observer: observer.call_begins(record))

    def call_over(self, record: CallRecord) -> None:
        """See `Observer`."""
        self._tell(lambda observer: observer.call_over(record))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                what(observer)
            except Exception as error:  # whatever it is, the call goes on
                self._note(type(observer), error)

    def _note(self, observer: type, error: Exception) -> None:
        """Log the first failure of each kind: there may be one for each call."""
        if (observer, type(error)) not in self._told:
            self._told.add((observer, type(error)))
            _log.error("%s failed; calls go on without it", observer.__name__, exc_info=error)


NOBODY = Several()
"""Looks on."""
