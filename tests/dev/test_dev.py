"""`dev`, end to end: a caller at Twilio's stand-in, through ngrok's, to the bridge and back."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from personaplex_bridge.config import Settings
from personaplex_bridge.dev import chain
from personaplex_bridge.dev.settings import TunnelSettings
from personaplex_bridge.errors import ConfigError, NumberError, TunnelError, TwilioError
from personaplex_bridge.numbers import pointing
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.values import ServerAddress
from tests.dev.scene import (
    BEFORE,
    HOST,
    NUMBER,
    OTHER_NUMBER,
    line_of,
    running,
    town,
    until_calls,
)
from tests.live.harness import bridge_to, speech, standin

APP, TRUNK = "AP" + "a" * 32, "TK" + "b" * 32


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_phone_rings_and_the_number_is_put_back(
    how: signal.Signals, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with town(tmp_path) as place, running(place.plan()) as run:
        assert NUMBER in await run.line("Ready. Call")
        url = place.agent.tunnels[0]["public_url"]
        assert place.webhook() == f"{url}/voice/inbound"
        report = await place.twilio.dial(NUMBER, speech()[:16_000], hang_up_after_s=4.0)
        said = await run.end(how)
        assert place.webhook() == BEFORE
        assert place.agent.tunnels == []
        assert place.saved.all(place.twilio.account_sid) == []
    assert "refused a webhook" not in caplog.text, "our own knocking is not worth a warning"
    assert NUMBER not in caplog.text
    assert report.problems == []
    assert report.outcome == "the caller hung up"
    assert len(set(report.heard)) > 50, "the stand-in for the model repeats what was said"
    assert "  ok  public address: " + url.removeprefix("http://") + " answers" in said
    assert "  ok  unsigned webhook: refused" in said
    assert "  ok  signed webhook: accepted: the signature is right for this address" in said
    assert any("PERSONAPLEX_URL is not set: serve uses a stand-in" in line for line in said)
    assert f"The number's calls go to {BEFORE} again." in said


async def test_the_model_is_looked_at(tmp_path: Path) -> None:
    """One that isn't there is told of, and no reason not to go on: it may be starting."""
    async with town(tmp_path) as place:
        server = ServerAddress(f"ws://{HOST}:9/api/chat")
        gone = replace(place.settings, personaplex_servers=(server,))
        async with running(place.plan(settings=gone)) as run:
            assert "MEND  model server" in await run.line("MEND")
            await run.line("Ready")
            await run.end()


async def test_a_call_in_progress_is_ended_after_the_number_is_put_back(tmp_path: Path) -> None:
    async with town(tmp_path) as place, running(place.plan()) as run:
        await run.line("Ready")
        dialled = place.twilio.dial(NUMBER, speech()[:16_000], hang_up_after_s=60.0)
        call = asyncio.create_task(dialled)
        await until_calls(place.agent.tunnels[0]["public_url"], 1)
        said = await run.end()
        report = await call
    assert "Ending 1 calls." in said
    assert said.index("Ending 1 calls.") > said.index(f"The number's calls go to {BEFORE} again.")
    assert report.close_code == 1001
    assert report.said_by_twilio == [Settings().again_words]


async def test_a_tunnel_that_is_there_is_used_and_left(tmp_path: Path) -> None:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    async with town(tmp_path) as place:
        url = await place.agent.open(str(port), "command_line")
        settings = replace(place.settings, port=port)
        async with running(place.plan(settings=settings)) as run:
            await run.line("Ready")
            assert place.webhook() == f"{url}/voice/inbound"
            await run.end()
        assert [tunnel["name"] for tunnel in place.agent.tunnels] == ["command_line"]


async def test_another_tunnel_at_public_url_is_used_as_it_is(tmp_path: Path) -> None:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    async with town(tmp_path) as place:
        url = await place.agent.open(str(port), "other")
        settings = replace(place.settings, port=port, public_urls=(url,))
        plan = place.plan(settings=settings, tunnel=TunnelSettings(f"http://{HOST}:9"))
        async with running(plan) as run:
            await run.line("Ready")
            assert any("(PUBLIC_URL, as it is set)" in line for line in run.said)
            await run.end()


async def test_an_address_that_leads_to_another_bridge(tmp_path: Path) -> None:
    async with town(tmp_path) as place, standin(ModelOptions()) as (model, _):
        async with bridge_to(model) as line:
            url = await place.agent.open(str(line.port), "other")
            settings = replace(place.settings, public_urls=(url,))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(chain, "REACHABLE_WITHIN_S", 0.0)
                async with running(place.plan(settings=settings)) as run:
                    with pytest.raises(TunnelError, match="another bridge than this one"):
                        await run.line("Ready")
        assert place.twilio.changes == [], "the number was left alone"


async def test_an_address_that_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "REACHABLE_WITHIN_S", 0.0)
    async with town(tmp_path) as place:
        settings = replace(place.settings, public_urls=(f"http://{HOST}:9",))
        async with running(place.plan(settings=settings)) as run:
            with pytest.raises(TunnelError, match="is the tunnel or proxy running"):
                await run.line("Ready")
        assert place.twilio.changes == []


async def test_without_any_tunnel_the_three_ways_are_told(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        plan = place.plan(tunnel=TunnelSettings(f"http://{HOST}:9", "secret-token"))
        async with running(plan) as run:
            with pytest.raises(TunnelError) as told:
                await run.line("Ready")
    text = str(told.value)
    assert "NGROK_AUTHTOKEN is set, but the ngrok package is not installed" in text
    assert "pip install 'personaplex-bridge[ngrok]'" in text
    assert "ngrok http " in text
    assert "cloudflared tunnel" in text
    assert "secret-token" not in text


async def test_a_lost_answer_of_twilios_is_put_back(tmp_path: Path) -> None:
    """A failure after the number has changed: nobody knows that it has, but the kept file."""
    async with town(tmp_path) as place:
        place.twilio.lost_answers = 1
        async with running(place.plan()) as run:
            with pytest.raises(TwilioError, match="no answer"):
                await run.line("Ready")
        assert place.twilio.changes[0]["VoiceUrl"].endswith("/voice/inbound")
        assert place.webhook() == BEFORE
        assert place.agent.tunnels == []
        assert place.saved.all(place.twilio.account_sid) == []


async def test_ctrl_c_before_twilio_has_changed_the_number(tmp_path: Path) -> None:
    """Twilio carries a change out although nobody waits for the answer any more."""
    async with town(tmp_path) as place:
        place.twilio.late_s = 1.0
        async with running(place.plan()) as run:
            async with asyncio.timeout(60):
                while not any(method == "POST" for method, _ in place.twilio.asked):
                    await asyncio.sleep(0.01)
            await run.end()
        await asyncio.sleep(1.5)  # what was under way is done by now
        assert place.webhook() == BEFORE
        assert place.twilio.changes[0]["VoiceUrl"].endswith("/voice/inbound")
        assert place.saved.all(place.twilio.account_sid) == []


async def test_a_number_that_somebody_changes_meanwhile_is_left_alone(tmp_path: Path) -> None:
    async with town(tmp_path) as place, running(place.plan()) as run:
        await run.line("Ready")
        place.twilio.number(NUMBER)["voice_url"] = "https://elsewhere.example/voice"
        with pytest.raises(NumberError, match="somebody has changed the number PN"):
            await run.end()
        assert place.webhook() == "https://elsewhere.example/voice"
        assert place.agent.tunnels == [], "the rest was taken back all the same"


async def test_a_number_that_points_at_a_bridge_for_good_goes_back_there(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        stays = "https://bridge.example.com/voice/inbound"
        async with place.rest() as rest:
            number = await pointing.choose(rest, None)
            await pointing.point(rest, place.saved, place.twilio.account_sid, number, stays)
        async with running(place.plan()) as run:
            await run.line("Ready")
            assert place.webhook() != stays
            assert any(f"(afterwards: {stays})" in line for line in run.said)
            await run.end()
        assert place.webhook() == stays
        async with place.rest() as rest:
            [kept] = place.saved.all(place.twilio.account_sid)
            await pointing.restore(rest, place.saved, kept)
        assert place.webhook() == BEFORE


@pytest.mark.parametrize("then", ["dev", "restore"])
async def test_after_a_kill_the_number_is_put_back(then: str, tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        place.twilio.number(NUMBER)["voice_application_sid"] = APP
        async with place.command("dev") as process:
            await line_of(process, "Ready. Call")
            process.kill()
            await process.wait()
        assert len(place.agent.tunnels) == 1
        left = place.webhook()
        assert left != BEFORE
        if then == "restore":
            code, output = await place.told("twilio", "restore")
            assert code == 0, output
            assert f"{NUMBER} was at {left}" in output
            assert f"is at the TwiML app {APP} again" in output
        else:
            async with place.command("dev") as process:
                await line_of(process, "An earlier run was cut off")
                await line_of(process, "Ready. Call")
                process.send_signal(signal.SIGTERM)
                await line_of(process, f"The number's calls go to the TwiML app {APP} again.")
                await process.wait()
            assert process.returncode == 0
        found = place.twilio.number(NUMBER)
        assert (found["voice_url"], found["voice_application_sid"]) == (BEFORE, APP)
        assert place.saved.all(place.twilio.account_sid) == []


async def test_a_number_that_another_run_has_is_left_to_it(tmp_path: Path) -> None:
    async with town(tmp_path) as place, running(place.plan()) as run:
        await run.line("Ready")
        first = place.webhook()
        code, output = await place.told("dev")
        assert code == 1
        assert "another `personaplex-bridge dev` has the number PN" in output
        assert place.webhook() == first
        code, output = await place.told("twilio", "restore")
        assert code == 1
        assert "another `personaplex-bridge dev` has the number PN" in output
        assert place.webhook() == first
        await run.end()
        assert place.webhook() == BEFORE


async def test_when_twilio_is_away_at_the_end_it_says_how_to_mend(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        async with running(place.plan()) as run:
            await run.line("Ready")
            place.twilio.too_many, place.twilio.retry_after_s = 99, 0
            with pytest.raises(NumberError, match="twilio restore` does it"):
                await run.end()
        assert place.agent.tunnels == [], "the rest was taken back all the same"
        place.twilio.too_many = 0
        code, output = await place.told("twilio", "restore")
        assert code == 0, output
        assert place.webhook() == BEFORE


async def test_of_several_numbers_one_must_be_named(tmp_path: Path) -> None:
    async with town(tmp_path, NUMBER, OTHER_NUMBER) as place:
        async with running(place.plan()) as run:
            with pytest.raises(NumberError, match="2 numbers that take calls: say which") as told:
                await run.line("Ready")
        assert told.value.choices == (NUMBER, OTHER_NUMBER)
        assert NUMBER not in str(told.value)
        async with running(place.plan(number=OTHER_NUMBER)) as run:
            assert OTHER_NUMBER in await run.line("Ready. Call")
            assert place.webhook(NUMBER) == BEFORE
            await run.end()


async def test_a_trunk_is_refused_before_anything_changes(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        place.twilio.number(NUMBER)["trunk_sid"] = TRUNK
        async with running(place.plan()) as run:
            with pytest.raises(NumberError, match="SIP trunk"):
                await run.line("Ready")
        assert place.twilio.changes == []


async def test_a_trial_account_is_told_what_it_may_not_do(tmp_path: Path) -> None:
    async with town(tmp_path, kind="Trial") as place, running(place.plan()) as run:
        assert "may not use <Stream>" in await run.line("note: a trial account")
        await run.end()


async def test_a_suspended_account_is_told_at_once(tmp_path: Path) -> None:
    async with town(tmp_path, status="suspended") as place, running(place.plan()) as run:
        with pytest.raises(NumberError, match="account is suspended"):
            await run.line("Ready")


async def test_a_wrong_token_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        account = replace(place.account, auth_tokens=("wrong",))
        async with running(place.plan(account=account)) as run:
            with pytest.raises(TwilioError, match="20003"):
                await run.line("Ready")
        assert place.twilio.asked == [("GET", f"/2010-04-01/Accounts/{account.account_sid}.json")]


async def test_a_taken_port_is_told_before_the_tunnel_leads_there(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        with closing(socket.create_server((HOST, 0))) as other:
            settings = replace(place.settings, port=other.getsockname()[1])
            async with running(place.plan(settings=settings)) as run:
                with pytest.raises(ConfigError, match="can't listen"):
                    await run.line("Ready")
        assert place.agent.tunnels == []


async def test_without_a_number_twilio_is_not_asked(tmp_path: Path) -> None:
    async with town(tmp_path) as place, running(place.plan(points=False)) as run:
        assert "/voice/inbound" in await run.line("Ready. The voice webhook is")
        await run.end()
        assert place.twilio.asked == []


async def test_a_tunnel_that_breaks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "WATCH_S", 0.05)
    async with town(tmp_path) as place, running(place.plan()) as run:
        await run.line("Ready")
        await place.agent.close_all()
        assert "is the tunnel or proxy running" in await run.line("MEND  public address")
        await run.end()
        assert place.webhook() == BEFORE


async def test_the_command_without_an_account_says_what_is_missing(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        code, output = await place.told("dev", TWILIO_ACCOUNT_SID="", TWILIO_AUTH_TOKEN="")
        assert code == 2
        assert "TWILIO_ACCOUNT_SID='' is not allowed: must be set" in output
        assert "TWILIO_AUTH_TOKEN='' is not allowed: must be set" in output
        code, output = await place.told("dev", "--number", "12", "--no-number")
        assert code == 2
        assert "is no number with + and its country's code" in output
