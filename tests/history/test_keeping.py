"""A bridge's history when its database comes and goes. Real time, real databases; no calls."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from personaplex_bridge.callers import Callers
from personaplex_bridge.config import Settings
from personaplex_bridge.errors import ConfigError, HistoryUnavailable
from personaplex_bridge.history.backlog import Backlog
from personaplex_bridge.history.calls import Outcome
from personaplex_bridge.history.database import Database
from personaplex_bridge.history.keeping import Keeper, keep_history, spool_path
from personaplex_bridge.history.queries import Search
from personaplex_bridge.history.store import Deletion, History, RecordingsStay, open_history
from personaplex_bridge.record import CallRecord, EndedBy, Ending, Word
from personaplex_bridge.values import database_url
from tests.history.makers import CALLER, KEY, OTHER, entry, write, writer_for
from tests.history.postgres import PostgresServer
from tests.leaks import nothing_left_behind
from tests.logged import logged

LIMIT_S = 60.0


def settings_for(url: str, folder: Path, key: str | None = KEY) -> Settings:
    return Settings(database_url=database_url(url), state_dir=folder / "state", history_key=key)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.02)


def make_call(keeper: Keeper, callers: Callers, number: int, caller: str = CALLER) -> CallRecord:
    """A call begins."""
    sid = f"CA{number}"
    callers.note({"CallSid": sid, "From": caller, "To": "+15550100"})
    record = CallRecord(call_sid=sid, persona="assistant")
    keeper.recorder.call_begins(record)
    return record


def recorded(folder: Path, number: int) -> Path:
    """A recording that is being written."""
    path = folder / "2026-03-01" / f"120000.000000-CA{number}.opus"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.part").write_text("sound")
    return path


def end_call(keeper: Keeper, record: CallRecord) -> None:
    record.words.append(Word(1.0, "Goodbye"))
    record.ending = Ending(EndedBy.CALLER, "the caller hung up", 1000)
    keeper.recorder.call_over(record)


async def test_calls_are_written_while_they_go_on(url: str, tmp_path: Path) -> None:
    callers = Callers()
    async with nothing_left_behind():
        kept = keep_history(settings_for(url, tmp_path), callers, update_every_s=0.05)
        async with kept as keeper:
            record = make_call(keeper, callers, 1)
            search = Search(text="hello", number=CALLER, outcome=Outcome.IN_PROGRESS)
            assert await keeper.history.count(search) == 0
            record.words.append(Word(0.5, "Hello"))
            async with asyncio.timeout(LIMIT_S):
                while not await keeper.history.count(search):
                    await asyncio.sleep(0.02)
            end_call(keeper, record)
        async with open_history(settings_for(url, tmp_path)) as history:
            (call,) = (await history.search(Search(text="goodbye"))).calls
            assert call.outcome is Outcome.HUNG_UP


@pytest.mark.parametrize("key", [KEY, None])
@pytest.mark.xdist_group("postgresql")
async def test_a_database_that_is_away_at_start_and_end(
    key: str | None, postgres: PostgresServer, tmp_path: Path
) -> None:
    """What can't be written is kept in a file. Without a key the numbers can't even be hashed."""
    settings = settings_for(postgres.new_database("calls"), tmp_path, key)
    callers = Callers()
    postgres.stop()
    with logged() as log:
        async with nothing_left_behind(), keep_history(settings, callers) as keeper:
            for number in range(30):
                end_call(keeper, make_call(keeper, callers, number))
            left = make_call(keeper, callers, 99)
            with pytest.raises(HistoryUnavailable):
                await keeper.history.search(Search())
    assert "fails" in log.getvalue()
    assert "31 calls are kept in a file until the next start" in log.getvalue()
    assert CALLER[1:] not in spool_path(settings).read_text()
    postgres.start()
    with logged() as log:
        async with keep_history(settings, callers) as keeper:
            await until(lambda: not spool_path(settings).exists())
            assert await keeper.history.count(Search(text="goodbye")) == 30
            found = await keeper.history.count(Search(number=CALLER))
            assert found == (31 if key else 0)
            async with asyncio.timeout(LIMIT_S):
                while not await keeper.history.count(Search(outcome=Outcome.LOST)):
                    await asyncio.sleep(0.02)
    assert "31 calls of the last run written" in log.getvalue()
    assert "1 calls were lost with the last run" in log.getvalue()
    assert left.ending is None


@pytest.mark.xdist_group("postgresql")
async def test_a_database_that_goes_and_comes_back(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """Nothing is lost within the bound; beyond it the oldest calls are, which is told once."""
    settings, callers = settings_for(postgres.new_database("calls"), tmp_path), Callers()
    with logged() as log:
        async with keep_history(settings, callers, limit=100) as keeper:
            records = [make_call(keeper, callers, number) for number in range(10)]
            await until(lambda: not keeper.backlog.entries())
            postgres.stop()
            for record in records:
                end_call(keeper, record)
            for number in range(100, 190):
                end_call(keeper, make_call(keeper, callers, number))
            await until(lambda: "calls wait in memory" in log.getvalue())
            assert len(keeper.backlog) == 100
            assert (keeper.backlog.skipped, keeper.backlog.dropped) == (0, 0)
            for number in range(200, 203):
                end_call(keeper, make_call(keeper, callers, number))
            assert keeper.backlog.dropped == 3
            assert keeper.backlog.skipped == 3, "those of the three calls' beginnings"
            postgres.start()
            await until(lambda: "is back" in log.getvalue())
            page = await keeper.history.search(Search(limit=500))
            sids = {call.call_sid for call in page.calls if call.outcome is Outcome.HUNG_UP}
            assert len(sids) == 100
            assert {"CA189", "CA202"} <= sids
    assert log.getvalue().count("more calls wait for the database than can") == 1
    assert log.getvalue().count("calls wait in memory") == 1


async def test_calls_of_a_bridge_that_died_are_closed(
    url: str, database: Database, history: History, tmp_path: Path
) -> None:
    """This bridge's; not those of others, nor those it has now."""
    mine = entry("Hello", over=False)
    other = entry("Hello", over=False, bridge="https://other.example")
    now = entry("Hello", minute=60, over=False)
    await write(database, [mine, other], tmp_path)
    backlog = Backlog()
    backlog.put(now)
    await writer_for(database, backlog, tmp_path, began=int(now.id, 16)).finish(LIMIT_S)
    lost = await history.call(mine.id)
    assert lost is not None
    assert (lost.call.outcome, lost.call.ended_reason) == (Outcome.LOST, "lost with its bridge")
    assert lost.call.ended_at == mine.whole.call.updated_at
    assert lost.details == mine.whole.details
    assert await history.count(Search(outcome=Outcome.IN_PROGRESS)) == 2
    assert url


async def test_a_call_that_no_database_takes_harms_no_other(
    database: Database, history: History, tmp_path: Path
) -> None:
    calls = [entry("hello", minute=n) for n in range(5)]
    calls[2] = entry("hello", minute=2, turns=1 << 70)
    with logged() as log:
        await write(database, calls, tmp_path)
    assert await history.count(Search()) == 4
    assert f"call {calls[2].id} can't be kept" in log.getvalue()


async def test_what_is_deleted_is_not_written_after_all(url: str, tmp_path: Path) -> None:
    callers = Callers()
    async with keep_history(settings_for(url, tmp_path), callers) as keeper:
        theirs = [make_call(keeper, callers, number) for number in range(3)]
        other = make_call(keeper, callers, 9, OTHER)
        end_call(keeper, theirs[0])
        assert await keeper.history.delete_caller(CALLER) == Deletion(3, 0)
        end_call(keeper, theirs[1])
        end_call(keeper, other)
    async with open_history(settings_for(url, tmp_path)) as history:
        assert [call.call_sid for call in (await history.search(Search())).calls] == ["CA9"]


async def test_recordings_go_with_calls_that_were_never_written(url: str, tmp_path: Path) -> None:
    callers, folder = Callers(), tmp_path / "recordings"
    settings = dataclasses.replace(settings_for(url, tmp_path), recordings_folder=folder)
    async with keep_history(settings, callers) as keeper:
        paths = [recorded(folder, number) for number in range(3)]
        calls = [make_call(keeper, callers, number) for number in range(2)]
        calls.append(make_call(keeper, callers, 2, OTHER))
        for call, path in zip(calls, paths, strict=True):
            call.recording = path
        paths[0].with_name(f"{paths[0].name}.part").rename(paths[0])
        end_call(keeper, calls[0])
        assert await keeper.history.delete_caller(CALLER) == Deletion(2, 2)
    left = await asyncio.to_thread(lambda: sorted(path.name for path in folder.rglob("*.opus*")))
    assert left == [f"{paths[2].name}.part"]


async def test_a_call_in_progress_is_kept_with_a_recording_that_stays(
    url: str, tmp_path: Path
) -> None:
    callers, folder = Callers(), tmp_path / "recordings"
    settings = dataclasses.replace(settings_for(url, tmp_path), recordings_folder=folder)
    async with keep_history(settings, callers) as keeper:
        paths = [recorded(folder, number) for number in range(2)]
        calls = [make_call(keeper, callers, number) for number in range(2)]
        await until(lambda: keeper.is_settled)  # their rows know of no recordings yet
        for call, path in zip(calls, paths, strict=True):
            call.recording = path
        paths[1].mkdir()  # no file: it can't be unlinked
        with pytest.raises(RecordingsStay) as told:
            await keeper.history.delete_caller(CALLER)
        assert told.value.deletion == Deletion(1, 1)
        for call in calls:
            end_call(keeper, call)
    await asyncio.to_thread(paths[1].rmdir)
    async with open_history(settings) as history:
        assert [call.call_sid for call in (await history.search(Search())).calls] == ["CA1"]
        assert (await history.delete_caller(CALLER)).calls == 1


async def test_transcripts_can_be_left_out(url: str, tmp_path: Path) -> None:
    settings = dataclasses.replace(settings_for(url, tmp_path), history_transcripts=False)
    callers = Callers()
    async with keep_history(settings, callers) as keeper:
        end_call(keeper, make_call(keeper, callers, 1))
    async with open_history(settings) as history:
        (call,) = (await history.search(Search())).calls
        whole = await history.call(call.id)
        assert whole is not None
        assert whole.details.phrases == ()
        assert await history.count(Search(text="goodbye")) == 0


async def test_settings_that_can_not_be_used(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="STATE_DIR"):
        async with keep_history(Settings(state_dir=blocked / "state"), Callers()):
            pass
    with pytest.raises(ConfigError, match="HISTORY="):
        async with open_history(Settings()):
            pass
    nonsense = Settings(database_url="postgresql+asyncpg://db/c?nonsense=1", state_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"DATABASE_URL=.* options"):
        async with keep_history(nonsense, Callers()):
            pass
    nowhere = Settings(database_url="sqlite+aiosqlite:////no/such/c.db", state_dir=tmp_path)
    with logged() as log:
        async with nothing_left_behind(), keep_history(nowhere, Callers()):
            pass
    assert "history: the history's database fails: FileNotFoundError" in log.getvalue()
