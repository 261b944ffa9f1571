"""Twilio as its Voice SDK meets it: signalling over a WebSocket, the other side of the sound, and
calls through a TwiML App.

The signalling has no public description; it is what the SDK (2.18.5) sends and takes. One JSON
object a text frame, {"type", "payload", "version"}:

    from the SDK                              to the SDK
    listen {token}                            connected {token: {identity, ttl}, region, edge, home}
                                              error {error: {code, message}}, close
    register {media: {audio}}                 ready
    invite {callsid: TJ…, sdp,                ringing {callsid: CA…}
            twilio: {params: "a=b&c=d"}}      answer {callsid: CA…, sdp, reconnect}
    invite {callsid: CA…, sdp, reconnect}     answer {callsid, reconnect}
                                              invite {callsid, sdp, parameters: {From, To, …}}
    answer {callsid, sdp}                     cancel {callsid}
    dtmf {callsid, dtmf}, reject {callsid}
    hangup {callsid}                          hangup {callsid, error?: {code, message}}
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import io
import json
import secrets
import ssl
import subprocess
import time
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import WSMsgType, web
from playwright.async_api import Page

from personaplex_bridge.phone.softphone import SoftphoneSettings
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from tests.live.harness import speech, until

ACCOUNT, KEY, APP = "AC" + "3" * 32, "SK" + "4" * 32, "AP" + "5" * 32
COMPLETE = SoftphoneSettings(ACCOUNT, KEY, "the secret of a test, long enough", APP)

RECONNECT = "a-call-goes-on-with-this"

ALL = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}
PATIENCE_S = 30.0


@dataclass
class Gateway:
    """What the SDK has said, and what Twilio does about it."""

    voice_url: str
    """Of the TwiML App: the bridge's webhook."""
    auth_token: str
    peer: Page = field(init=False)
    """The other side of the sound: peer.js."""
    token_lives_s: float | None = None
    """As it tells the SDK; None: as the token itself says."""
    takes_keys: bool = True
    """Whether keys may come with the sound (RFC 4733); else they come as `dtmf`."""
    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)
    """Other paths of Twilio's hosts that were asked for: sounds and call quality."""
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    """Which each of them was opened to."""
    call_sid: str = ""
    identity: str = ""
    calling: asyncio.Task[object] | None = None

    async def hear(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Wait for the so-manieth message of a kind: its payload."""
        await until(lambda: len(self.of(kind)) >= count, PATIENCE_S)
        return self.of(kind)[count - 1]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [payload for said, payload in self.said if said == kind]

    async def tell(self, kind: str, **payload: Any) -> None:
        """To the softphone that has come last."""
        await self.sockets[-1].send_json({"type": kind, "payload": payload, "version": "1.6"})

    async def ring(self, caller: str) -> None:
        """A call for the softphone: `<Dial><Client>`."""
        self.call_sid = "CA" + secrets.token_hex(16)
        sdp = await self.peer.evaluate("(o) => peer.offer(o)", {"takesKeys": self.takes_keys})
        told = {"From": caller, "To": f"client:{self.identity}", "CallSid": self.call_sid}
        parameters = {**told, "AccountSid": ACCOUNT}
        await self.tell("invite", callsid=self.call_sid, sdp=sdp, parameters=parameters)

    async def hang_up(self, **error: Any) -> None:
        await self.tell("hangup", callsid=self.call_sid, **error)
        await self.peer.evaluate("() => peer.hangUp()")

    async def signal(self, request: web.Request) -> web.WebSocketResponse:
        """One softphone."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.hosts.append(request.host.partition(":")[0])
        beating = asyncio.create_task(_beat(socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and message.data != "\n":
                    told = json.loads(message.data)
                    self.said.append((told["type"], told["payload"]))
                    await self._obey(told["type"], told["payload"])
        finally:
            beating.cancel()
        return socket

    async def send_other(self, request: web.Request) -> web.Response:
        """A sound, or thanks for figures."""
        self.asked_for.append(f"{request.host.partition(':')[0]}{request.path}")
        body = _silence() if request.path.endswith(".mp3") else b"{}"
        return web.Response(body=body, headers=ALL)

    async def _obey(self, kind: str, payload: dict[str, Any]) -> None:
        match kind:
            case "listen":
                await self._listen(payload["token"])
            case "register" if payload["media"]["audio"]:
                await self.tell("ready")
            case "invite" if "reconnect" in payload:
                assert payload["reconnect"] == RECONNECT
                await self.tell("answer", callsid=payload["callsid"], reconnect=RECONNECT)
            case "invite":
                await self._connect(payload)
            case "answer":
                await self.peer.evaluate("(sdp) => peer.accept(sdp)", payload["sdp"])
            case "hangup" if self.calling is not None:
                self.calling.cancel()

    async def _listen(self, token: str) -> None:
        try:
            claims = _claims(token)
        except ValueError as error:
            await self.tell("error", error={"code": 31204, "message": str(error)})
            return
        self.identity = claims["grants"]["identity"]
        ttl = self.token_lives_s or claims["exp"] - time.time()
        told = {"account_sid": ACCOUNT, "identity": self.identity, "ttl": ttl}
        where = {"region": "EU_IRELAND", "edge": "dublin", "home": "us1"}
        await self.tell("connected", token=told, **where)

    async def _connect(self, payload: dict[str, Any]) -> None:
        """The TwiML App has the call: the bridge is asked, and gets a stream (of another voice)."""
        self.call_sid = "CA" + secrets.token_hex(16)
        await self.tell("ringing", callsid=self.call_sid)
        plan = CallPlan(
            self.voice_url,
            speech(),
            caller=f"client:{self.identity}",
            called="",
            account_sid=ACCOUNT,
            auth_token=self.auth_token,
            hang_up_after_s=60.0,
            parameters={"ApplicationSid": APP, **dict(parse_qsl(payload["twilio"]["params"]))},
        )
        self.calling = asyncio.create_task(PhoneCall(plan).run())
        sdp = await self.peer.evaluate(
            "([sdp, o]) => peer.answer(sdp, o)", [payload["sdp"], {"takesKeys": self.takes_keys}]
        )
        await self.tell("answer", callsid=self.call_sid, sdp=sdp, reconnect=RECONNECT)


@asynccontextmanager
async def serving(gateway: Gateway, folder: Path) -> AsyncIterator[int]:
    """Serve it at a port of this machine, by TLS with a certificate of nobody's."""
    app = web.Application()
    app.router.add_get("/signal", gateway.signal)
    app.router.add_route("*", "/{path:.*}", gateway.send_other)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=_certified(folder))
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        if gateway.calling is not None:
            gateway.calling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gateway.calling
        for socket in gateway.sockets:
            await socket.close()
        await runner.cleanup()


async def _beat(socket: web.WebSocketResponse) -> None:
    """The SDK connects anew when it has heard nothing for 15 s."""
    while not socket.closed:
        await socket.send_str("\n")
        await asyncio.sleep(5)


def _certified(folder: Path) -> ssl.SSLContext:
    """The browser is told to look at no certificate."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not certificate.exists():
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        )
        files = ["-subj", "/CN=twilio.test", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


def _claims(token: str) -> dict[str, Any]:
    """What a token says that is signed with the secret of COMPLETE.

    Raises:
        ValueError: it isn't.
    """
    signed, _, signature = token.rpartition(".")
    right = hmac.new((COMPLETE.api_secret or "").encode(), signed.encode(), hashlib.sha256).digest()
    if base64.urlsafe_b64encode(right).rstrip(b"=").decode() != signature:
        raise ValueError("the signature is wrong")
    payload = signed.split(".")[1]
    claims: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return claims


def _silence() -> bytes:
    """A tenth of a second of it, as a WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    return file.getvalue()
