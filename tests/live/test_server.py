"""The webhook, who may use it, and the health page."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.simulator.caller import CallFailed, CallPlan, PhoneCall
from personaplex_bridge.simulator.faults import CallFaults
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.route import Route
from personaplex_bridge.twilio import signature
from tests.live.harness import (
    ACCOUNT_SID,
    CLOCK,
    Line,
    bridge_to,
    full_line,
    raw_twilio,
    stop,
    until,
)
from tests.virtual import in_virtual_time

NOWHERE = "ws://127.0.0.1:9/api/chat"
TOKEN = "12345"
PUBLIC = "https://bridge.example.com"


@asynccontextmanager
async def webhook(
    settings: Settings | None = None,
) -> AsyncIterator[tuple[Line, aiohttp.ClientSession]]:
    async with bridge_to(NOWHERE, settings) as line, aiohttp.ClientSession() as http:
        yield line, http


def stream_of(twiml: str) -> tuple[str, dict[str, str]]:
    """URL and parameters of the stream; checks the document's shape."""
    root = ET.fromstring(twiml)
    assert [element.tag for element in root] == ["Connect", "Hangup"]
    stream = root[0][0]
    parameters = {p.attrib["name"]: p.attrib["value"] for p in stream}
    return stream.attrib["url"], parameters


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_webhook_connects_the_call(method: str) -> None:
    async with webhook() as (line, http), http.request(method, line.webhook) as response:
        assert response.status == 200
        assert response.content_type == "text/xml"
        url, parameters = stream_of(await response.text())
    assert url == line.stream_url
    assert parameters == {"persona": "assistant"}


@pytest.mark.parametrize("method", ["GET", "POST"])
@in_virtual_time
async def test_the_webhook_of_a_call_begins_its_connection_to_the_model(method: str) -> None:
    """And takes its line: the next call gets a busy signal, and so does who names none."""
    query = {"persona": "noir", "CallSid": "CA1"}
    async with (
        full_line(ModelOptions("silence", prompt_ms=500)) as (line, model),
        aiohttp.ClientSession() as http,
    ):
        async with http.request(method, line.webhook, params=query) as response:
            assert stream_of(await response.text())[1] == {"persona": "noir"}
        await until(lambda: bool(model.sessions))
        assert model.sessions[0].text_prompt == load_catalogue().get("noir").role.text_prompt
        for params in ({"CallSid": "CA2"}, {}):
            async with http.request(method, line.webhook, params=dict(params)) as response:
                assert "<Reject" in await response.text()
        async with http.request(method, line.webhook, params=query) as response:
            assert stream_of(await response.text())[1] == {"persona": "noir"}, "asked again"
    assert len(model.sessions) == 1


@pytest.mark.parametrize(
    ("settings", "headers", "expected"),
    [
        (Settings(public_urls=(PUBLIC,)), {}, "wss://bridge.example.com/voice/stream"),
        (
            Settings(),
            {"X-Forwarded-Host": "a.ngrok.app", "X-Forwarded-Proto": "https"},
            "wss://a.ngrok.app/voice/stream",
        ),
        (Settings(), {"X-Forwarded-Host": "a.example, b"}, "wss://a.example/voice/stream"),
        (
            Settings(trusted_proxies=()),
            {"X-Forwarded-Host": "a.example", "Host": "phone.example.org"},
            "wss://phone.example.org/voice/stream",
        ),
        (Settings(), {"Host": "phone.example.org"}, "wss://phone.example.org/voice/stream"),
        (
            Settings(),
            {"X-Forwarded-Proto": "https", "Host": "localhost"},
            "wss://localhost/voice/stream",
        ),
        (Settings(), {"Host": "localhost:8080"}, "ws://localhost:8080/voice/stream"),
    ],
)
async def test_the_address_twilio_is_told(
    settings: Settings, headers: dict[str, str], expected: str
) -> None:
    async with (
        webhook(settings) as (line, http),
        http.post(line.webhook, headers=headers) as answer,
    ):
        assert stream_of(await answer.text())[0] == expected


async def test_persona_and_overrides_travel_as_parameters(caplog: pytest.LogCaptureFixture) -> None:
    query = {"persona": "noir", "voice": "VARM1", "text_prompt": "You enjoy <tea> & cake."}
    async with webhook() as (line, http), http.get(line.webhook, params=query) as response:
        assert stream_of(await response.text())[1] == query
    assert not caplog.records


@pytest.mark.parametrize(
    "query",
    [
        {"persona": "nobody"},
        {"voice": "../../etc/passwd"},
        {"text_prompt": ""},
        {"text_prompt": "a\x00b"},
        {"text_prompt": "a\x1bb"},
        {"text_prompt": "a\ufffeb"},
        {"text_prompt": "secret " * 200},
    ],
)
async def test_what_can_not_be_is_answered_with_the_default_and_a_warning(
    query: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with webhook() as (line, http), http.get(line.webhook, params=query) as response:
        assert stream_of(await response.text())[1] == {"persona": "assistant"}
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "evil?x=1"},
        {"X-Forwarded-Host": 'a"><Say>'},
        {"X-Forwarded-Host": "evil/path#f"},
        {"X-Forwarded-Host": "u:p@evil"},
        {"X-Forwarded-Host": "[::1"},
        {"X-Forwarded-Host": ""},
    ],
)
async def test_hosts_that_are_none_get_400(headers: dict[str, str]) -> None:
    async with webhook() as (line, http):
        for settings_path in ("/voice/inbound", "/voice/stream"):
            url = f"http://127.0.0.1:{line.port}{settings_path}"
            async with http.get(url, headers=headers) as response:
                assert response.status == 400


@pytest.mark.parametrize(("path", "status"), [("/voice/inbound", 403), ("/voice/stream", 400)])
async def test_a_host_that_is_none_is_not_this_bridge(path: str, status: int) -> None:
    async with webhook() as (line, http):
        url = f"http://127.0.0.1:{line.port}{path}"
        async with http.get(url, headers={"Host": "a b"}) as response:
            assert response.status == status


@pytest.mark.parametrize(
    "body", [b"To=\xff\xfe", b"\x1f\x8b\x08\x00", b"&".join(b"a=1" for _ in range(1000))]
)
async def test_bodies_that_are_no_form_get_400(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with (
        webhook() as (line, http),
        http.post(line.webhook, data=body, headers=form) as response,
    ):
        assert response.status == 400
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "text/plain; charset=foo"},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_what_twilio_never_sends_does_no_harm(
    headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        webhook() as (line, http),
        http.post(line.webhook, data=b"x", headers=headers) as response,
    ):
        assert response.status == 200
    assert not caplog.records


async def test_other_methods_and_large_bodies_are_refused() -> None:
    async with webhook() as (line, http):
        async with http.put(line.webhook) as response:
            assert response.status == 405
        async with http.post(line.webhook, data={"Body": "x" * 100_000}) as response:
            assert response.status == 413
        async with http.get(line.stream_url.replace("ws", "http", 1)) as response:
            assert response.status == 400


@in_virtual_time
async def test_health() -> None:
    async with (
        full_line(ModelOptions("silence", prompt_ms=500), Settings()) as (line, _),
        aiohttp.ClientSession() as http,
    ):

        async def health() -> Any:
            async with http.get(line.webhook.replace("/voice/inbound", "/healthz")) as response:
                return await response.json()

        body = await health()
        assert body.keys() == {
            *("status", "instance", "sessions", "tasks", "uptime", "lines", "servers", "leases"),
        }
        assert body["instance"] == line.bridge.instance
        assert body["status"] == "ok"
        assert body["uptime"] >= 0
        assert (body["sessions"], body["lines"]) == (0, {"connecting": 1})
        await asyncio.sleep(1.0)
        idle = await health()
        assert idle["lines"] == {"warm": 1}
        async with raw_twilio(line) as peer:
            await until(lambda: any(r.handshake_s is not None for r in line.bridge.records))
            body = await health()
            assert (body["sessions"], body["lines"]) == (1, {"busy": 1})
            assert body["tasks"] > idle["tasks"]
            await peer.send(stop())
            await line.record()
        await asyncio.sleep(1.0)
        body = await health()
        assert (body["sessions"], body["lines"]) == (0, {"warm": 1})
        assert body["tasks"] == idle["tasks"]


@pytest.mark.parametrize(("warm", "lines"), [(True, {"down": 1}), (False, {"idle": 1})])
@in_virtual_time
async def test_health_of_lines_that_are_not_there(warm: bool, lines: dict[str, int]) -> None:
    """A server that is down shows before anybody calls, unless nothing is kept warm."""
    async with webhook(Settings(warm_lines=warm)) as (line, http):
        await asyncio.sleep(0.1)
        async with http.get(line.webhook.replace("/voice/inbound", "/healthz")) as response:
            assert (await response.json())["lines"] == lines


SIGNED = Settings(public_urls=(PUBLIC,), twilio_auth_tokens=(TOKEN,))


async def test_signed_webhooks_pass_and_others_do_not() -> None:
    form = {"To": "+15550100", "CallSid": "CA1"}
    right = signature.sign(TOKEN, f"{PUBLIC}/voice/inbound?persona=noir", form)
    async with webhook(SIGNED) as (line, http):
        for header, status in ((right, 200), ("wrong", 403), ("", 403)):
            async with http.post(
                f"{line.webhook}?persona=noir", data=form, headers={signature.HEADER: header}
            ) as response:
                assert response.status == status
        other = {**form, "To": "+15550199"}
        async with http.post(
            f"{line.webhook}?persona=noir", data=other, headers={signature.HEADER: right}
        ) as response:
            assert response.status == 403


async def test_signed_media_sockets_pass_and_others_do_not() -> None:
    url = "wss://bridge.example.com/voice/stream"
    async with bridge_to(NOWHERE, SIGNED) as line, aiohttp.ClientSession() as http:
        headers = {signature.HEADER: signature.sign(TOKEN, url, {})}
        async with http.ws_connect(line.stream_url, headers=headers) as socket:
            await socket.close()
        await line.record()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(line.stream_url)
    assert refused.value.status == 403


SEVERAL = Settings(
    public_urls=(PUBLIC, "https://calls.example.com:8443"),
    twilio_auth_tokens=("another", TOKEN),
)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("https://bridge.example.com", 200),
        ("https://bridge.example.com:443", 200),
        ("https://calls.example.com:8443", 200),
        ("https://calls.example.com", 200),  # RequestValidator takes either
        ("https://other.example.com", 403),
    ],
)
@pytest.mark.parametrize("token", ["another", TOKEN])
async def test_webhooks_under_several_addresses(token: str, url: str, status: int) -> None:
    form = {"CallSid": "CA1"}
    headers = {signature.HEADER: signature.sign(token, f"{url}/voice/inbound", form)}
    async with (
        webhook(SEVERAL) as (line, http),
        http.post(line.webhook, data=form, headers=headers) as response,
    ):
        assert response.status == status
        if status == 200:
            stream_url, _ = stream_of(await response.text())
            assert stream_url == "wss://bridge.example.com/voice/stream", "the bridge's own"


@pytest.mark.parametrize("signs_port", [False, True])
@pytest.mark.parametrize("public_urls", [(PUBLIC,), ()])
@in_virtual_time
async def test_a_whole_signed_call_through_a_tunnel(
    public_urls: tuple[str, ...], signs_port: bool
) -> None:
    """Without PUBLIC_URL, signatures are computed from the host that the tunnel forwards."""
    settings = Settings(
        public_urls=public_urls, twilio_auth_tokens=(TOKEN,), twilio_account_sid=ACCOUNT_SID
    )
    async with full_line(ModelOptions("silence", prompt_ms=0), settings) as (line, _):
        plan = CallPlan(
            f"{PUBLIC}/voice/inbound?persona=noir",
            b"",
            auth_token=TOKEN,
            account_sid=ACCOUNT_SID,
            hang_up_after_s=0.3,
            route=Route(f"127.0.0.1:{line.port}", signs_port),
        )
        report = await PhoneCall(plan, CLOCK).run()
        record = await line.record()
    assert report.media_messages > 0
    assert (record.persona, report.problems) == ("noir", [])


@in_virtual_time
async def test_a_whole_signed_call_without_a_public_address() -> None:
    """Signatures are computed from the host that was asked for."""
    settings = Settings(twilio_auth_tokens=(TOKEN,), twilio_account_sid=ACCOUNT_SID)
    async with full_line(ModelOptions("silence", prompt_ms=0), settings) as (line, _):
        plan = CallPlan(
            line.webhook, b"", auth_token=TOKEN, account_sid=ACCOUNT_SID, hang_up_after_s=0.3
        )
        report = await PhoneCall(plan, CLOCK).run()
        await line.record()
        assert report.media_messages > 0
        with pytest.raises(CallFailed, match="403"):
            await PhoneCall(CallPlan(line.webhook, b"", account_sid=ACCOUNT_SID)).run()


@in_virtual_time
async def test_a_stream_that_is_not_let_in() -> None:
    """It is closed, and what follows in the TwiML is done; the model is left alone."""
    settings = Settings(twilio_auth_tokens=(TOKEN,), warm_lines=False)
    async with full_line(ModelOptions("silence", prompt_ms=0), settings) as (line, model):
        plan = CallPlan(line.webhook, b"", auth_token=TOKEN, faults=CallFaults(answer_after_s=61))
        report = await PhoneCall(plan, CLOCK).run()
        record = await line.record()
    assert report.outcome == "the server closed the stream with 1008, then hung up by TwiML"
    assert record.ending is not None
    assert record.ending.reason == "refused: one-time token expired"
    assert (record.call_sid, record.persona) == ("", "")
    assert len(model.sessions) == 1, "the webhook's, given back after 15 s"


@in_virtual_time
async def test_tokens_are_not_asked_for_without_twilios() -> None:
    async with full_line(ModelOptions("silence", prompt_ms=0)) as (line, _), raw_twilio(line):
        await until(lambda: any(record.call_sid for record in line.bridge.records))


async def test_other_accounts_are_refused() -> None:
    async with webhook(Settings(twilio_account_sid=ACCOUNT_SID)) as (line, http):
        for account, status in ((ACCOUNT_SID, 200), ("AC" + "9" * 32, 403)):
            async with http.post(line.webhook, data={"AccountSid": account}) as response:
                assert response.status == status
