"""Tunnels: the ngrok agent asked through its API, and the ngrok package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from personaplex_bridge.dev.agent import NgrokAgent
from personaplex_bridge.dev.settings import TunnelSettings, read_tunnel_settings
from personaplex_bridge.dev.tunnels import open_tunnel
from personaplex_bridge.errors import ConfigError, TunnelError
from personaplex_bridge.simulator.ngrok_agent import NgrokAgentStandin
from personaplex_bridge.web.hosting import hosted
from tests.dev.scene import HOST, town

NOBODY = f"http://{HOST}:9"


async def test_a_tunnel_is_made_for_a_port_and_closed(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        settings = TunnelSettings(place.ngrok_url)
        async with open_tunnel(settings, 18_080) as tunnel:
            [made] = place.agent.tunnels
            assert made["public_url"] == tunnel.public_url
            assert made["config"] == {"addr": "http://localhost:18080", "inspect": False}
            assert "made for this" in tunnel.told
        assert place.agent.tunnels == []


async def test_a_tunnel_to_another_port_is_not_used(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        await place.agent.open("8080", "other")
        async with open_tunnel(TunnelSettings(place.ngrok_url), 18_080):
            assert len(place.agent.tunnels) == 2
        assert [tunnel["name"] for tunnel in place.agent.tunnels] == ["other"]


async def test_a_tunnel_of_ours_whose_maker_was_killed_is_used_and_closed(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        settings = TunnelSettings(place.ngrok_url)
        left = await NgrokAgent(place.ngrok_url).tunnel_to(18_080)
        async with open_tunnel(settings, 18_080) as tunnel:
            assert tunnel.public_url == left.public_url
        assert place.agent.tunnels == []


async def test_an_agent_that_refuses_says_why() -> None:
    agent = NgrokAgentStandin(most=0)
    async with hosted(agent.application(), HOST, 0) as port:
        settings = TunnelSettings(f"http://{HOST}:{port}")
        with pytest.raises(TunnelError, match=r"may not run more tunnels .* ERR_NGROK_324"):
            async with open_tunnel(settings, 18_080):
                pass


async def test_an_agent_that_is_gone_has_no_tunnels() -> None:
    agent = NgrokAgentStandin()
    async with hosted(agent.application(), HOST, 0) as port:
        tunnel = await NgrokAgent(f"http://{HOST}:{port}").tunnel_to(18_080)
    await tunnel.close()


async def test_something_that_is_no_agent() -> None:
    async with hosted(web.Application(), HOST, 0) as port:
        assert not await NgrokAgent(f"http://{HOST}:{port}").is_running()
    assert not await NgrokAgent(NOBODY).is_running()


@pytest.mark.parametrize(
    ("addr", "leads"),
    [
        ("8080", True),
        ("localhost:8080", True),
        ("http://localhost:8080", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("https://localhost:8080", False),
        ("http://localhost:80800", False),
        ("http://192.168.1.5:8080", False),
        ("http://localhost:18080", False),
        ("file:///srv", False),
    ],
)
def test_what_leads_to_a_port(addr: str, leads: bool) -> None:
    from personaplex_bridge.dev.agent import _leads_to

    assert _leads_to({"config": {"addr": addr}}, 8080) is leads
    assert not _leads_to({"config": None}, 8080)


PACKAGE = '''
"""As much of the ngrok package as is used: the session's builder and its listener."""

made = []


class SessionBuilder:
    def authtoken(self, token):
        self.token = token
        return self

    async def connect(self):
        if self.token != "good":
            raise ValueError("failed to connect session", f"bad token {self.token}")
        return Session()


class Session:
    def __init__(self):
        self.open = True
        made.append(self)

    def http_endpoint(self):
        return self

    async def listen_and_forward(self, url):
        self.leads_to = url
        return self

    def url(self):
        return "https://made-up.ngrok-free.app"

    async def close(self):
        self.open = False
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "ngrok.py").write_text(PACKAGE, "utf-8")
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("ngrok", None)
    yield
    sys.modules.pop("ngrok", None)


@pytest.mark.usefixtures("package")
async def test_the_package_is_used_if_no_agent_runs() -> None:
    async with open_tunnel(TunnelSettings(NOBODY, "good"), 18_080) as tunnel:
        assert tunnel.public_url == "https://made-up.ngrok-free.app"
        [session] = importlib.import_module("ngrok").made
        assert (session.open, session.leads_to) == (True, "http://127.0.0.1:18080")
    assert not session.open


@pytest.mark.usefixtures("package")
async def test_what_the_package_refuses_is_told_without_the_token() -> None:
    with pytest.raises(TunnelError, match=r"ngrok refuses: .*bad token") as told:
        async with open_tunnel(TunnelSettings(NOBODY, "a-bad-one"), 18_080):
            pass
    assert "a-bad-one" not in str(told.value)


@pytest.mark.usefixtures("package")
async def test_the_package_needs_a_token() -> None:
    with pytest.raises(TunnelError, match="NGROK_AUTHTOKEN is not set"):
        async with open_tunnel(TunnelSettings(NOBODY), 18_080):
            pass


def test_settings() -> None:
    settings = read_tunnel_settings(
        {"NGROK_API_URL": "http://host.example:4040/", "NGROK_AUTHTOKEN": "secret"}
    )
    assert settings.ngrok_api_url == "http://host.example:4040"
    assert settings.secrets == ("secret",)
    assert "secret" not in repr(settings)
    with pytest.raises(ConfigError, match="NGROK_API_URL='localhost:4040' is not allowed"):
        read_tunnel_settings({"NGROK_API_URL": "localhost:4040"})
