"""Twilio's stand-in: a phone call as Twilio would carry it, from webhook to hang-up.

It posts the webhook (signed if it has the token), obeys the TwiML, opens the media socket, sends
a frame every 20 ms, plays what comes back from a buffer like Twilio's, and hangs up.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientWebSocketResponse, WSMsgType
from multidict import MultiDict

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import FRAME_BYTES, SILENCE
from personaplex_bridge.clock import SYSTEM_CLOCK, Clock
from personaplex_bridge.errors import BridgeError, MessageError
from personaplex_bridge.simulator.earpiece import Earpiece
from personaplex_bridge.simulator.faults import NO_CALL_FAULTS, CallFaults, is_nth
from personaplex_bridge.simulator.link import Link
from personaplex_bridge.simulator.obey import ConnectStream, Hangup, Reject, Say, read_twiml
from personaplex_bridge.simulator.playout import PlayoutOverflow
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.simulator.route import DIRECT, Route
from personaplex_bridge.twilio import inbound, outbound, signature
from personaplex_bridge.twilio.outbound import Clear, PlayMedia, SendMark

FRAME_S = 0.02
WEBHOOK_TIMEOUT_S = 15.0
"""Twilio gives a webhook so long."""

DRAIN_S = 1.0
"""How long after hanging up the socket is read to its end."""

NO_ACCOUNT = "AC" + "0" * 32


class CallFailed(BridgeError):
    """The call could not be made; the message is what an operator would want to read."""


@dataclass(frozen=True, slots=True)
class CallPlan:
    """Who calls whom, and what happens in the call. `speech` is mu-law at 8 kHz."""

    webhook_url: str
    speech: bytes
    caller: str = "+15550111"
    called: str = "+15550100"
    account_sid: str = NO_ACCOUNT
    auth_token: str | None = field(default=None, repr=False)
    keys: tuple[tuple[float, str], ...] = ()
    """DTMF: (seconds into the stream, digit)."""
    hang_up_after_s: float | None = None
    """Fixed length; without it the caller hangs up once all is said and heard."""
    quiet_s: float = 2.0
    patience_s: float = 30.0
    """How much longer than their own speech the caller stays at most."""
    faults: CallFaults = NO_CALL_FAULTS
    route: Route = DIRECT


class PhoneCall:
    """One call. `run` it once; `report` fills while it runs."""

    def __init__(self, plan: CallPlan, clock: Clock = SYSTEM_CLOCK) -> None:
        self.report = PhoneReport(call_sid="CA" + secrets.token_hex(16))
        self._plan = plan
        self._clock = clock
        self._stream_sid = "MZ" + secrets.token_hex(16)
        self._sequence_number = 0
        self._earpiece = Earpiece(self.report)
        self._began = 0.0
        self._write: Callable[[str], Awaitable[None]]
        self._link: Link[str] | None = None

    async def run(self) -> PhoneReport:
        """Make the call.

        Raises:
            CallFailed: the webhook or the media socket can't be reached, or the answer to either
                is none that Twilio would accept.
        """
        async with aiohttp.ClientSession() as http:
            for verb in read_twiml(await self._ask_webhook(http)):
                match verb:
                    case ConnectStream() if self._plan.faults.never_connects:
                        self.report.outcome = "the media socket was never opened"
                        break
                    case ConnectStream(url, parameters):
                        await self._let_it_ring()
                        await self._talk(http, url, parameters)
                        if self.report.close_code is None:
                            break  # the caller hung up: Twilio runs nothing more
                    case Reject(reason):
                        self.report.outcome = f"rejected: {reason}"
                        break
                    case Hangup():
                        self.report.outcome += ", then hung up by TwiML"
                        break
                    case Say(text):
                        self.report.said_by_twilio.append(text)
            else:
                self.report.outcome += ", at the end of the TwiML"
        return self.report

    async def _ask_webhook(self, http: aiohttp.ClientSession) -> str:
        plan, began = self._plan, self._clock.now()
        form = {
            "CallSid": self.report.call_sid,
            "AccountSid": plan.account_sid,
            "From": plan.caller,
            "To": plan.called,
            "CallStatus": "ringing",
            "Direction": "inbound",
            "ApiVersion": "2010-04-01",
        }
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT_S)
        try:
            async with http.post(
                plan.route.target(plan.webhook_url),
                data=form,
                headers=self._signed(plan.webhook_url, form),
                timeout=timeout,
            ) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(f"no answer from {plan.webhook_url}: {error}") from error
        if response.status != 200:
            raise CallFailed(f"{plan.webhook_url} answered HTTP {response.status}: {text[:200]}")
        self.report.webhook_s = self._clock.now() - began
        return text

    async def _let_it_ring(self) -> None:
        if wait_s := self._plan.faults.answer_after_s:
            await self._clock.sleep_until(self._clock.now() + wait_s)

    def _signed(self, url: str, form: Mapping[str, str]) -> MultiDict[str]:
        """The headers of a request to a URL."""
        route, token = self._plan.route, self._plan.auth_token
        headers = MultiDict(route.headers(url))
        if token:
            headers[signature.HEADER] = signature.sign(token, route.signed_form(url), form)
        return headers

    async def _talk(
        self, http: aiohttp.ClientSession, url: str, parameters: dict[str, str]
    ) -> None:
        # Twilio signs the wss form of the URL, whatever is spoken here on the loopback address.
        headers = self._signed(urlsplit(url)._replace(scheme="wss").geturl(), {})
        try:
            target = self._plan.route.target(url)
            socket = await http.ws_connect(target, headers=headers, compress=0)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CallFailed(f"no media socket at {url}: {error}") from error
        async with socket:
            await socket.send_str(inbound.serialize(inbound.Connected()))
            self._write = socket.send_str
            await self._send(self._start(parameters))
            self._began = self._clock.now()
            listening = asyncio.create_task(self._listen(socket), name="phone-listen")
            tasks = [listening, *self._set_up_link(socket)]
            try:
                await self._speak_and_play(listening)
            except ConnectionError:
                await listening
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        self._earpiece.conclude()

    def _set_up_link(self, socket: ClientWebSocketResponse) -> list[asyncio.Task[None]]:
        """From the stream's start on, a bad network, if the plan has one."""
        faults = self._plan.faults
        if not (faults.jitter or faults.block):
            return []
        self._link = Link(socket.send_str, self._clock, faults.jitter, faults.block)
        self._write = self._link.put
        return [asyncio.create_task(self._link.deliver(), name="phone-deliver")]

    async def _speak_and_play(self, listening: asyncio.Task[None]) -> None:
        """Every 20 ms of the phone's time: send a frame, hear a frame; until either side has had
        enough.
        """
        keys = list(self._plan.keys)
        frame_s = FRAME_S / (1 + self._plan.faults.drift_ppm / 1e6)
        frame_number = 0
        while not listening.done():
            if self._is_done(frame_number):
                await self._hang_up()
                # What was sent to us before our server saw that still comes, then its close.
                await asyncio.wait({listening}, timeout=DRAIN_S)
                return
            while keys and keys[0][0] <= frame_number * FRAME_S:
                digit = keys.pop(0)[1]
                await self._send(inbound.Dtmf(self._stream_sid, self._next(), digit))
            for _ in range(self._times_sent(frame_number)):
                await self._send_frame(frame_number)
            await self._echo_marks(self._earpiece.hear_frame())
            frame_number += 1
            await self._clock.sleep_until(self._began + frame_number * frame_s)

    def _times_sent(self, number: int) -> int:
        """How often a frame is sent: 0 if it is lost, 2 if it comes twice.

        Each message has a sequence number of its own, as it would at Twilio: what is lost before
        Twilio makes a message of it leaves a hole in chunks and timestamps only.
        """
        faults, at_s = self._plan.faults, number * FRAME_S
        if is_nth(number + 1, faults.lose) or any(s.covers(at_s) for s in faults.lose_frames):
            return 0
        return 2 if is_nth(number + 1, faults.double) else 1

    async def _send_frame(self, number: int) -> None:
        begin = number * FRAME_BYTES
        payload = self._plan.speech[begin : begin + FRAME_BYTES]
        payload += SILENCE * (FRAME_BYTES - len(payload))
        media = inbound.Media(self._stream_sid, self._next(), number + 1, number * 20, payload)
        self.report.sent_at.append(self._clock.now())
        await self._send(media)
        self.report.frames_sent += 1

    def _is_done(self, frame_number: int) -> bool:
        plan, now_s = self._plan, frame_number * FRAME_S
        if plan.hang_up_after_s is not None:
            return now_s >= plan.hang_up_after_s
        spoken_s = len(plan.speech) / mulaw.SAMPLE_RATE_HZ
        if now_s > spoken_s + plan.patience_s:
            return True
        return now_s - max(spoken_s, self._earpiece.last_sound_s) > plan.quiet_s

    async def _hang_up(self) -> None:
        sids = (self.report.call_sid, self._plan.account_sid)
        await self._send(inbound.Stop(self._stream_sid, self._next(), *sids))
        if self._link is not None:
            await self._link.emptied()
        self.report.outcome = "the caller hung up"

    async def _listen(self, socket: ClientWebSocketResponse) -> None:
        """Media socket to playout buffer, until our server closes it."""
        async for message in socket:
            if self._link is not None:
                await self._link.unblocked()
            if message.type is not WSMsgType.TEXT:
                self.report.problems.append("a binary frame (error 31950)")
                continue
            try:
                await self._obey(outbound.parse(message.data))
            except (MessageError, PlayoutOverflow) as error:
                self.report.problems.append(f"{error} (error 31951)")
        if not self.report.outcome:
            self.report.close_code = socket.close_code
            self.report.outcome = f"the server closed the stream with {socket.close_code}"

    async def _obey(self, command: outbound.Outbound) -> None:
        if command.stream_sid != self._stream_sid:
            raise MessageError("wrong-stream", command.stream_sid[:40])
        match command:
            case PlayMedia(payload=payload):
                self._take_media(payload)
            case SendMark(name=name):
                await self._echo_marks(self._earpiece.mark(name))
            case Clear():
                await self._echo_marks(self._earpiece.clear(self._clock.now() - self._began))

    def _take_media(self, payload: bytes) -> None:
        report, now = self.report, self._clock.now()
        if report.first_media_s is None:
            report.first_media_s = now - self._began
        report.media_messages += 1
        report.media_bytes += len(payload)
        report.media_at.append(now)
        self._earpiece.take(payload)

    async def _echo_marks(self, names: list[str]) -> None:
        for name in names:
            await self._send(inbound.Mark(self._stream_sid, self._next(), name))

    def _start(self, parameters: dict[str, str]) -> inbound.Start:
        return inbound.Start(
            stream_sid=self._stream_sid,
            call_sid=self.report.call_sid,
            account_sid=self._plan.account_sid,
            sequence_number=self._next(),
            custom_parameters=parameters,
        )

    async def _send(self, event: inbound.Inbound) -> None:
        await self._write(inbound.serialize(event))

    def _next(self) -> int:
        self._sequence_number += 1
        return self._sequence_number
