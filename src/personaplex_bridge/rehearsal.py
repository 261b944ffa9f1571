"""`personaplex-bridge rehearse`: RunPod, Twilio, ngrok and the Hugging Face hub on this machine.

The stand-ins check requests as strictly as the services do. A pod that is rented here runs our
gate, as the image does, with the model's stand-in behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from personaplex_bridge.errors import BridgeError
from personaplex_bridge.signals import until_signal
from personaplex_bridge.simulator import runpod
from personaplex_bridge.simulator.hub import hub
from personaplex_bridge.simulator.ngrok_agent import NgrokAgentStandin
from personaplex_bridge.simulator.runpod.pods import Pace
from personaplex_bridge.simulator.twilio_rest import TwilioStandin
from personaplex_bridge.web.hosting import hosted

HOST = "127.0.0.1"
FILE = Path("rehearsal.env")
IMAGE = "ghcr.io/you/personaplex:0.1.0"
"""Pulled by nobody: any name will do."""
CALLER = Path(__file__).parent / "data" / "caller.flac"
DOWNLOAD_S = 300.0
"""Of the pod's own time: 16.7 GB on a good line."""
STARTS_WITHIN_S = 30.0
ENDS_WITHIN_S = 15.0
OWN = ("PATH", "PYTHONPATH", "HOME", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
"""What our own programs need to run in a pod; on macOS the last one, to find libopus."""
COMMAND = (sys.executable, "-m", "personaplex_bridge")


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be rehearsed."""

    port: int = 9700
    """RunPod's; the others follow."""
    numbers: tuple[str, ...] = ("+15550100",)
    is_trial: bool = False
    speed: float = 20.0
    """How much faster than in life pods come up."""
    licence_accepted: bool = True
    openapi: Path | None = None


async def rehearse(options: Options) -> None:
    """Run all of them until a signal; writes `rehearsal.env` meanwhile.

    Raises:
        ConfigError: a port is taken.
    """
    async with AsyncExitStack() as stack:
        env = await stack.enter_async_context(_services(options))
        stack.enter_context(_written(env))
        print(_what_to_do(options), flush=True)
        await until_signal()


@asynccontextmanager
async def _services(options: Options) -> AsyncIterator[dict[str, str]]:
    """Everything; gives the environment that leads there."""
    twilio = TwilioStandin(kind="Trial" if options.is_trial else "Full")
    for number in options.numbers:
        twilio.add_number(number)
    hf_token, token = "hf_" + secrets.token_hex(16), secrets.token_hex(32)
    async with AsyncExitStack() as stack:

        async def host(app: web.Application, offset: int) -> str:
            port = options.port + offset if options.port else 0
            return f"http://{HOST}:{await stack.enter_async_context(hosted(app, HOST, port))}"

        pods = _Pods(Path(stack.enter_context(tempfile.TemporaryDirectory())), options.speed)
        key = "rpa_" + secrets.token_hex(16)
        held = runpod.Holdings(
            secrets={"HF_TOKEN": hf_token, "PERSONAPLEX_TOKEN": token, "RUNPOD_API_KEY": key}
        )
        wanted = runpod.Options(
            key=key, pace=Pace(options.speed), container=pods.run, openapi=options.openapi
        )
        api = await host(runpod.RunPodServer(wanted, held).application(), 0)
        pods.environ = {
            "HF_ENDPOINT": await host(hub(hf_token, licence_accepted=options.licence_accepted), 1),
            "RUNPOD_API_URL": api,
        }
        yield {
            "RUNPOD_API_KEY": key,
            "RUNPOD_API_URL": api,
            "RUNPOD_PROXY_URL": api + "/proxy/{pod_id}-{port}",
            "PERSONAPLEX_TOKEN": token,
            "TWILIO_API_URL": await host(twilio.application(), 2),
            "TWILIO_ACCOUNT_SID": twilio.account_sid,
            "TWILIO_AUTH_TOKEN": twilio.auth_token,
            "NGROK_API_URL": await host(NgrokAgentStandin().application(), 3),
        }


class _Pods:
    """Runs what the image would: the gate, and behind it the model's stand-in."""

    def __init__(self, volumes: Path, speed: float) -> None:
        self.environ: Mapping[str, str] = {}
        self._volumes = volumes
        self._speed = speed

    @asynccontextmanager
    async def run(self, env: Mapping[str, str]) -> AsyncIterator[str]:
        """A pod's container; gives its address. A pod that is started again finds its volume."""
        volume = self._volumes / env["RUNPOD_POD_ID"]
        volume.mkdir(exist_ok=True)
        port, model_port = _free_ports()
        model = (*COMMAND, "standin", "--port", str(model_port), "--prompt-ms", "4000")
        weights = (sys.executable, "-m", "personaplex_bridge.simulator.weights")
        seconds = str(DOWNLOAD_S / self._speed)
        own = {name: os.environ[name] for name in OWN if name in os.environ}
        with (volume / "log").open("ab") as log:
            gate = await asyncio.create_subprocess_exec(
                *(*COMMAND, "gate", "--host", HOST, "--port", str(port), "--"),
                *(*weights, seconds, *model),
                cwd=volume,
                stdout=DEVNULL,
                stderr=log,
                env={
                    **own,
                    **env,
                    **self.environ,
                    "HF_HOME": str(volume),
                    "GATE_MODEL_URL": f"http://{HOST}:{model_port}",
                },
            )
        try:
            base_url = f"http://{HOST}:{port}"
            await _until_it_answers(base_url, gate, volume / "log")
            yield base_url
        finally:
            await _end(gate)


async def _until_it_answers(base_url: str, gate: Process, log: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STARTS_WITHIN_S), aiohttp.ClientSession() as http:
            while gate.returncode is None:
                try:
                    async with http.get(f"{base_url}/healthz"):
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
    last = (await asyncio.to_thread(log.read_text, "utf-8")).strip().rpartition("\n")[2]
    raise BridgeError(f"the gate didn't start: {last}")


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind((HOST, 0))
        return one.getsockname()[1], two.getsockname()[1]


@contextlib.contextmanager
def _written(env: Mapping[str, str]) -> Iterator[None]:
    """The environment as a file for shells, while it lasts."""
    FILE.touch(mode=0o600)
    FILE.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items()))
    try:
        yield
    finally:
        FILE.unlink(missing_ok=True)


def _what_to_do(options: Options) -> str:
    number = options.numbers[0]
    return f"""\
RunPod, Twilio, ngrok and the Hugging Face hub are played here until Ctrl-C. In another terminal, in
this folder (after `source .venv/bin/activate`, if that is how you have installed it):

  set -a; . ./{FILE}; set +a      # where they are, with keys that they take
  personaplex-bridge runpod up --image {IMAGE} --write-env
                                        # rent a GPU: a gate, with a stand-in for the model
  personaplex-bridge dev                # a bridge, a tunnel, and your number points at it

and in a third one, with the same first line:

  personaplex-bridge call {shlex.quote(str(CALLER))} --number {number} --out heard.wav
  personaplex-bridge runpod down"""
