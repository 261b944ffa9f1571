"""Calls past over HTTP: found, exported, listened to, deleted; out of a real history."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from personaplex_bridge.console import past
from personaplex_bridge.console.past import FORMATS, OUTCOMES, SORTS, PastSearch
from personaplex_bridge.console.problems import Problem
from personaplex_bridge.history.calls import Outcome
from personaplex_bridge.history.exporting import Format
from personaplex_bridge.history.queries import MAX_TEXT_CHARS, Search, Sort
from personaplex_bridge.past_calls import PastCalls
from tests.console.shelf import SAID, Shelf, shelf
from tests.console.site import LOCKED, Site, hear, site
from tests.history.makers import CALLER, OTHER, entry, write
from tests.logged import logged

HISTORY = "/api/history"


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with shelf(tmp_path) as made:
        yield made


def test_the_console_knows_the_histories_words() -> None:
    assert set(OUTCOMES) == {outcome.value for outcome in Outcome}
    assert set(SORTS) <= {sort.value for sort in Sort}
    assert set(FORMATS) == {form.value for form in Format}
    assert past.MAX_TEXT_CHARS == MAX_TEXT_CHARS


async def test_calls_are_found_and_opened(kept: Shelf) -> None:
    async with site(past=kept.past) as at:
        status, page = await at.ask(f"{HISTORY}/search", {"text": "rain tuesday", "limit": 2})
        assert (status, len(page["calls"])) == (200, 2)
        assert page["calls"][0]["id"] == kept.recorded
        more = {"text": "rain tuesday", "limit": 2, "after": page["next"]}
        assert len((await at.ask(f"{HISTORY}/search", more))[1]["calls"]) == 2
        status, call = await at.ask(f"{HISTORY}/{kept.recorded}")
        assert (status, call["has_recording"]) == (200, True)
        assert call["transcript"][1]["text"] == SAID[1]
        assert len(call["transcript"][1]["words_s"]) == len(SAID[1].split())
        assert (await at.ask(f"{HISTORY}/{kept.calls[0].id}"))[1]["has_recording"] is False
        for nothing in ("0" * 16, "7" + "f" * 15, "8" + "0" * 15, "f" * 16):
            assert (await at.ask(f"{HISTORY}/{nothing}"))[0] == 404
            assert (await at.ask(f"{HISTORY}/{nothing}", method="DELETE"))[0] == 404
            answer = await at.ask(f"{HISTORY}/delete-caller", {"call": nothing})
            assert answer[0] == (404 if nothing < "8" else 400)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], "JSON object"),
        ({"colour": 1}, "there are text, number"),
        ({"number": "+155***11"}, "number must be the whole number"),
        ({"text": 1}, "text"),
        ({"text": "…"}, "neither letters nor digits"),
        ({"limit": 501}, "from 1 to 500"),
        ({"limit": True}, "from 1 to 500"),
        ({"since": "2030-01-31"}, "its zone"),
        ({"outcome": "good"}, "one of in-progress"),
        ({"min_duration_s": -1}, "from 0"),
        ({"model_failed": "yes"}, "true or false"),
        ({"after": "x"}, "after: not what"),
    ],
)
async def test_a_wrong_search_is_told(kept: Shelf, asked: object, said: str) -> None:
    async with site(past=kept.past) as at:
        status, problem = await at.ask(f"{HISTORY}/search", asked)
        assert status == 400
        assert said in problem["detail"]


async def test_without_a_history_there_is_none() -> None:
    async with site() as at:
        one = f"{HISTORY}/{'0' * 16}"
        asked: list[tuple[str, str, object]] = [
            ("POST", f"{HISTORY}/search", {}),
            ("GET", f"{HISTORY}/export", None),
            ("POST", f"{HISTORY}/export", {}),
            ("POST", f"{HISTORY}/delete-caller", {"number": CALLER}),
            ("GET", one, None),
            ("DELETE", one, None),
            ("GET", f"{one}/recording", None),
        ]
        for method, path, body in asked:
            status, problem = await at.ask(path, body, method=method)
            assert (status, "no call history is kept" in problem["detail"]) == (404, True), path


async def fetch(
    at: Site, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    method = "GET" if body is None else "POST"
    async with (
        aiohttp.ClientSession(headers={**at.headers(), **(headers or {})}) as http,
        http.request(method, at.base + path, json=body) as answer,
    ):
        return answer.status, dict(answer.headers), await answer.read()


async def test_an_export_has_what_the_filters_let_through(kept: Shelf) -> None:
    async with site(past=kept.past) as at:
        status, headers, content = await fetch(at, f"{HISTORY}/export")
        calls = json.loads(content)
        assert (status, len(calls)) == (200, len(kept.calls))
        assert headers["Content-Disposition"] == 'attachment; filename="calls.json"'
        assert headers["Content-Type"].startswith("application/json")
        assert calls == [one.whole.as_dict() for one in kept.calls]
        assert CALLER[1:].encode() not in content

        query = "?format=csv&model_failed=true&min_duration_s=1e1&persona=noir"
        status, headers, content = await fetch(at, f"{HISTORY}/export{query}")
        (row,) = csv.DictReader(io.StringIO(content.decode()))
        assert (row["outcome"], row["persona"]) == ("model-failed", "noir")
        assert headers["Content-Type"].startswith("text/csv")
        assert headers["Content-Disposition"] == 'attachment; filename="calls.csv"'

        body = {"number": CALLER, "text": "rain", "format": "csv"}
        _, _, content = await fetch(at, f"{HISTORY}/export", body)
        assert len(list(csv.DictReader(io.StringIO(content.decode())))) == 4


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("format=xml", "one of json, csv"),
        (f"number=%2B{CALLER[1:]}", "no place in an address"),
        ("text=rain", "no place in an address"),
        ("persona=a&persona=b", "once only"),
        ("limit=5", "there are text"),
        ("model_failed=yes", "true or false"),
        ("min_duration_s=nan", "from 0"),
        ("since=yesterday", "its zone"),
    ],
)
async def test_a_wrong_export_is_told(kept: Shelf, query: str, said: str) -> None:
    async with site(past=kept.past) as at:
        status, problem = await at.ask(f"{HISTORY}/export?{query}")
        assert status == 400
        assert said in problem["detail"]
        assert "rain" not in problem["detail"]


class BreaksOff(PastCalls):
    """Its database goes away in the middle of an export."""

    async def export(self, search: PastSearch, form: str) -> AsyncGenerator[bytes]:
        parts = super().export(search, form)
        for _ in range(5):
            yield await anext(parts)
        await parts.aclose()
        raise Problem(503, "gone")


async def test_an_export_that_breaks_off_is_no_whole_one(kept: Shelf) -> None:
    with logged() as log:
        async with site(past=BreaksOff(kept.history)) as at:
            with pytest.raises(aiohttp.ClientPayloadError):
                await fetch(at, f"{HISTORY}/export")
            assert (await at.ask("/api/bridge"))[0] == 200
    assert "breaks off" in log.getvalue()


async def test_a_recording_is_played_from_anywhere_in_it(kept: Shelf) -> None:
    path = f"{HISTORY}/{kept.recorded}/recording"
    content = kept.recording.read_bytes()
    async with site(past=kept.past) as at:
        status, headers, got = await fetch(at, path)
        assert (status, got) == (200, content)
        assert headers["Content-Type"] == "audio/ogg"
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["Cache-Control"] == "no-store"
        status, headers, got = await fetch(at, path, headers={"Range": "bytes=100-199"})
        assert (status, got) == (206, content[100:200])
        assert headers["Content-Range"] == f"bytes 100-199/{len(content)}"
        assert (await fetch(at, path, headers={"Range": f"bytes={10**9}-"}))[0] == 416
        for ignored in ("garbage", "bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b", ""):
            status, headers, got = await fetch(at, path, headers={"Range": ignored})
            assert (status, got) == (200, content), ignored
            assert headers["X-Content-Type-Options"] == "nosniff"
        assert (await fetch(at, f"{HISTORY}/{kept.calls[0].id}/recording"))[0] == 404
        assert (await fetch(at, f"{HISTORY}/{'0' * 16}/recording"))[0] == 404
        kept.recording.unlink()
        assert (await fetch(at, path))[0] == 404


async def test_a_recording_is_not_for_strangers(kept: Shelf) -> None:
    path = f"{HISTORY}/{kept.recorded}/recording"
    async with site(LOCKED, past=kept.past) as at:
        assert (await fetch(at, path))[0] == 200
        async with aiohttp.ClientSession() as http, http.get(at.base + path) as answer:
            assert answer.status == 401


async def test_a_call_is_deleted_with_its_recording(kept: Shelf) -> None:
    path = f"{HISTORY}/{kept.recorded}"
    async with site(past=kept.past) as at:
        assert await at.ask(path, method="DELETE") == (
            200,
            {"calls": 1, "recordings": 1, "recordings_missing": 0},
        )
        assert not kept.recording.exists()
        assert (await at.ask(path, method="DELETE"))[0] == 404
        assert (await at.ask(path))[0] == 404


async def test_a_recording_elsewhere_is_told_of(kept: Shelf) -> None:
    kept.recording.rename(kept.recording.parent.parent / "another.opus")
    wanted = {"calls": 1, "recordings": 0, "recordings_missing": 1}
    async with site(past=kept.past) as at:
        assert await at.ask(f"{HISTORY}/{kept.recorded}", method="DELETE") == (200, wanted)


async def test_a_call_stays_with_a_recording_that_can_not_be_deleted(kept: Shelf) -> None:
    kept.recording.unlink()
    kept.recording.mkdir()
    async with site(past=kept.past) as at:
        for _ in range(2):
            status, told = await at.ask(f"{HISTORY}/{kept.recorded}", method="DELETE")
            assert (status, "delete again" in told["detail"]) == (409, True)
        status, told = await at.ask(f"{HISTORY}/delete-caller", {"number": CALLER})
        assert (status, told["detail"].startswith("5 calls deleted")) == (409, True)
        kept.recording.rmdir()
        assert (await at.ask(f"{HISTORY}/{kept.recorded}", method="DELETE"))[0] == 200


async def test_a_deleted_call_is_gone_from_the_last_calls_too(kept: Shelf, tmp_path: Path) -> None:
    async with site(past=kept.past) as at, at.watch() as events:
        async with at.call() as calling, at.call() as other:
            for one in (calling, other):
                await at.ask(f"/api/calls/{one.sid}/hangup", True)
                await one.over()
        heard = set[str]()
        while heard < {calling.sid, other.sid}:
            event = await hear(events, lambda event: event.data.get("ended"))
            heard |= {one["sid"] for one in event.data["ended"]}
        theirs = entry("hello", number=OTHER, call_sid=calling.sid)
        await write(kept.database, [theirs], tmp_path)
        assert (await at.ask(f"/api/calls/{calling.sid}"))[0] == 200
        assert (await at.ask(f"{HISTORY}/{theirs.id}", method="DELETE"))[0] == 200
        told = await hear(events, lambda event: "forgotten" in event.data)
        assert told.data["forgotten"] == [calling.sid]
        assert (await at.ask(f"/api/calls/{calling.sid}"))[0] == 404
        (left,) = (await at.ask("/api/calls"))[1]["ended"]
        assert left["sid"] == other.sid
        async with at.watch(event.id) as returning:
            (first,) = [await hear(returning, lambda _event: True)]
            assert first.kind == "state", "what was missed tells of the call"
            assert calling.sid not in str(first.data)


async def test_all_of_a_caller_is_deleted_by_number(kept: Shelf) -> None:
    number = f"{CALLER[:2]} ({CALLER[2:5]}) {CALLER[5:]}"
    with logged() as log:
        async with site(past=kept.past) as at:
            answer = await at.ask(f"{HISTORY}/delete-caller", {"number": number})
            assert answer == (200, {"calls": 6, "recordings": 1, "recordings_missing": 0})
            answer = await at.ask(f"{HISTORY}/delete-caller", {"number": number})
            assert answer == (200, {"calls": 0, "recordings": 0, "recordings_missing": 0})
    assert not kept.recording.exists()
    assert await kept.history.count(Search()) == 6
    assert "6 calls and 1 recordings deleted on request; 0 recordings not found" in log.getvalue()
    assert CALLER[-4:] not in log.getvalue()


async def test_all_of_a_caller_is_deleted_by_one_of_their_calls(kept: Shelf) -> None:
    async with site(past=kept.past) as at:
        answer = await at.ask(f"{HISTORY}/delete-caller", {"call": kept.calls[0].id})
        assert answer == (200, {"calls": 5, "recordings": 0, "recordings_missing": 0})
        assert await kept.history.count(Search(number=OTHER)) == 0
        again = await at.ask(f"{HISTORY}/delete-caller", {"call": kept.calls[0].id})
        assert again[0] == 404


@pytest.mark.parametrize(
    "asked",
    [{}, {"number": CALLER, "call": "0" * 16}, {"number": "()"}, {"call": "1"}, {"number": 5}, []],
)
async def test_nobody_is_deleted_by_mistake(kept: Shelf, asked: object) -> None:
    async with site(past=kept.past) as at:
        assert (await at.ask(f"{HISTORY}/delete-caller", asked))[0] == 400
        assert await kept.history.count(Search()) == len(kept.calls)


async def test_another_sites_page_deletes_nothing(kept: Shelf) -> None:
    foreign = {"Origin": "https://other.example"}
    async with site(past=kept.past) as at:
        for path, body, method in (
            (f"{HISTORY}/{kept.recorded}", None, "DELETE"),
            (f"{HISTORY}/delete-caller", {"number": CALLER}, "POST"),
            (f"{HISTORY}/export", {}, "POST"),
        ):
            assert (await at.ask(path, body, foreign, method=method))[0] == 403
        assert await kept.history.count(Search()) == len(kept.calls)


def take_away(file: Path) -> None:
    file.rename(file.with_name("elsewhere.db"))
    file.mkdir()


async def test_a_database_that_is_away_is_told(kept: Shelf) -> None:
    await kept.database.close()
    take_away(Path(kept.database.file))
    one = f"{HISTORY}/{kept.recorded}"
    asked: list[tuple[str, str, object]] = [
        ("POST", f"{HISTORY}/search", {}),
        ("GET", f"{HISTORY}/export?format=csv", None),
        ("POST", f"{HISTORY}/export", {}),
        ("POST", f"{HISTORY}/delete-caller", {"number": CALLER}),
        ("POST", f"{HISTORY}/delete-caller", {"call": kept.recorded}),
        ("GET", one, None),
        ("DELETE", one, None),
        ("GET", f"{one}/recording", None),
    ]
    async with site(past=kept.past) as at:
        for method, path, body in asked:
            status, problem = await at.ask(path, body, method=method)
            assert (status, "can't be reached" in problem["detail"]) == (503, True), path


def test_private_filters_are_filters() -> None:
    assert set(past.PRIVATE) <= set(past.FILTERS)
