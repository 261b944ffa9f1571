"""The TwiML that answers a call, and what Twilio asks later in it.

Only `<Connect><Stream>` carries audio both ways. Its URL may not have a query (error 31920);
per-call values travel as `<Parameter>`s. Once *we* close the stream, Twilio asks the `action`, or
runs what follows if there is none. Every document that isn't for a caller in the queue ends the
call, transfers it or asks again, so nobody is left in dead air. URLs are absolute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twilio.twiml.voice_response import Connect, Dial, VoiceResponse

MAX_PARAMETER_CHARS = 500
"""Longest name plus value of one `<Parameter>`."""

QUEUE_NAME = "personaplex"
"""At Twilio; up to 64 characters. Twilio makes the queue when the first caller comes."""

RING_S = 30
"""How long a forwarded call rings: about six rings."""

MAX_MESSAGE_S = 120
MESSAGE_SILENCE_S = 5
"""A voicemail ends after so much silence."""
END_OF_MESSAGE_KEY = "#"

CLIENT = "client:"
"""What the name of a client of the Voice SDK begins with, as one end of a call."""

REST_S = 2
"""A pause where there is nothing to play."""


@dataclass(frozen=True, slots=True)
class Words:
    """What Twilio's voice says: printable text, and the language to say it in (BCP 47)."""

    text: str
    language: str = "en-US"


def connect_stream(
    url: str,
    parameters: Mapping[str, str],
    action: str | None = None,
    words: Words | None = None,
) -> str:
    """Connect the call to the media socket at `url`, with a word before; Twilio asks `action` once
    that is closed.

    Raises:
        ValueError: the URL has a query, or a parameter is too long to travel.
    """
    if "?" in url:
        raise ValueError(f"a stream URL may not have a query: {url!r}")
    connect = Connect(action=action)
    stream = connect.stream(url=url)
    for name, value in parameters.items():
        if not fits_parameter(name, value):
            raise ValueError(f"parameter {name!r} is longer than {MAX_PARAMETER_CHARS} characters")
        stream.parameter(name=name, value=value)
    response = _saying(words)
    response.append(connect)
    response.hangup()
    return str(response)


def reject_busy() -> str:
    """Give the caller a busy signal. Only for a call that isn't answered yet."""
    response = VoiceResponse()
    response.reject(reason="busy")
    return str(response)


def hang_up(words: Words | None = None) -> str:
    """End the call, with a word before."""
    response = _saying(words)
    response.hangup()
    return str(response)


def redirect(url: str, words: Words | None = None) -> str:
    """Send the call to another document, such as another bridge's webhook."""
    response = _saying(words)
    response.redirect(url)
    return str(response)


def enqueue(wait_url: str, action: str) -> str:
    """Let the caller hold in Twilio's queue.

    Twilio asks `wait_url` what they hear, and again whenever that is over; and `action`, once they
    have left the queue for whatever reason.
    """
    response = VoiceResponse()
    response.enqueue(QUEUE_NAME, wait_url=wait_url, action=action)
    response.hangup()
    return str(response)


def hold(words: Words | None, sound_url: str | None) -> str:
    """What a caller in the queue hears next. Without either, silence for `REST_S`."""
    response = _saying(words)
    if sound_url is not None:
        response.play(sound_url)
    elif words is None:
        response.pause(length=REST_S)
    return str(response)


def leave_queue() -> str:
    """Take the caller out of the queue: Twilio asks the queue's `action` right away."""
    response = VoiceResponse()
    response.leave()
    return str(response)


def forward(to: str, action: str, words: Words | None = None) -> str:
    """Dial a number (E.164), a SIP address or a softphone (`client:NAME`); `action` is told what
    came of it.

    A call that isn't answered yet goes on ringing until the other side answers.
    """
    dial = Dial(action=action, timeout=RING_S, answer_on_bridge=True)
    if to.startswith(("sip:", "sips:")):
        dial.sip(to)
    elif to.startswith(CLIENT):
        dial.client(to.removeprefix(CLIENT))
    else:
        dial.number(to)
    response = _saying(words)
    response.append(dial)
    return str(response)


def take_message(greeting: Words, action: str, words: Words | None = None) -> str:
    """Record a message. The recording stays at Twilio; `action` is asked what comes then.

    For an empty recording Twilio asks nothing and goes on in the document, which hangs up.
    """
    response = _saying(words)
    response.say(greeting.text, language=greeting.language)
    response.record(
        action=action,
        timeout=MESSAGE_SILENCE_S,
        max_length=MAX_MESSAGE_S,
        finish_on_key=END_OF_MESSAGE_KEY,
        play_beep=True,
    )
    response.hangup()
    return str(response)


def fits_parameter(name: str, value: str) -> bool:
    """Whether a `<Parameter>` of this name and value can travel."""
    return len(name) + len(value) <= MAX_PARAMETER_CHARS


def _saying(words: Words | None) -> VoiceResponse:
    """A document that begins with these words, if there are any."""
    response = VoiceResponse()
    if words is not None:
        response.say(words.text, language=words.language)
    return response
