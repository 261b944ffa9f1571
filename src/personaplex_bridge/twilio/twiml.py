"""The TwiML that answers a call.

Only `<Connect><Stream>` carries audio both ways. Its URL may not have a query (error 31920);
per-call values travel as `<Parameter>`s. What follows `<Connect>` runs once *we* close the
stream, so the document ends with `<Hangup/>`: nobody is left in dead air.
"""

from __future__ import annotations

from collections.abc import Mapping

from twilio.twiml.voice_response import Connect, VoiceResponse

MAX_PARAMETER_CHARS = 500
"""Longest name plus value of one `<Parameter>`."""


def connect_stream(url: str, parameters: Mapping[str, str]) -> str:
    """Connect the call to the media socket at `url`.

    Raises:
        ValueError: the URL has a query, or a parameter is too long to travel.
    """
    if "?" in url:
        raise ValueError(f"a stream URL may not have a query: {url!r}")
    connect = Connect()
    stream = connect.stream(url=url)
    for name, value in parameters.items():
        if not fits_parameter(name, value):
            raise ValueError(f"parameter {name!r} is longer than {MAX_PARAMETER_CHARS} characters")
        stream.parameter(name=name, value=value)
    response = VoiceResponse()
    response.append(connect)
    response.hangup()
    return str(response)


def reject_busy() -> str:
    """Give the caller a busy signal."""
    response = VoiceResponse()
    response.reject(reason="busy")
    return str(response)


def fits_parameter(name: str, value: str) -> bool:
    """Whether a `<Parameter>` of this name and value can travel."""
    return len(name) + len(value) <= MAX_PARAMETER_CHARS
