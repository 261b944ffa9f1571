"""A bridge with a call in progress, and what an attacker can do to it.

The bridge is as one on the internet: Twilio's token, PUBLIC_URL, a load balancer's address beside
it. The call in progress came through a tunnel, signed, and must notice nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.record import CallRecord
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.simulator.obey import ConnectStream, read_twiml
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.simulator.route import Route
from personaplex_bridge.twilio import inbound, signature
from personaplex_bridge.values import network
from personaplex_bridge.web.hosting import allow_connections
from personaplex_bridge.web.paths import STREAM_PATH, WEBHOOK_PATH
from tests.attacks import raw
from tests.attacks.raw import Answer, Connection, Header, Socket
from tests.live.harness import CLOCK, HOST, Line, full_line, until
from tests.logged import logged

PUBLIC, BALANCER = "https://bridge.example.com", "https://calls.example.com"
TOKEN, NEXT_TOKEN = "attacked-token-1", "attacked-token-2"
OLD_TOKEN, WRONG_TOKEN = "attacked-token-0", "guessed-token"
CONSOLE_TOKEN = "attacked-console-token"
ACCOUNT, CALL, OTHER_CALL = "AC" + "a" * 32, "CA" + "b" * 32, "CA" + "c" * 32
STREAM = "MZ" + "d" * 32
CALLER, CALLED = "+15550123", "+15550100"
LINES = 4
FORM = {"CallSid": CALL, "AccountSid": ACCOUNT, "From": CALLER, "To": CALLED}

SETTINGS = Settings(
    public_urls=(PUBLIC, BALANCER),
    twilio_auth_tokens=(TOKEN, NEXT_TOKEN),
    twilio_account_sid=ACCOUNT,
    trusted_proxies=(network("192.0.2.0/24"),),  # not where the attacker is
    warm_lines=False,
)
GUARDED = dataclasses.replace(SETTINGS, console_token=CONSOLE_TOKEN)
"""Its console is for those who have the token."""
OPEN = dataclasses.replace(SETTINGS, public_urls=(), twilio_auth_tokens=(), twilio_account_sid=None)
"""A developer's machine: nobody is asked who they are."""


@dataclass(frozen=True, slots=True)
class Attack:
    """A case: what is tried, what is sent, and how."""

    name: str
    sent: str
    make: Callable[[Scene], Awaitable[str]]
    lasts_s: float
    settings: Settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attack."""

    answer: str
    calls: int
    """Begun for the attacker, or for whom they attacked."""
    lines: int
    """Connections to the model for these."""
    harm: str
    """To the call in progress, or in the log; empty if there was none."""


ATTACKS: list[Attack] = []
"""Every case, module by module."""


def attack(
    name: str, sent: str, *, lasts_s: float = 4.0, settings: Settings = SETTINGS
) -> Callable[[Callable[[Scene], Awaitable[str]]], Callable[[Scene], Awaitable[str]]]:
    """Enter a function as a case. `lasts_s`: how long the other call goes on, longer than it."""

    def enter(make: Callable[[Scene], Awaitable[str]]) -> Callable[[Scene], Awaitable[str]]:
        ATTACKS.append(Attack(name, sent, make, lasts_s, settings))
        return make

    return enter


@dataclass
class Scene:
    """The bridge under attack."""

    line: Line
    model: ModelServer
    ended: list[CallRecord] = field(default_factory=list)

    async def ask(self, data: bytes) -> Answer:
        """Send bytes; what comes until the bridge closes."""
        return await raw.ask(self.line.port, data)

    @property
    def other_call(self) -> str:
        """The CallSid of the call in progress."""
        return self.line.bridge.records[0].call_sid

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return raw.connected(self.line.port)

    @asynccontextmanager
    async def socket(self, data: bytes | None = None) -> AsyncIterator[Socket]:
        """A media socket, signed unless `data` says otherwise."""
        async with self.connect() as connection:
            socket = await self.open(connection, data)
            assert isinstance(socket, Socket), str(socket)
            yield socket

    async def open(self, connection: Connection, data: bytes | None = None) -> Socket | Answer:
        return await raw.open_socket(connection, data or signed_upgrade())

    async def refusal(self, data: bytes) -> str:
        """What an upgrade gets that isn't accepted."""
        async with self.connect() as connection:
            answer = await self.open(connection, data)
            assert isinstance(answer, Answer), "it was accepted"
            return str(answer)

    async def parameters(self, form: Mapping[str, str] = FORM, query: str = "") -> dict[str, str]:
        """Those of the stream that a genuine webhook gives."""
        answer = await self.ask(signed_webhook(form, query=query))
        verb = read_twiml(answer.body)[0]
        assert isinstance(verb, ConnectStream), answer
        return verb.parameters

    async def ending(self, socket: Socket) -> str:
        """How a media socket was closed, and what the record says."""
        code = await socket.close_code()
        record = await self.record()
        assert record.ending is not None
        return f"{code or 'no code'}: {record.ending.reason}"

    async def record(self) -> CallRecord:
        self.ended.append(await self.line.record())
        return self.ended[-1]

    async def try_start(self, parameters: Mapping[str, str], call_sid: str = CALL) -> str:
        """What a `start` with these parameters gets."""
        async with self.socket() as socket:
            socket.send(start(parameters, call_sid))
            return await self.ending(socket)

    async def leave(self, socket: Socket, call_sid: str = CALL) -> None:
        """The caller of a call hangs up."""
        socket.send(inbound.serialize(inbound.Stop(STREAM, 9, call_sid, ACCOUNT)))
        assert (await self.ending(socket)).startswith("1000")

    async def genuine_call(self, parameters: dict[str, str], call_sid: str = CALL) -> str:
        """Whether the call that was attacked can still be made."""
        async with self.socket() as socket:
            socket.send(start(parameters, call_sid))
            await until(lambda: any(r.call_sid == call_sid for r in self.line.bridge.records))
            socket.send(inbound.serialize(inbound.Stop(STREAM, 9, call_sid, ACCOUNT)))
            ending = await self.ending(socket)
        assert ending == "1000: the caller hung up", ending
        return "the genuine call then passes"


def host(url: str = PUBLIC) -> Header:
    return ("Host", url.partition("://")[2])


def webhook(
    form: Mapping[str, str] = FORM,
    headers: Iterable[Header] = (),
    *,
    target: str = WEBHOOK_PATH,
    method: str = "POST",
) -> bytes:
    """A webhook, unsigned."""
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    return raw.request(method, target, [host(), kind, *headers], urlencode(form).encode())


def signed(url: str, form: Mapping[str, str], token: str = TOKEN) -> Header:
    """The signature of a request to a URL."""
    return (signature.HEADER, signature.sign(token, url, form))


def signed_webhook(form: Mapping[str, str] = FORM, *, query: str = "") -> bytes:
    """A webhook of Twilio's."""
    target = WEBHOOK_PATH + query
    return webhook(form, [signed(PUBLIC + target, form)], target=target)


def upgrade(*headers: Header, target: str = STREAM_PATH) -> bytes:
    """A media socket's upgrade, unsigned."""
    return raw.upgrade(target, [host(), *headers])


def signed_upgrade() -> bytes:
    """A media socket's upgrade of Twilio's."""
    return upgrade(signed("wss://bridge.example.com" + STREAM_PATH, {}))


def start(parameters: Mapping[str, str], call_sid: str = CALL) -> str:
    event = inbound.Start(STREAM, call_sid, ACCOUNT, custom_parameters=dict(parameters))
    return inbound.serialize(event)


def media(number: int = 0, stream_sid: str = STREAM) -> str:
    event = inbound.Media(stream_sid, number + 2, number + 1, number * 20, b"\xff" * 160)
    return inbound.serialize(event)


async def run(case: Attack) -> Outcome:
    """Attack a bridge with a call in progress."""
    allow_connections(4000)  # both ends of a crowd are in this process
    options = ModelOptions("talk", prompt_ms=0, step_ms=0, sessions=LINES)
    settings = dataclasses.replace(case.settings, personaplex_capacity=LINES)
    with logged() as log:
        async with full_line(options, settings, watched=True, console=True) as (line, model):
            other = asyncio.create_task(_other_call(line, case), name="other-call")
            await until(lambda: bool(model.sessions) and model.sessions[0].frames_out > 0)
            scene = Scene(line, model)
            answer = await case.make(scene)
            assert not other.done(), "lasts_s is shorter than the attack"
            report = await other
            records = [*scene.ended, *await _all_records(line)]
    mine = [record for record in records if record.call_sid == report.call_sid]
    theirs = [record for record in records if record.call_sid not in ("", report.call_sid)]
    harm = _harm(report, mine, case.lasts_s) + _leaks(log.getvalue())
    return Outcome(answer, len(theirs), len(model.sessions) - 1, "; ".join(harm))


async def _other_call(line: Line, case: Attack) -> PhoneReport:
    plan = CallPlan(
        (PUBLIC if case.settings.public_urls else f"http://{HOST}:{line.port}") + WEBHOOK_PATH,
        b"",
        account_sid=ACCOUNT,
        auth_token=TOKEN if case.settings.twilio_auth_tokens else None,
        hang_up_after_s=case.lasts_s,
        route=Route(tunnel=f"{HOST}:{line.port}", signs_port=True),
    )
    return await PhoneCall(plan, CLOCK).run()


async def _all_records(line: Line) -> list[CallRecord]:
    await until(lambda: not line.bridge.records)
    return [line.records.get_nowait() for _ in range(line.records.qsize())]


def _harm(report: PhoneReport, records: list[CallRecord], lasts_s: float) -> list[str]:
    """What the call in progress noticed; nothing, if all is well."""
    frames = round(lasts_s * 50)
    record = records[0]
    assert record.ending is not None
    told = {
        "another ending": record.ending.reason != "the caller hung up",
        "lost frames": not record.caller_frames == report.frames_sent == frames,
        "gaps": record.gaps > 0 or bool(report.gaps),
        "lag": record.uplink_lag.max_ms > 60 or record.downlink_lag.max_ms > 200,
        "dropped": record.dropped_frames + record.overdue_frames + record.filled_frames > 0,
        "problems": bool(report.problems),
    }
    return [what for what, is_so in told.items() if is_so]


def _leaks(log: str) -> list[str]:
    private = [TOKEN, NEXT_TOKEN, CONSOLE_TOKEN, CALLER, CALLED, "once_", "secret prompt"]
    private += [persona.role.text_prompt for persona in load_catalogue().personas.values()]
    leaks = [f"{word!r} is logged" for word in private if word in log]
    if "Traceback" in log:
        leaks.append("a traceback is logged")
    if re.search("^INFO forged", log, re.MULTILINE):
        leaks.append("a line of the log is forged")
    return leaks
