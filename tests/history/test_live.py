"""Calls between the stand-ins, with a history: in virtual time, and in a process that is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession

from personaplex_bridge.callers import Callers
from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.config import Settings
from personaplex_bridge.history.calls import Call, EventKind, Outcome, WholeCall
from personaplex_bridge.history.keeping import Keeper, keep_history
from personaplex_bridge.history.queries import Search
from personaplex_bridge.history.store import Deletion, open_history
from personaplex_bridge.observing import Observer
from personaplex_bridge.serve import running
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.values import database_url
from personaplex_bridge.web.paths import WEBHOOK_PATH
from tests.faults.process import ServedBridge
from tests.history.makers import CALLER
from tests.history.postgres import PostgresServer
from tests.live.harness import COLD, Line, bridge_to, speech, standin
from tests.logged import logged
from tests.processes import free_ports, start_bridge
from tests.virtual import run_cleanly

LIMIT_S = 60.0
CALLED = "+15551230100"
KEYS = "7391542"
THREE_AT_A_TIME = replace(COLD, personaplex_capacity=3)


def plan(number: int) -> CallPlan:
    return CallPlan(
        "",
        speech()[: 8000 * 5],
        caller=CALLER,
        called=CALLED,
        keys=tuple((1.0 + at / 10, key) for at, key in enumerate(KEYS)),
        hang_up_after_s=14.0 + number,
    )


async def three_calls(
    callers: Callers | None, observers: list[Observer], during: Callable[[], None]
) -> tuple[list[PhoneReport], Line]:
    """Calls of about 15 s, half a second apart, in virtual time."""
    async with (
        standin(ModelOptions("repeat", prompt_ms=300, sessions=3)) as (url, _),
        bridge_to(url, THREE_AT_A_TIME, callers=callers, observers=observers) as line,
    ):
        during()

        async def call(number: int) -> PhoneReport:
            await asyncio.sleep(number / 2)
            return await line.call(plan(number))

        reports = await asyncio.gather(*(call(number) for number in range(3)))
        for _ in reports:
            await line.record()
        return reports, line


async def _without_history() -> list[PhoneReport]:
    reports, _ = await three_calls(None, [], lambda: None)
    return reports


@asynccontextmanager
async def _kept(settings: Settings, callers: Callers) -> AsyncIterator[Keeper]:
    """As a bridge does; but leave the database real time to answer, at the end."""
    async with keep_history(settings, callers, update_every_s=1.0) as keeper:
        yield keeper
        give_up_s = time.monotonic() + LIMIT_S
        while not keeper.is_settled:
            assert time.monotonic() < give_up_s
            await asyncio.to_thread(time.sleep, 0.05)


@pytest.mark.xdist_group("postgresql")
def test_the_database_is_stopped_in_the_middle_of_calls(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """The callers hear the same, to the last byte; and once it is back, it has everything."""
    settings = Settings(
        database_url=database_url(postgres.new_database("calls")), state_dir=tmp_path
    )
    happened = list[str]()

    def stop() -> None:
        happened.append("stopped")
        postgres.stop()

    def start() -> None:
        happened.append("started")
        postgres.start()

    async def disturbed() -> list[PhoneReport]:
        callers = Callers()

        def during() -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(6.0, stop)
            loop.call_later(12.0, start)

        async with _kept(settings, callers) as keeper:
            reports, _ = await three_calls(callers, [keeper.recorder], during)
            return reports

    with logged() as log:
        reports = run_cleanly(disturbed())
    expected = run_cleanly(_without_history())
    assert happened == ["stopped", "started"]
    assert "calls wait in memory" in log.getvalue()
    for report, other in zip(reports, expected, strict=True):
        assert report.heard == other.heard
        assert len(set(report.heard)) > 20, "there is something to hear"
        assert report.problems == []
    for whole in asyncio.run(_all_calls(settings)):
        assert whole.call.outcome is Outcome.HUNG_UP
        assert whole.call.caller == "+155***11"
        assert whole.call.keys == len(KEYS)
        assert whole.details.figures["caller_frames"] > 600


async def _all_calls(settings: Settings) -> list[WholeCall]:
    async with open_history(settings) as history:
        calls = [whole async for whole in history.whole_calls(Search(number=CALLER))]
    assert len(calls) == 3
    return calls


def test_what_is_kept_is_what_was_and_nothing_private_is_logged(tmp_path: Path, url: str) -> None:
    password = "pass-word-of-mine"
    shown = database_url(url).replace("bridge@", f"bridge:{password}@")
    settings = Settings(database_url=shown, state_dir=tmp_path)

    async def kept() -> Line:
        callers = Callers()
        async with _kept(settings, callers) as keeper:
            _, line = await three_calls(callers, [keeper.recorder], lambda: None)
            return line

    with logged() as log:
        run_cleanly(kept())
    assert "kept in a file" not in log.getvalue()
    wholes = asyncio.run(_all_calls(settings))
    for whole in wholes:
        call, details = whole.call, whole.details
        assert (call.called, call.model_server, call.persona) == ("+155***00", 1, "assistant")
        assert call.close_code == 1000
        assert call.turns > 0
        kinds = [event.kind for event in details.events]
        assert kinds[0] is EventKind.START
        assert kinds[-1] is EventKind.END
        assert kinds.count(EventKind.TURN) == call.turns
        assert {EventKind.MODEL_READY, EventKind.FIRST_AUDIO} <= set(kinds)
        delays = [e.detail["delay_s"] for e in details.events if e.kind is EventKind.TURN]
        assert delays == details.figures["turn_delays_s"]
        assert details.phrases
        assert KEYS not in str(whole.as_dict())
    said = {word for whole in wholes for phrase in whole.details.phrases
            for word in phrase.text.split() if len(word) > 5}  # fmt: skip
    private = [CALLER, CALLED, "0111", "0100", KEYS, password, *said]
    assert said
    assert [text for text in private if text in log.getvalue()] == []
    assert "call begins" in log.getvalue()


async def test_a_bridge_that_is_killed_leaves_a_trace(url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url(url), state_dir=tmp_path)
    (port,), log = free_ports(1), tmp_path / "log"
    async with standin(ModelOptions("talk", prompt_ms=0), SYSTEM_CLOCK) as (model, _):
        environ = {"DATABASE_URL": url, "STATE_DIR": str(tmp_path), "PERSONAPLEX_URL": model}
        bridge = await start_bridge(port, None, **environ)
        calling = asyncio.create_task(ServedBridge(bridge, port).call(LIMIT_S))
        try:
            lost = await _first(settings, lambda call: call.first_audio_s is not None)
        finally:
            bridge.kill()
            await bridge.wait()
            await calling
        assert lost.outcome is Outcome.IN_PROGRESS
        bridge = await start_bridge(port, log, **environ)
        try:
            found = await _first(settings, lambda call: call.outcome is Outcome.LOST)
        finally:
            bridge.terminate()
            assert await asyncio.wait_for(bridge.wait(), LIMIT_S) == 0
    assert found.id == lost.id
    assert found.caller == "+155***11"
    assert (found.ended_reason, found.ended_at) == ("lost with its bridge", lost.updated_at)
    assert "1 calls were lost with the last run" in log.read_text()


async def test_metrics_and_a_recording_tell_of_the_same_call(tmp_path: Path) -> None:
    settings = Settings(
        history=True,
        state_dir=tmp_path,
        recording=True,
        recording_words=None,
        recordings_folder=tmp_path / "recordings",
        port=free_ports(1)[0],
    )
    call = CallPlan("", speech()[:8000], caller=CALLER, called=CALLED, hang_up_after_s=1.5)
    async with running(settings) as site:
        report = await PhoneCall(replace(call, webhook_url=site.address + WEBHOOK_PATH)).run()
        assert report.problems == []
        async with ClientSession() as http, http.get(f"{site.address}/metrics") as answer:
            assert "personaplex_bridge_calls_total" in await answer.text()
    async with open_history(settings) as history:
        (whole,) = [whole async for whole in history.whole_calls(Search(number=CALLER))]
        recording = Path(whole.details.figures["recording"])
        assert (whole.call.outcome, whole.call.model_server) == (Outcome.HUNG_UP, 1)
        assert await asyncio.to_thread(recording.is_file)
        assert await history.recording(whole) == recording
        assert await history.delete_caller(CALLER) == Deletion(1, 1)
    assert not await asyncio.to_thread(recording.exists)


async def _first(settings: Settings, is_it: Callable[[Call], bool]) -> Call:
    """The first call that is as a test wants it, once there is one."""
    async with open_history(settings) as history, asyncio.timeout(LIMIT_S):
        while True:
            for call in (await history.search(Search())).calls:
                if is_it(call):
                    return call
            await asyncio.sleep(0.1)
