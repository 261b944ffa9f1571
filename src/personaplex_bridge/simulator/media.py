"""The media socket of one call, as Twilio opens, feeds, plays and closes it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

import aiohttp
from aiohttp import ClientWebSocketResponse, WSMsgType

from personaplex_bridge.clock import Clock
from personaplex_bridge.errors import MessageError
from personaplex_bridge.simulator.earpiece import Earpiece
from personaplex_bridge.simulator.faults import is_nth
from personaplex_bridge.simulator.link import Link
from personaplex_bridge.simulator.plan import CallFailed, CallPlan
from personaplex_bridge.simulator.playout import PlayoutOverflow
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.twilio import inbound, outbound
from personaplex_bridge.twilio.outbound import Clear, PlayMedia, SendMark

FRAME_S = 0.02

DRAIN_S = 1.0
"""How long after hanging up the socket is read to its end."""


class PhoneStream:
    """One `<Connect><Stream>`. `run` it once; the report fills while it runs."""

    def __init__(
        self, plan: CallPlan, report: PhoneReport, clock: Clock, stream_sid: str | None = None
    ) -> None:
        self.report = report
        self._plan = plan
        self._clock = clock
        self._stream_sid = stream_sid or "MZ" + secrets.token_hex(16)
        self._sequence_number = 0
        self._format = plan.audio_format
        self._earpiece = Earpiece(report, plan.audio_format)
        self._began = 0.0
        self._hung_up = False
        self._write: Callable[[str], Awaitable[None]]
        self._link: Link[str] | None = None

    async def run(
        self,
        http: aiohttp.ClientSession,
        url: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
        protocols: Sequence[str] = (),
    ) -> bool:
        """Talk until either side ends it; whether the caller did. `protocols` are offered on the
        upgrade: Twilio offers none.

        Raises:
            CallFailed: the socket can't be opened.
        """
        try:
            target = self._plan.route.target(url)
            socket = await http.ws_connect(target, headers=headers, protocols=protocols, compress=0)
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
        return self._hung_up

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
        size = self._format.frame_bytes
        payload = self._plan.speech[number * size : (number + 1) * size]
        payload = payload.ljust(size, self._format.silence)
        media = inbound.Media(self._stream_sid, self._next(), number + 1, number * 20, payload)
        self.report.sent_at.append(self._clock.now())
        await self._send(media)
        self.report.frames_sent += 1

    def _is_done(self, frame_number: int) -> bool:
        plan, now_s = self._plan, frame_number * FRAME_S
        if plan.hang_up_after_s is not None:
            return now_s >= plan.hang_up_after_s
        spoken_s = len(plan.speech) / self._format.bytes_per_s
        if now_s > spoken_s + plan.patience_s:
            return True
        return now_s - max(spoken_s, self._earpiece.last_sound_s) > plan.quiet_s

    async def _hang_up(self) -> None:
        sids = (self.report.call_sid, self._plan.account_sid)
        await self._send(inbound.Stop(self._stream_sid, self._next(), *sids))
        if self._link is not None:
            await self._link.emptied()
        self.report.close_code = None
        self.report.tell("the caller hung up")
        self._hung_up = True

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
        if not self._hung_up:
            self.report.close_code = socket.close_code
            self.report.tell(f"the server closed the stream with {socket.close_code}")

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

    def _start(self, parameters: Mapping[str, str]) -> inbound.Start:
        return inbound.Start(
            stream_sid=self._stream_sid,
            call_sid=self.report.call_sid,
            account_sid=self._plan.account_sid,
            sequence_number=self._next(),
            media_format=inbound.MediaFormat(self._format.encoding, self._format.rate_hz),
            custom_parameters=dict(parameters),
        )

    async def _send(self, event: inbound.Inbound) -> None:
        await self._write(inbound.serialize(event))

    def _next(self) -> int:
        self._sequence_number += 1
        return self._sequence_number
