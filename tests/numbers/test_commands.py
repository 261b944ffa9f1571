"""`personaplex-bridge twilio`, as a user runs it: against a bridge behind a tunnel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from personaplex_bridge.dev.command import free_port
from personaplex_bridge.serve import running
from personaplex_bridge.web.hosting import hosted
from tests.dev.scene import BEFORE, HOST, NUMBER, OTHER_NUMBER, Town, town

WEBHOOK = "/voice/inbound"
APP, TRUNK = "AP" + "a" * 32, "TK" + "b" * 32


@asynccontextmanager
async def bridge_of(place: Town, **changes: Any) -> AsyncIterator[str]:
    """A bridge behind a tunnel, with these settings; its public address."""
    port = free_port(HOST, 0)
    url = await place.agent.open(str(port), "bridge")
    settings = replace(place.settings, port=port, public_urls=(url,))
    async with running(replace(settings, **changes)):
        yield url


async def test_there_and_back(tmp_path: Path) -> None:
    async with town(tmp_path) as place, bridge_of(place) as url:
        here = {"PUBLIC_URL": url}
        assert await place.told("twilio", "numbers") == (0, f"{NUMBER}  {BEFORE}\n")
        code, output = await place.told("twilio", "point", "--persona", "noir", **here)
        assert code == 0, output
        assert f"{NUMBER} points to {url}{WEBHOOK}?persona=noir\n" in output
        [kept] = (tmp_path / "personaplex-bridge" / "numbers").iterdir()
        assert f"Before: {BEFORE}. Kept in {kept}\n" in output
        assert "2 calls at a time" in output
        code, output = await place.told("twilio", "numbers", **here)
        where = f"{url}{WEBHOOK}?persona=noir"
        assert output == f"{NUMBER}  {where}  (here)  (what it was before is kept)\n"
        code, output = await place.told("twilio", "status", **here)
        assert code == 0, output
        for line in (
            "ok  account: full, active",
            f"ok  public address: {url.removeprefix('http://')} answers",
            "ok  unsigned webhook: refused",
            "ok  signed webhook: accepted",
        ):
            assert line in output
        code, output = await place.told("twilio", "restore")
        assert (code, output) == (0, f"{NUMBER} was at {where}\n  and is at {BEFORE} again\n")
        assert await place.told("twilio", "restore") == (
            0,
            "Nothing is kept: no number is to be put back.\n",
        )
        assert not kept.exists()


async def test_the_status_takes_no_line_of_a_model(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        port = free_port(HOST, 0)
        url = await place.agent.open(str(port), "bridge")
        settings = replace(place.settings, port=port, public_urls=(url,), warm_lines=False)
        place.twilio.number(NUMBER)["voice_url"] = url + WEBHOOK
        async with running(settings) as site:
            code, output = await place.told("twilio", "status")
            assert code == 0, output
            assert site.bridge.records == []
            async with aiohttp.ClientSession() as http, http.get(f"{url}/healthz") as answer:
                assert (await answer.json())["lines"] == {"idle": 1}


@pytest.mark.parametrize(
    ("changes", "mend"),
    [
        ({"twilio_auth_tokens": ("another",)}, "TWILIO_AUTH_TOKEN must be this account's"),
        ({"public_urls": ("https://other.example",)}, "its PUBLIC_URL exactly"),
        ({"twilio_account_sid": "AC" + "9" * 32}, "TWILIO_ACCOUNT_SID is another account's"),
        ({"twilio_auth_tokens": ()}, "set TWILIO_AUTH_TOKEN there, or anyone"),
    ],
)
async def test_a_bridge_that_does_not_know_twilio(
    changes: dict[str, Any], mend: str, tmp_path: Path
) -> None:
    async with town(tmp_path) as place, bridge_of(place, **changes) as url:
        place.twilio.number(NUMBER)["voice_url"] = url + WEBHOOK
        code, output = await place.told("twilio", "status")
    assert code == 1
    assert mend in output


async def test_a_number_that_points_at_nothing_that_answers(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        place.twilio.number(NUMBER)["voice_url"] = f"http://{HOST}:9{WEBHOOK}"
        code, output = await place.told("twilio", "status")
        assert code == 1
        assert "is the tunnel or proxy running?" in output
        async with hosted(web.Application(), HOST, 0) as port:
            place.twilio.number(NUMBER)["voice_url"] = f"http://{HOST}:{port}{WEBHOOK}"
            code, output = await place.told("twilio", "status")
    assert code == 1
    assert "answers HTTP 404, and is no bridge" in output


async def test_others_numbers_are_not_asked(tmp_path: Path) -> None:
    async with town(tmp_path, NUMBER, OTHER_NUMBER, kind="Trial") as place:
        place.twilio.number(NUMBER)["voice_application_sid"] = APP
        place.twilio.number(OTHER_NUMBER)["trunk_sid"] = TRUNK
        code, output = await place.told("twilio", "status")
    assert code == 0
    assert "may not use <Stream>" in output
    assert f"ok  {NUMBER}: the TwiML app {APP}" in output
    assert f"ok  {OTHER_NUMBER}: the SIP trunk {TRUNK}" in output
    assert "public address" not in output


async def test_several_numbers(tmp_path: Path) -> None:
    url = "https://bridge.example.com"
    async with town(tmp_path, NUMBER, OTHER_NUMBER) as place:
        code, output = await place.told("twilio", "point", "--url", url)
        assert (code, place.twilio.changes) == (1, [])
        assert "2 numbers that take calls: say which one" in output
        assert output.endswith(f"\n  {NUMBER}\n  {OTHER_NUMBER}\n")
        for number in (NUMBER, "+1 555-0101"):
            code, output = await place.told("twilio", "point", number, "--url", url)
            assert code == 0, output
        assert place.webhook(OTHER_NUMBER) == url + WEBHOOK
        code, output = await place.told("twilio", "restore")
        assert code == 1
        assert "2 numbers are to be put back: say which, or --all" in output
        place.twilio.number(NUMBER)["voice_url"] = "https://elsewhere.example/"
        code, output = await place.told("twilio", "restore", "--all")
        assert code == 1, "one that can't be put back doesn't keep the other"
        assert "somebody has changed the number" in output
        assert place.webhook(OTHER_NUMBER) == BEFORE
        code, output = await place.told("twilio", "restore", NUMBER, "--force")
        assert code == 0, output
        assert place.webhook() == BEFORE


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "message"),
    [
        (["numbers"], {"TWILIO_ACCOUNT_SID": ""}, 2, "TWILIO_ACCOUNT_SID='' is not allowed"),
        (["numbers"], {"TWILIO_AUTH_TOKEN": "wrong"}, 1, "docs/errors/20003"),
        (["numbers"], {"TWILIO_API_URL": "http://127.0.0.1:9"}, 1, "no answer from 127.0.0.1:9"),
        (["numbers"], {"TWILIO_API_URL": "ftp://x"}, 2, "TWILIO_API_URL='ftp://x' is not allowed"),
        (["point"], {}, 2, "PUBLIC_URL='' is not allowed"),
        (["point", "--url", "http://x.example"], {}, 2, "'http://x.example' is not https://host"),
        (["point", "12"], {}, 2, "is no number with + and its country's code"),
        (["point", "+15559999999", "--url", "https://x.example"], {}, 1, "no such number"),
        (["restore", NUMBER, "--all"], {}, 2, "not allowed with argument"),
        ([], {}, 2, "required"),
    ],
)
async def test_mistakes_are_told(
    arguments: list[str], environ: dict[str, str], code: int, message: str, tmp_path: Path
) -> None:
    async with town(tmp_path) as place:
        found = await place.told("twilio", *arguments, **environ)
    assert found[0] == code
    assert message in found[1]
    assert "Traceback" not in found[1]


@pytest.mark.parametrize(
    "command",
    [["dev"], ["standin-twilio"], *(["twilio", each] for each in ("point", "restore", "status"))],
)
async def test_help_teaches(command: list[str], tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        code, output = await place.told(*command, "--help")
    assert code == 0
    assert output.startswith("usage: personaplex-bridge")
    assert len(output.splitlines()) >= 8


async def test_the_standins_as_a_process(tmp_path: Path) -> None:
    """What `standin-twilio` prints is all that `doctor` and `twilio` need."""
    from tests.dev.scene import line_of

    async with town(tmp_path) as place:
        arguments = ("--port", "0", "--ngrok-port", "0", "--trial", "--number", OTHER_NUMBER)
        async with place.command("standin-twilio", *arguments) as process:
            lines = [await line_of(process, name) for name in ("TWILIO_API", "TWILIO_ACC")]
            lines += [await line_of(process, name) for name in ("TWILIO_AUTH", "NGROK_API")]
            environ = dict(line.split("=", 1) for line in lines)
            code, output = await place.told("twilio", "numbers", **environ)
            assert (code, output) == (0, f"{OTHER_NUMBER}  {BEFORE}\n")
            code, output = await place.told("doctor", **environ)
            assert code == 0, output
            assert "Twilio account: trial, active; a trial account" in output
            assert "an ngrok agent is running, with 0 tunnels" in output
