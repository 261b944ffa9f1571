"""What a call is answered with, by what has become of it, in the words and ways of the settings."""

from __future__ import annotations

import logging
from urllib.parse import quote, urlencode

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.config import Fallback, Settings
from personaplex_bridge.observing import Answer
from personaplex_bridge.personas import Choice
from personaplex_bridge.twilio import twiml
from personaplex_bridge.twilio.twiml import Words
from personaplex_bridge.web.access import Access
from personaplex_bridge.web.observed import ANSWER
from personaplex_bridge.web.paths import (
    AFTER_PATH,
    FORWARDED_PATH,
    HOLD_PATH,
    QUEUED_PATH,
    RECORDED_PATH,
    STREAM_PATH,
    WAIT_PATH,
    WEBHOOK_PATH,
)
from personaplex_bridge.web.tickets import TOKEN_PARAMETER, Tickets

UNANSWERED = "ringing"
"""The CallStatus of an incoming call that has heard nothing yet."""

SENT_ON = "sent-on"
"""In the query of a webhook: another bridge has sent the caller, because it is being drained."""

_log = logging.getLogger(logs.NAME)


class Answers:
    """TwiML for the caller of a request. Its URLs are absolute, on this bridge's own address."""

    def __init__(self, settings: Settings, access: Access, tickets: Tickets | None) -> None:
        self._settings = settings
        self._access = access
        self._tickets = tickets

    def connect(self, request: web.Request, call: str, choice: Choice) -> web.Response:
        """A model server is the call's: put it through."""
        parameters = dict(choice.parameters)
        if self._tickets is not None:
            parameters[TOKEN_PARAMETER] = self._tickets.issue(call, choice.parameters)
        stream_url = self._access.stream_base(request) + STREAM_PATH
        settings, action = self._settings, self._url(request, AFTER_PATH)
        told = settings.recording_words if settings.recording else None
        words = None if told is None else self._words(told)
        document = twiml.connect_stream(stream_url, parameters, action, words)
        return _xml(document, Answer.CONNECTED)

    def busy(self, request: web.Request, choice: Choice, status: str) -> web.Response:
        """All servers are busy: WHEN_BUSY."""
        way = self._settings.when_busy
        if way == "queue":
            return self.hold_on(request, choice)
        if way == "reject":
            return self.reject(request, status)
        return self._hand_over(request, way, None)

    def hold_on(self, request: web.Request, choice: Choice) -> web.Response:
        """The caller holds, from now on or again."""
        wait_url = self._url(request, WAIT_PATH + _query(choice))
        queued_url = self._url(request, QUEUED_PATH + _query(choice))
        return _xml(twiml.enqueue(wait_url, queued_url), Answer.QUEUED)

    def reject(self, request: web.Request, status: str) -> web.Response:
        """A busy signal; but an answered call, as another bridge's that drains, can't have one.

        `status` is Twilio's CallStatus.
        """
        if status != UNANSWERED:
            return self.failed(request)
        return _xml(twiml.reject_busy(), Answer.REJECTED)

    def failed(self, request: web.Request) -> web.Response:
        """No model can go on with the call: say sorry, then FALLBACK."""
        return self._hand_over(request, self._settings.fallback, self._settings.sorry_words)

    def forward(self, request: web.Request) -> web.Response:
        """Somebody who runs the bridge lets FORWARD_TO have the call."""
        return self._hand_over(request, "forward", None)

    def unanswered(self, request: web.Request) -> web.Response:
        """Nobody answered where the call was forwarded to: say sorry, and forward no more."""
        way: Fallback = "voicemail" if self._settings.fallback == "voicemail" else "hangup"
        return self._hand_over(request, way, self._settings.sorry_words)

    def elsewhere(self, request: web.Request, choice: Choice) -> web.Response:
        """The bridge takes no more calls: to another one, if there is one.

        Who was sent here by one that takes no more calls either isn't sent on: round and round.
        """
        other = self._settings.drain_to
        if other is None or SENT_ON in request.query:
            return self.call_again()
        there = f"{other}{WEBHOOK_PATH}{_query(choice)}&{SENT_ON}=yes"
        return _xml(twiml.redirect(there), Answer.SENT_ON)

    def call_again(self) -> web.Response:
        """The bridge shuts down."""
        return _xml(twiml.hang_up(self._words(self._settings.again_words)), Answer.CALL_AGAIN)

    def hang_up(self) -> web.Response:
        """All is said."""
        return _xml(twiml.hang_up(), Answer.HUNG_UP)

    def tell_place(self, position: int) -> web.Response:
        """For a caller who holds: their place in line."""
        text = self._settings.busy_words.replace("{position}", str(position))
        return _xml(twiml.hold(self._words(text), None), Answer.HOLDING)

    def play_piece(self, request: web.Request, number: int) -> web.Response:
        """For a caller who holds: a piece of hold sound."""
        piece_url = self._url(request, f"{HOLD_PATH}/{number}.wav")
        return _xml(twiml.hold(None, piece_url), Answer.HOLDING)

    def leave_queue(self) -> web.Response:
        """For a caller who holds: no longer."""
        return _xml(twiml.leave_queue(), Answer.LEFT_QUEUE)

    def _hand_over(self, request: web.Request, way: Fallback, text: str | None) -> web.Response:
        """Say something, then let somebody else have the call, or nobody."""
        settings, words = self._settings, None if text is None else self._words(text)
        if way == "voicemail":
            greeting = self._words(settings.voicemail_words)
            recorded_url = self._url(request, RECORDED_PATH)
            return _xml(twiml.take_message(greeting, recorded_url, words), Answer.VOICEMAIL)
        if way == "forward" and settings.forward_to is not None:
            action = self._url(request, FORWARDED_PATH)
            return _xml(twiml.forward(settings.forward_to, action, words), Answer.FORWARDED)
        return _xml(twiml.hang_up(words), Answer.SORRY)

    def _url(self, request: web.Request, path: str) -> str:
        return self._access.public_base(request) + path

    def _words(self, text: str) -> Words:
        return Words(text, self._settings.say_language)


def _query(choice: Choice) -> str:
    """The role in a URL. Twilio asks for the URL as it is, and signs it."""
    return "?" + urlencode(choice.parameters, quote_via=quote)


def _xml(document: str, answer: Answer) -> web.Response:
    response = web.Response(text=document, content_type="text/xml")
    response[ANSWER] = answer
    return response
