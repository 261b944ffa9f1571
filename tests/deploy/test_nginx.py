"""A call through nginx, with the configuration that we give out."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.processes import HOST, free_ports, start_bridge

SITE = Path(__file__).parents[2] / "deploy/proxy/nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
TOKEN = "a-token-of-twilios"

pytestmark = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None, reason="nginx or openssl isn't installed"
)


def certificate(folder: Path) -> Path:
    """For localhost, signed by itself; its key stands in key.pem."""
    made = folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", folder / "key.pem", "-out", made),
        ],
        check=True,
        capture_output=True,
    )
    return made


@asynccontextmanager
async def nginx(folder: Path, port: int, bridge_port: int) -> AsyncIterator[None]:
    site = SITE.read_text("utf-8")
    for ours, theirs in {
        "listen 443 ssl;": f"listen {HOST}:{port} ssl;",
        "    listen [::]:443 ssl;\n": "",
        "server_name calls.example.com;": "server_name localhost;",
        "/etc/letsencrypt/live/calls.example.com/fullchain.pem": f"{folder}/cert.pem",
        "/etc/letsencrypt/live/calls.example.com/privkey.pem": f"{folder}/key.pem",
        "http://127.0.0.1:8080": f"http://{HOST}:{bridge_port}",
    }.items():
        assert ours in site, ours
        site = site.replace(ours, theirs)
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; include {folder}/site.conf; }}\n"
    )
    assert NGINX is not None
    process = await asyncio.create_subprocess_exec(
        *(NGINX, "-p", folder, "-c", folder / "nginx.conf"), stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def until_it_answers(url: str, tls: ssl.SSLContext) -> int:
    """The status, once there is one."""
    async with asyncio.timeout(20), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(url, ssl=tls) as answer:
                    return answer.status
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)


async def test_a_signed_call_through_it(tmp_path: Path) -> None:
    certified = certificate(tmp_path)
    tls = ssl.create_default_context(cafile=str(certified))
    port, bridge_port = free_ports(2)
    public = f"https://localhost:{port}"
    bridge = await start_bridge(
        bridge_port, tmp_path / "log", PUBLIC_URL=public, TWILIO_AUTH_TOKEN=TOKEN
    )
    try:
        async with nginx(tmp_path, port, bridge_port):
            assert await until_it_answers(f"{public}/voice/inbound", tls) == 403  # unsigned
            assert await until_it_answers(f"{public}/healthz", tls) == 404
            sound = Path(__file__).parents[2] / "src/personaplex_bridge/data/caller.flac"
            call = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "personaplex_bridge", "call", str(sound)),
                *("--url", f"{public}/voice/inbound", "--auth-token", TOKEN),
                *("--hang-up-after", "8"),
                stdout=PIPE,
                stderr=STDOUT,
                cwd=tmp_path,
                env={**os.environ, "SSL_CERT_FILE": str(certified)},
            )
            output, _ = await asyncio.wait_for(call.communicate(), 60)
            assert call.returncode == 0, output.decode()
    finally:
        bridge.terminate()
        await bridge.wait()
