"""Why a model server refuses a connection, in words: a gate in front of it says so in JSON."""

from __future__ import annotations

import json
from http import HTTPStatus

MAX_BODY_BYTES = 4096
MAX_DETAIL = 200


def in_words(status: int, body: bytes, *, has_token: bool) -> str:
    """What an HTTP status other than 101 means, and what the server says of it.

    The server's own words are quoted, so that they can't forge a line of a log.
    """
    said = _said(body)
    match status, said:
        case 401, _:
            refuses = "the gate refuses PERSONAPLEX_TOKEN"
            return refuses if has_token else "the gate asks for a token: set PERSONAPLEX_TOKEN"
        case 409, ("busy", _):
            return "it serves another client"
        case 503, ("loading" | "failed" as state, detail):
            how = "is still loading its model" if state == "loading" else "has failed"
            return f"it {how}: {_quoted(detail)}"
        case _, (error, detail):
            return f"it answers HTTP {status}, {_quoted(error)}: {_quoted(detail)}"
        case _:
            return f"it answers HTTP {status}{_phrase(status)}"


def _said(body: bytes) -> tuple[str, str] | None:
    """A gate's reason and detail; None if this is no answer of a gate."""
    try:
        answer = json.loads(body[:MAX_BODY_BYTES])
    except (ValueError, RecursionError):
        return None
    match answer:
        case {"error": str(error), "detail": str(detail)}:
            return error, detail
        case _:
            return None


def _quoted(text: str) -> str:
    return repr(text[:MAX_DETAIL])


def _phrase(status: int) -> str:
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
