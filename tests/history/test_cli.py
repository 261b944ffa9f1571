"""`personaplex-bridge history`, as a user runs it: real processes, exit codes, what is printed."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from personaplex_bridge.doctor import examine
from personaplex_bridge.history.calls import Outcome, from_dict
from personaplex_bridge.history.database import Database
from personaplex_bridge.values import database_url
from tests.history.makers import CALLER, KEY, OTHER, entry, write

LIMIT_S = 60.0


async def run(
    *arguments: str, cwd: Path, stdin: str | None = None, **environ: str
) -> tuple[int | None, str, str]:
    """Exit code, standard output, standard error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWILIO_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "personaplex_bridge", "history", *arguments),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        cwd=cwd,
        env={**kept, **environ},
    )
    async with asyncio.timeout(LIMIT_S):
        told, complained = await process.communicate((stdin or "").encode())
    return process.returncode, told.decode(), complained.decode()


async def test_a_walk_through_all_commands(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    environ = {"DATABASE_URL": url, "HISTORY_KEY": KEY}
    code, told, _ = await run("migrate", cwd=tmp_path, **environ)
    assert (code, told) == (0, "the database's tables are of this version\n")

    calls = [entry("Welcome to the Harbour Inn.", "Bye", minute=n) for n in range(3)]
    calls += [entry("No", minute=9, number=OTHER, outcome=Outcome.MODEL_FAILED, model_failed=True)]
    for number, one in enumerate(calls):
        assert isinstance(one.whole.details.figures, dict)
        one.whole.details.figures["recording"] = f"/elsewhere/2026-03-01/{number}.opus"
    database = Database(database_url(url), KEY)
    await write(database, calls, tmp_path)
    await database.close()

    code, told, more = await run("list", "--limit", "3", cwd=tmp_path, **environ)
    assert code == 0
    assert [line.split()[0] for line in told.splitlines()] == [one.id for one in calls[:0:-1]]
    assert "+155***11       assistant" in told
    after = more.split()[-1]
    found = await run("list", "--after", after, "--limit", "3", "--json", cwd=tmp_path, **environ)
    assert [call["id"] for call in json.loads(found[1])["calls"]] == [calls[0].id]
    filters = ["--text", '"harbour inn" b*', "--since", "2026-03-01", "--number", CALLER]
    code, told, _ = await run("list", *filters, "--sort", "duration", cwd=tmp_path, **environ)
    assert len(told.splitlines()) == 3
    assert (await run("list", "--text", "nobody", cwd=tmp_path, **environ))[1] == ""

    code, told, _ = await run("show", calls[0].id, cwd=tmp_path, **environ)
    assert code == 0
    assert "0.00 s  “Welcome to the Harbour Inn.”" in told
    assert "5.50 s  barge-in: waiting_ms 340" in told
    code, told, _ = await run("show", calls[0].id, "--json", cwd=tmp_path, **environ)
    assert from_dict(json.loads(told)) == calls[0].whole

    file = tmp_path / "calls.csv"
    export = ["export", "--format", "csv", "--out", str(file), "--model-failed"]
    code, _, told = await run(*export, cwd=tmp_path, **environ)
    assert (code, told) == (0, "1 calls written\n")
    (row,) = csv.DictReader(io.StringIO(file.read_text("utf-8")))
    assert (row["id"], row["outcome"]) == (calls[3].id, "model-failed")
    code, told, _ = await run("export", cwd=tmp_path, **environ)
    assert [from_dict(known) for known in json.loads(told)] == [one.whole for one in calls]

    code, told, _ = await run("stats", cwd=tmp_path, **environ)
    assert "calls         4 (0 in progress), 0.1 h" in told
    assert "outcome       hung-up 3, model-failed 1" in told
    assert json.loads((await run("stats", "--json", cwd=tmp_path, **environ))[1])["calls"] == 4

    code, _, told = await run("delete-caller", CALLER, cwd=tmp_path, **environ)
    assert code == 1
    assert "Delete 3 calls for ever? Nobody to ask: say so with --yes" in told
    code, _, told = await run("delete-caller", OTHER, cwd=tmp_path, **environ)
    assert "Delete 1 call for ever? Nobody" in told
    delete = ["delete-caller", "-", "--yes"]
    code, told, warned = await run(*delete, cwd=tmp_path, stdin=f"{CALLER}\n", **environ)
    assert (code, told) == (0, "3 calls and 0 recordings deleted\n")
    assert "warning: 3 recordings not found in RECORDINGS_FOLDER" in warned
    code, told, warned = await run("delete", calls[3].id, cwd=tmp_path, **environ)
    assert (code, told) == (0, "deleted\n")
    assert "warning: 1 recordings not found" in warned
    code, _, told = await run("delete", calls[3].id, cwd=tmp_path, **environ)
    assert (code, told) == (1, f"error: there is no call {calls[3].id}\n")


MISTAKES = [
    (["show", "1"], 1, "'1' is no call's id: 16 hexadecimal digits"),
    (["show", "f" * 16], 1, "no call's id"),
    (["show", "0" * 16], 1, "there is no call 0000000000000000"),
    (["list", "--text", "?"], 1, "text: it has neither letters nor digits"),
    (["list", "--after", "x"], 1, "after: not what a page"),
    (["list", "--since", "tomorrow"], 2, "'tomorrow' is no moment"),
    (["list", "--limit", "0"], 2, "no whole number from 1 to 500"),
    (["list", "--outcome", "good"], 2, "in-progress"),
    (["delete-caller", ""], 1, "a number is needed"),
    (["export", "--out", "/no/such/file"], 1, "can't write /no/such/file"),
    ([], 2, "COMMAND"),
]


@pytest.mark.parametrize(("arguments", "code", "told"), MISTAKES)
async def test_mistakes(arguments: list[str], code: int, told: str, tmp_path: Path) -> None:
    got, _, complained = await run(*arguments, cwd=tmp_path, HISTORY="on", STATE_DIR=".")
    assert got == code
    assert told in complained
    assert "Traceback" not in complained


async def test_there_is_none(tmp_path: Path) -> None:
    code, _, complained = await run("list", cwd=tmp_path)
    assert code == 2
    assert "HISTORY='' is not allowed: on, or DATABASE_URL set" in complained
    assert not (tmp_path / "state").exists()
    gone = "postgresql://me:pass-word@127.0.0.1:1/calls"
    code, _, complained = await run("list", cwd=tmp_path, DATABASE_URL=gone)
    assert code == 1
    assert "error: the history's database fails: ConnectionRefusedError" in complained
    assert "pass-word" not in complained


async def test_a_history_that_is_there_is_read_without_the_setting(tmp_path: Path) -> None:
    code, _, _ = await run("migrate", cwd=tmp_path, HISTORY="on", STATE_DIR=".")
    assert code == 0
    code, _, complained = await run("list", cwd=tmp_path, STATE_DIR=".")
    assert code == 0, complained


async def test_without_its_packages(tmp_path: Path) -> None:
    """The bridge works without the extra, and says what a history needs."""
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text("import sys\nsys.modules['sqlalchemy'] = sys.modules['alembic'] = None\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    code, _, complained = await run("list", cwd=tmp_path, HISTORY="on", PYTHONPATH=path)
    assert code == 1
    assert "type: pip install 'personaplex-bridge[history]'" in complained
    code, _, complained = await run("list", cwd=tmp_path, HISTORY="off", PYTHONPATH=path)
    program = "import personaplex_bridge.serve, personaplex_bridge.cli; print('fine')"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env={**os.environ, "PYTHONPATH": path}, stdout=PIPE
    )
    told, _ = await process.communicate()
    assert told == b"fine\n"


async def test_the_doctor_looks_at_it(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {"STATE_DIR": str(tmp_path), "PORT": "0"}
    await examine({**kept, "DATABASE_URL": url})
    assert "ok  HISTORY: calls are kept; the database answers" in capsys.readouterr().out
    await examine(kept)
    assert "ok  HISTORY: off: no call is kept" in capsys.readouterr().out
    await examine({**kept, "DATABASE_URL": "postgresql://127.0.0.1:1/calls"})
    told = capsys.readouterr().out
    assert "MEND  HISTORY: the history's database fails: ConnectionRefusedError" in told
