"""`personaplex-bridge runpod`, as a process of its own: exit codes, what is printed and written."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from personaplex_bridge.simulator.runpod import KEY, Holdings, Pace, Trouble
from tests.runpod.harness import RTX_4090, FakeGate, Scene, account, body, until

LIMIT_S = 60.0

POD_TOML = f"""
name = "mine"
image = "ghcr.io/you/personaplex:1"
[gpu]
types = ["{RTX_4090}"]
[storage.persistent]
size_gb = 40
path = "/workspace"
"""

IDLE = {"status": "idle", "sessions_served": 3, "keeps_up": True}
IDLE |= {"step_ms": {"median": 41.0, "p95": 52.0, "steps": 200}}


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody in a folder, with a description and a .env."""

    scene: Scene
    folder: Path

    async def start(self, *arguments: str, terminal: int | None = None, **environ: str) -> Process:
        names = ("RUNPOD_", "PERSONAPLEX_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        settings = self.scene.settings
        ours = {
            "RUNPOD_API_KEY": KEY,
            "RUNPOD_API_URL": settings.runpod_api_url,
            "RUNPOD_PROXY_URL": settings.runpod_proxy_url,
            "PERSONAPLEX_TOKEN": settings.personaplex_token,
        }
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "personaplex_bridge", "runpod", *arguments),
            stdin=DEVNULL if terminal is None else terminal,
            stdout=PIPE if terminal is None else terminal,
            stderr=PIPE if terminal is None else terminal,
            cwd=self.folder,
            env={**kept, **ours, **environ},
        )

    async def run(self, *arguments: str, **environ: str) -> tuple[int | None, str, str]:
        """Exit code, standard output, standard error."""
        process = await self.start(*arguments, terminal=None, **environ)
        out, error = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert KEY not in (out + error).decode()
        return process.returncode, out.decode(), error.decode()

    async def at_a_terminal(self, typed: bytes, *arguments: str) -> tuple[int, str]:
        """Exit code, and what the terminal shows."""
        ours, theirs = pty.openpty()
        try:
            process = await self.start(*arguments, terminal=theirs)
            os.write(ours, typed)
            code = await asyncio.wait_for(process.wait(), LIMIT_S)
            return code, os.read(ours, 1 << 16).decode()
        finally:
            os.close(theirs)
            os.close(ours)

    @property
    def pod_id(self) -> str:
        (pod_id,) = self.scene.server.account.pods
        return pod_id


@asynccontextmanager
async def operator(
    folder: Path, gate: FakeGate | None = None, pace: Pace | None = None
) -> AsyncIterator[Operator]:
    (folder / "pod.toml").write_text(POD_TOML, "utf-8")
    chosen = pace or Pace(scale=1000)
    async with account(gate or FakeGate(IDLE), Holdings(), pace=chosen) as scene:
        yield Operator(scene, folder)


POD = ("--pod", "pod.toml")


async def test_a_life(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# mine\nHOST=127.0.0.1\n\nPERSONAPLEX_URL=ws://old\n", "utf-8")
    async with operator(tmp_path) as me:
        code, out, error = await me.run("up", "--write-env", *POD)
        assert code == 0, error
        url = me.scene.settings.url(me.pod_id, 8998)
        assert f"PERSONAPLEX_URL={url}\n" in out
        assert "$0.44 an hour, $0.0073 a call-minute" in out
        assert "Before, it was ws://old" in out
        assert "asking for NVIDIA GeForce RTX 4090" in error
        written = (tmp_path / ".env").read_text("utf-8")
        assert written == f"# mine\nHOST=127.0.0.1\n\nPERSONAPLEX_URL={url}\n"

        code, out, _ = await me.run("status", *POD)
        assert code == 0
        assert "model      idle; a step takes 41 ms of 80, p95 52 ms: it keeps up" in out

        code, out, _ = await me.run("logs", "--tail", "1", "--source", "container", *POD)
        assert code == 0
        assert out.endswith("container started\n")

        code, out, _ = await me.run("stop", *POD)
        assert (code, me.scene.server.account.pods[me.pod_id].status) == (0, "EXITED")
        assert (await me.run("stop", *POD))[1] == f"Pod {me.pod_id} is stopped already.\n"
        # It doesn't matter how it would be made today.
        (tmp_path / "pod.toml").write_text(POD_TOML.replace("you/", "YOU/"), "utf-8")
        assert (await me.run("start", "--no-env", *POD))[0] == 0

        code, out, _ = await me.run("cost", *POD)
        assert code == 0
        assert f"Pod {me.pod_id}, the last 30 days" in out
        assert "Now: $0.44 an hour" in out

        code, out, error = await me.run("down", *POD)
        assert code == 2
        assert "say --yes" in error
        assert me.pod_id
        code, out, _ = await me.run("down", "--yes", *POD)
        assert code == 0
        assert "persistent volume of 40 GB goes too" in out
        assert ".env still has its PERSONAPLEX_URL, where nobody answers any more" in out
        assert not me.scene.server.account.pods

        code, out, _ = await me.run("cost", "--days", "2", *POD)
        assert code == 0
        assert "All pods of the account, the last 2 days" in out
        assert (await me.run("status", *POD))[0] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_stops_what_was_rented(number: signal.Signals, tmp_path: Path) -> None:
    gate = FakeGate({"status": "loading", "detail": "not yet"})
    async with operator(tmp_path, gate) as me:
        process = await me.start("up", *POD)
        async with asyncio.timeout(LIMIT_S):
            await gate.asked.wait()
        process.send_signal(number)
        _, error = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 130, error.decode()
        assert me.scene.server.account.pods[me.pod_id].status == "EXITED"
        assert f"pod {me.pod_id} is stopped: its GPU costs nothing any more" in error.decode()
        assert "Traceback" not in error.decode()


async def test_a_second_ctrl_c_leaves_it_running_and_says_so(tmp_path: Path) -> None:
    gate = FakeGate({"status": "loading", "detail": "not yet"})
    async with operator(tmp_path, gate) as me:
        process = await me.start("up", *POD)
        async with asyncio.timeout(LIMIT_S):
            await gate.asked.wait()
        action = f"/v2/pods/{me.pod_id}/action"
        me.scene.server.troubles.append(Trouble("POST", action, done=True, late_s=3600))
        process.send_signal(signal.SIGINT)
        await until(lambda: me.scene.asked("POST", action) > 0)
        process.send_signal(signal.SIGINT)
        _, error = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert process.returncode == 130, error.decode()
        assert f"POD {me.pod_id} MAY STILL RUN" in error.decode()
        assert "Traceback" not in error.decode()


async def test_a_dry_run_asks_for_nothing(tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        code, out, _ = await me.run("up", "--dry-run", "--image", "ghcr.io/you/other:2", *POD)
        assert code == 0
        assert '"image": "ghcr.io/you/other:2"' in out
        assert f"{RTX_4090} (SECURE, $0.44 an hour, stock MEDIUM)" in out
        assert me.scene.asked("POST", "/v2/pods") == 0


async def test_questions_at_a_terminal(tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        code, shown = await me.at_a_terminal(b"\n", "up", *POD)
        assert code == 0, shown
        assert "Write PERSONAPLEX_URL into .env? [Y/n]" in shown
        url = me.scene.settings.url(me.pod_id, 8998)
        assert (tmp_path / ".env").read_text("utf-8") == f"PERSONAPLEX_URL={url}\n"
        code, shown = await me.at_a_terminal(b"yes\n", "down", *POD)
        assert code == 1
        assert "Type mine to delete it:" in shown
        assert "Nothing was deleted." in shown
        assert me.pod_id
        code, shown = await me.at_a_terminal(b"mine\n", "down", *POD)
        assert code == 0, shown
        assert not me.scene.server.account.pods


async def test_without_a_key(tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        for command in ("up", "status", "cost"):
            code, _, error = await me.run(command, *POD, RUNPOD_API_KEY="")
            assert code == 2
            assert "RUNPOD_API_KEY" in error
            assert "https://console.runpod.io/user/settings" in error
        assert not me.scene.server.requests


async def test_a_wrong_key(tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        code, _, error = await me.run("status", *POD, RUNPOD_API_KEY="rpa_other")
        assert code == 1
        assert "RUNPOD_API_KEY is not a valid key" in error
        assert "rpa_other" not in error


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RUNPOD_API_URL", "http://api.runpod.io"),
        ("RUNPOD_API_URL", "ftp://x"),
        ("RUNPOD_PROXY_URL", "https://proxy.example"),
        ("RUNPOD_PROXY_URL", "https://{pod_id}-{port}.{zone}.example"),
        ("RUNPOD_API_KEY", "with space"),
    ],
)
async def test_wrong_settings(variable: str, value: str, tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        code, _, error = await me.run("status", *POD, **{variable: value})
        assert code == 2
        assert variable in error
        assert (value in error) is (variable != "RUNPOD_API_KEY")


async def test_a_wrong_description(tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        (tmp_path / "pod.toml").write_text('name = "mine"\nimage = "X"\ngpus = 1\n', "utf-8")
        code, _, error = await me.run("up", *POD)
        assert code == 2
        assert len(error.splitlines()) == 3, "all at once"
        code, _, error = await me.run("up", "--pod", "none.toml")
        assert code == 2
        assert "No such file" in error


async def test_pods_can_be_named_by_their_ids(tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        ids = [(await me.scene.runpod.create(body())).id for _ in range(2)]
        code, _, error = await me.run("stop", *POD)
        assert code == 1
        assert all(pod_id in error for pod_id in ids)
        assert (await me.run("down", "--yes", "--id", ids[0]))[0] == 0
        assert list(me.scene.server.account.pods) == ids[1:]


async def test_following_a_log_ends_with_ctrl_c(tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        pod = await me.scene.runpod.create(body())
        state = me.scene.server.account.pods[pod.id]
        await until(lambda: state.status == "RUNNING")
        process = await me.start("logs", "--follow", *POD)
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while b"container started" not in await process.stdout.readline():
                pass
            state.log.add(me.scene.server.account.now(), "container", "tick\x1b[31m")
            assert (await process.stdout.readline()).endswith(b"container tick [31m\n")
        process.send_signal(signal.SIGINT)
        _, error = await asyncio.wait_for(process.communicate(), LIMIT_S)
        assert (process.returncode, error) == (130, b"")


COMMANDS = ["up", "status", "logs", "stop", "start", "down", "cost"]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
async def test_help_teaches(command: list[str], tmp_path: Path) -> None:
    async with operator(tmp_path) as me:
        code, out, _ = await me.run(*command, "--help")
        assert code == 0
        assert out.startswith("usage: personaplex-bridge runpod")
        assert len(out.splitlines()) >= 8
