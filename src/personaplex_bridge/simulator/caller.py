"""Twilio's stand-in: a phone call as Twilio would carry it, from webhook to hang-up.

It posts the webhook (signed if it has the token) and obeys the TwiML: opens the media socket,
speaks, plays, holds in a queue, dials, records, and asks for the next document where Twilio would.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import aiohttp

from personaplex_bridge.audio import mulaw
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.errors import BridgeError
from personaplex_bridge.simulator.account import CallQueue, TwilioAccount
from personaplex_bridge.simulator.asking import Asking
from personaplex_bridge.simulator.media import PhoneStream
from personaplex_bridge.simulator.obey import (
    ConnectStream,
    Dial,
    Enqueue,
    Hangup,
    Leave,
    Pause,
    Play,
    Record,
    Redirect,
    Reject,
    Say,
    Verb,
    read_twiml,
)
from personaplex_bridge.simulator.plan import NO_ACCOUNT, CallFailed, CallPlan
from personaplex_bridge.simulator.report import Doing, Moment, PhoneReport

__all__ = ["NO_ACCOUNT", "CallFailed", "CallPlan", "PhoneCall"]

WORD_S = 0.4
"""Twilio's voices say about 150 words a minute."""

RINGS_S: dict[str, float | None] = {"completed": 6.0, "no-answer": None, "busy": 2.0, "failed": 0.5}
"""How long a dialled number rings until that becomes of it; None: until the timeout."""

MAX_DOCUMENTS = 10_000
MAX_HASTY_DOCUMENTS = 100
"""So many in a row that take no time lead to each other without end."""


class _CallOver(Exception):
    """Nobody is there any more, or Twilio has hung up."""


@dataclass(frozen=True, slots=True)
class _Next:
    """The document to go on with, and what Twilio tells when it asks for it."""

    url: str
    parameters: Mapping[str, str] = field(default_factory=dict)


class PhoneCall:
    """One call. `run` it once; `report` fills while it runs.

    Calls of one `account` share its queues.
    """

    def __init__(
        self, plan: CallPlan, clock: Clock = SYSTEM_CLOCK, account: TwilioAccount | None = None
    ) -> None:
        self.report = PhoneReport(call_sid="CA" + secrets.token_hex(16))
        self._plan = plan
        self._clock = clock
        self._account = account or TwilioAccount()
        self._began_s = clock.now()
        self._answered = False
        self._hangs_up_at_s: float | None = None
        self._http: aiohttp.ClientSession
        self._asking: Asking

    async def run(self) -> PhoneReport:
        """Make the call.

        Raises:
            CallFailed: the webhook or the media socket can't be reached, or answers nothing that
                Twilio would accept.
            TwimlError: the webhook's document is not as Twilio wants it.
        """
        self._began_s = self._clock.now()
        async with aiohttp.ClientSession() as self._http:
            self._asking = Asking(self._http, self._plan, self.report.call_sid, self._account)
            try:
                await self._obey_all(_Next(self._plan.webhook_url, self._plan.parameters))
                self.report.outcome += ", at the end of the TwiML"
            except _CallOver:
                pass
        return self.report

    async def _obey_all(self, next_: _Next | None) -> None:
        """One document after the other, until one leads nowhere."""
        hasty = 0
        for number in range(MAX_DOCUMENTS):
            if next_ is None:
                return
            began_s = self._clock.now()
            if number == 0:
                document = await self._ask(next_)
                self.report.webhook_s = self._clock.now() - began_s
                next_ = await self._obey(next_.url, read_twiml(document))
            else:
                next_ = await self._go_on(next_)
            hasty = hasty + 1 if self._clock.now() - began_s < 0.001 else 0
            if hasty > MAX_HASTY_DOCUMENTS:
                break
        raise CallFailed("documents that lead to each other without end")

    async def _go_on(self, next_: _Next) -> _Next | None:
        """The next document of a call that has begun. The caller hears if there is none."""
        try:
            return await self._obey(next_.url, read_twiml(await self._ask(next_)))
        except BridgeError as error:
            self.report.problems.append(str(error))
            self.report.tell("ended by Twilio: an application error has occurred")
            raise _CallOver from None

    async def _ask(self, next_: _Next) -> str:
        status = "in-progress" if self._answered else "ringing"
        return await self._asking.ask(next_.url, next_.parameters, status)

    async def _obey(self, base: str, verbs: list[Verb]) -> _Next | None:
        """Obey a document from `base`, until a verb leads to another one."""
        for verb in verbs:
            match verb:
                case Reject(reason):
                    if self._answered:
                        self.report.problems.append("<Reject> for a call that is answered")
                    self.report.tell(f"rejected: {reason}")
                    raise _CallOver
                case Hangup():
                    self.report.tell("hung up by TwiML")
                    raise _CallOver
                case Redirect(url):
                    return _Next(urljoin(base, url))
                case Dial():
                    next_ = await self._dial(verb, base)
                case ConnectStream():
                    next_ = await self._connect(verb, base)
                case Enqueue():
                    next_ = await self._enqueue(verb, base)
                case Record():
                    next_ = await self._record(verb, base)
                case _:
                    await self._let_hear(verb, base)
                    continue
            if next_ is not None:
                return next_
        return None

    async def _let_hear(self, verb: Verb, base: str) -> None:
        """What has no consequences."""
        self._answered = True
        match verb:
            case Say(text):
                await self._spend(len(text.split()) * WORD_S, Doing.SAYS, text)
            case Play(url, loop):
                url = urljoin(base, url)
                sound = await self._asking.fetch_sound(url)
                length_s = len(sound) * loop / mulaw.SAMPLE_RATE_HZ
                await self._spend(length_s, Doing.PLAYS, url)
            case Pause(length_s):
                await self._spend(length_s, Doing.PAUSES)

    async def _spend(self, length_s: float, doing: Doing, what: str = "") -> None:
        """Let time pass, until the caller hangs up at the earliest."""
        begin_s = self._clock.now()
        end_s = begin_s + length_s
        hangs_up = self._hangs_up_at_s is not None and self._hangs_up_at_s <= end_s
        if hangs_up:
            end_s = max(begin_s, self._hangs_up_at_s or 0.0)
        await self._clock.sleep_until(end_s)
        self._note(begin_s, doing, what)
        if hangs_up:
            raise _CallOver

    def _note(self, begin_s: float, doing: Doing, what: str = "") -> None:
        length_s = self._clock.now() - begin_s
        self.report.moments.append(Moment(begin_s - self._began_s, length_s, doing, what))

    async def _connect(self, verb: ConnectStream, base: str) -> _Next | None:
        faults = self._plan.faults
        if faults.never_connects:
            self.report.tell("the media socket was never opened")
            raise _CallOver
        if faults.answer_after_s:
            await self._clock.sleep_until(self._clock.now() + faults.answer_after_s)
        self._answered = True
        # Twilio signs the wss form of the URL, whatever is spoken here on the loopback address.
        signed = self._asking.signed(urlsplit(verb.url)._replace(scheme="wss").geturl(), {})
        begin_s = self._clock.now()
        stream = PhoneStream(self._plan, self.report, self._clock)
        try:
            hung_up = await stream.run(self._http, verb.url, verb.parameters, signed)
        except CallFailed as error:
            if verb.action is None:
                raise
            self.report.problems.append(f"{error} (error 31920)")
            self.report.tell("the media socket could not be opened")
            hung_up = False
        self._note(begin_s, Doing.STREAMS)
        if hung_up:
            raise _CallOver  # Twilio runs nothing more
        return _after(verb.action, base, {})

    async def _enqueue(self, verb: Enqueue, base: str) -> _Next | None:
        """Hold until the caller leaves the queue, one way or the other."""
        queue, began_s = self._account.queue(verb.queue), self._clock.now()
        if queue.is_full:
            self.report.queue_results.append("queue-full")
            return _after(verb.action, base, {"QueueResult": "queue-full"})
        self._answered = True
        if (patience_s := self._plan.faults.hang_up_holding_s) is not None:
            self._hangs_up_at_s = began_s + patience_s
        queue.join(self.report.call_sid, began_s)
        result = "system-error"
        try:
            result = await self._hold(urljoin(base, verb.wait_url), queue)
        finally:
            self._hangs_up_at_s = None
            queue.leave(self.report.call_sid)
            held_s = self._clock.now() - began_s
            self.report.held_s = (self.report.held_s or 0.0) + held_s
            self.report.queue_results.append(result)
        told = {"QueueResult": result, "QueueSid": queue.sid, "QueueTime": str(int(held_s))}
        next_ = _after(verb.action, base, told)
        if result == "hangup":
            if next_ is not None:
                await self._asking.ask(next_.url, next_.parameters, "completed")
            raise _CallOver
        return next_

    async def _hold(self, wait_url: str, queue: CallQueue) -> str:
        """Ask the waitUrl over and over; Twilio's word for how that ended."""
        url = wait_url
        for _ in range(MAX_DOCUMENTS):
            began_s = self._clock.now()
            told = queue.told(self.report.call_sid, began_s)
            try:
                document = await self._asking.ask(url, told, "in-progress")
                url = wait_url
                for verb in read_twiml(document, waiting=True):
                    match verb:
                        case Leave():
                            return "leave"
                        case Hangup():
                            self.report.tell("hung up by TwiML")
                            return "hangup"
                        case Redirect(to):
                            url = urljoin(url, to)
                            break
                        case _:
                            await self._let_hear(verb, url)
            except BridgeError as error:
                self.report.problems.append(str(error))
                return "error"
            except _CallOver:
                self.report.tell("the caller hung up while holding")
                return "hangup"
            if self._clock.now() - began_s < 0.001 and url == wait_url:
                self.report.problems.append("a waitUrl's document that takes no time")
                return "error"
        return "error"

    async def _dial(self, verb: Dial, base: str) -> _Next | None:
        status, begin_s = self._plan.faults.dial_status, self._clock.now()
        rings_s = RINGS_S[status]
        length_s = verb.timeout_s if rings_s is None else min(rings_s, verb.timeout_s)
        talk_s = self._plan.faults.dialled_s if status == "completed" else 0.0
        self._answered = True
        await self._clock.sleep_until(begin_s + length_s + talk_s)
        self._note(begin_s, Doing.DIALS, verb.to)
        self.report.tell(f"forwarded ({status})")
        told = {"DialCallStatus": status, "DialCallDuration": str(int(talk_s))}
        return _after(verb.action, base, told)

    async def _record(self, verb: Record, base: str) -> _Next | None:
        """A message of the caller's, ended by the pound key; or nothing, until it times out."""
        self._answered = True
        message_s = min(self._plan.message_s, verb.max_length_s)
        if message_s <= 0:
            await self._spend(verb.timeout_s, Doing.PAUSES)
            return None
        await self._spend(message_s, Doing.RECORDS)
        self.report.tell(f"left a message of {message_s:g} s")
        told = {
            "RecordingUrl": "https://api.twilio.com/recording",
            "RecordingDuration": str(int(message_s)),
            "Digits": "#",
        }
        return _after(verb.action, base, told)


def _after(action: str | None, base: str, parameters: Mapping[str, str]) -> _Next | None:
    """What follows a verb: its action, if it has one; else the document goes on."""
    return None if action is None else _Next(urljoin(base, action), parameters)
