"""Logging: one line a message, the call's number in front, nothing private in it. Or one JSON
object a line, for programs.

Caller numbers, prompts, transcripts and tokens are never put into a message. Should one get into
one all the same, in the words of an exception, say, `Redacting` is the second line of defence for
what can be told by its looks.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import quote, quote_plus

NAME = "personaplex_bridge"
FORMAT = "%(asctime)s %(levelname)-7s %(message)s"

ONE_TIME_MARK = "once_"
"""What the one-time tokens of media streams begin with, so that they can be told in a text."""

_BASE64 = "(?:[A-Za-z0-9+/]|%2[BbFf])"

# Whole or cut off, whatever stands around them.
_PRIVATE = (
    ("token", rf"{ONE_TIME_MARK}[A-Za-z0-9_-]+"),
    # X-Twilio-Signature: the base64 of a SHA-1 or a SHA-256. As it is or in a URL, as all of these.
    ("signature", rf"(?<![A-Za-z0-9+/])(?:{_BASE64}{{27}}|{_BASE64}{{43}})(?:=|%3[Dd])"),
    # E.164; and without its plus, which a URL turns into a space.
    ("number", r"(?:\+|%2[Bb])[1-9]\d{6,}|(?<![\w./-])\d{8,15}(?!\w|[.:/-]\d)"),
)


class CallLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that puts `[call N]` in front of every message."""

    def __init__(self, number: int) -> None:
        super().__init__(logging.getLogger(f"{NAME}.call"))
        self._number = number

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        """Prefix the message, and note the call's number for `JsonLines`."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), "call": self._number}
        return f"{_prefix(self._number)}{msg}", kwargs


Log: TypeAlias = logging.Logger | CallLog


class Redacting(logging.Formatter):
    """Leaves out what is private, in messages and tracebacks: the configured `secrets` wherever
    they stand, one-time tokens, Twilio's signatures, and telephone numbers.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__(FORMAT)
        written = {
            form
            for secret in secrets
            for form in (secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1])
            if form
        }
        # The longest first: one may be the beginning of another.
        parts = [("secret", re.escape(form)) for form in sorted(written, key=len, reverse=True)]
        self._kinds = [kind for kind, _ in (*parts, *_PRIVATE)]
        self._private = re.compile("|".join(f"({looks})" for _, looks in (*parts, *_PRIVATE)))

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback if there is one, with `(number)` for a number and so on."""
        return self.redacted(super().format(record))

    def redacted(self, text: str) -> str:
        """The text, without what is private."""
        return self._private.sub(self._kind, text)

    def _kind(self, match: re.Match[str]) -> str:
        return f"({self._kinds[(match.lastindex or 1) - 1]})"


class JsonLines(Redacting):
    """One JSON object in one line a message, redacted as `Redacting` does.

    `time` (UTC, ISO 8601, with milliseconds), `level`, `logger`, `message`; `call`, the call's
    number, in what is said of one; `error`, the traceback, if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line; not one character of it is outside ASCII."""
        message, call = record.getMessage(), getattr(record, "call", None)
        moment = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
        }
        if isinstance(call, int):
            entry["call"], message = call, message.removeprefix(_prefix(call))
        # Each text by itself: in JSON's escapes some secrets would not be found.
        entry["message"] = self.redacted(message)
        if record.exc_info:
            entry["error"] = self.redacted(self.formatException(record.exc_info))
        return json.dumps(entry)


def _prefix(call: int) -> str:
    return f"[call {call}] "


def configure(level: str, secrets: Iterable[str] = (), form: str = "text") -> None:
    """Log to standard error at `level`, without the `secrets`, as `text` or `json`. Libraries speak
    from WARNING up.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(secrets) if form == "json" else Redacting(secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger(NAME).setLevel(level)
