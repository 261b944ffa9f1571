"""The API over real sockets, with calls in progress."""

from __future__ import annotations

import asyncio
import dataclasses

import aiohttp
import pytest

from personaplex_bridge.console.headers import SECURITY_HEADERS
from personaplex_bridge.console.picture import MAX_WORDS
from personaplex_bridge.record import Word
from personaplex_bridge.simulator.report import Doing
from tests.console.site import LOCKED, OPEN, TOKEN, hear, site
from tests.live.harness import until

PROBLEM = {"title", "status", "detail"}


async def test_a_call_is_listed_with_what_is_known_of_it() -> None:
    async with site() as at, at.call() as calling:
        await until(lambda: bool(at.bridge.records[0].words), 10.0)
        status, listed = await at.ask("/api/calls")
        assert status == 200
        (call,) = listed["calls"]
        assert (call["sid"], call["persona"], call["state"]) == (
            calling.sid,
            "assistant",
            "talking",
        )
        assert (call["caller"], call["called"], call["server"]) == ("+155***11", "+155***00", 1)
        status, one = await at.ask(f"/api/calls/{calling.sid}")
        assert status == 200
        assert one["in_progress"] is True
        assert one["transcript"][0]["text"]
        assert one["figures"]["caller_frames"] > 0
        assert "+15550111" not in str(one)


async def test_levels_tell_who_speaks() -> None:
    async with site() as at, at.call():

        async def levels() -> tuple[float, float]:
            (call,) = (await at.ask("/api/calls"))[1]["calls"]
            return call["caller_db"], call["model_db"]

        seen = set[str]()
        async with asyncio.timeout(20):
            while seen < {"caller", "model", "nobody"}:
                caller_db, model_db = await levels()
                assert -90 <= caller_db <= 0
                assert -90 <= model_db <= 0
                seen |= {"caller"} if caller_db > -40 else {"nobody"}
                seen |= {"model"} if model_db > -40 else set()


@pytest.mark.parametrize(
    ("action", "said", "outcome"),
    [
        ("hangup", [], "operator_hung_up"),
        ("goodbye", [OPEN.again_words], "operator_goodbye"),
        ("forward", [], "operator_forwarded"),
    ],
)
async def test_a_call_is_ended(action: str, said: list[str], outcome: str) -> None:
    settings = dataclasses.replace(OPEN, forward_to="+15550199")
    async with site(settings) as at, at.call() as calling:
        status, told = await at.ask(f"/api/calls/{calling.sid}/{action}", True)
        assert (status, told) == (202, {"sid": calling.sid, "action": action})
        report = await calling.over()
        assert [one.what for one in report.moments if one.doing is Doing.SAYS] == said
        assert [one.what for one in report.moments if one.doing is Doing.DIALS] == (
            ["+15550199"] if action == "forward" else []
        )
        _, over = await at.ask(f"/api/calls/{calling.sid}")
        assert (over["in_progress"], over["kind"]) == (False, outcome)
        status, problem = await at.ask(f"/api/calls/{calling.sid}/{action}", True)
        assert (status, set(problem)) == (404, PROBLEM)


async def test_nobody_to_forward_to() -> None:
    async with site() as at, at.call() as calling:
        status, problem = await at.ask(f"/api/calls/{calling.sid}/forward", True)
        assert status == 409
        assert "FORWARD_TO" in problem["detail"]
        assert len(at.bridge.sessions) == 1


async def test_events_tell_a_call_from_its_begin_to_its_end() -> None:
    async with site() as at, at.watch() as events:
        first = await hear(events, lambda _: True)
        assert (first.kind, first.data["calls"]) == ("state", [])
        async with at.call() as calling:
            begun = await hear(events, lambda event: event.data.get("calls"))
            assert begun.data["calls"][0]["sid"] == calling.sid
            assert begun.data["calls"][0]["persona"] == "assistant"
            spoken = await hear(
                events, lambda event: any(one.get("words") for one in event.data.get("calls", []))
            )
            assert len(spoken.data["calls"][0]["words"][0]) == 2
            assert "persona" not in spoken.data["calls"][0], "only what has changed"
            await at.ask(f"/api/calls/{calling.sid}/hangup", True)
            over = await hear(events, lambda event: event.data.get("gone"))
            assert over.data["gone"] == [calling.sid]
            assert over.data["ended"][0]["kind"] == "operator_hung_up"


async def test_who_comes_back_gets_what_they_have_missed_and_not_more() -> None:
    async with site() as at, at.call(), at.watch() as one:
        last = await hear(one, lambda event: event.kind == "change")
        async with at.watch(last.id) as other:
            missed = await hear(other, lambda _: True)
            assert missed.kind == "change"
            assert missed.id != last.id
        async with at.watch("another-bridges-7") as other:
            assert (await hear(other, lambda _: True)).kind == "state"


async def test_nobody_looks_when_nobody_watches() -> None:
    async with site() as at, at.call():
        async with at.watch() as events:
            await hear(events, lambda event: event.kind == "change")
            assert "console-look" in {task.get_name() for task in asyncio.all_tasks()}
        async with asyncio.timeout(20):
            while "console-look" in {task.get_name() for task in asyncio.all_tasks()}:
                await asyncio.sleep(0.05)


async def test_what_is_wrong_is_a_problem() -> None:
    async with site(LOCKED) as at:
        for path in ("/api/calls/nobody", "/api/nothing", "/api/history/" + "0" * 16):
            status, problem = await at.ask(path)
            assert (status, problem["status"], set(problem)) == (404, 404, PROBLEM)
        status, problem = await at.ask("/api/calls", True)
        assert (status, set(problem)) == (405, PROBLEM)
        at.token = None
        status, problem = await at.ask("/api/calls")
        assert (status, set(problem)) == (401, PROBLEM)
        status, problem = await at.ask("/api/events")
        assert (status, set(problem)) == (401, PROBLEM)


@pytest.mark.parametrize(
    "path",
    ["/", "/api/docs", "/console/login", "/console/static/console.js", "/api/calls", "/api/x"],
)
async def test_every_answer_has_the_headers(path: str) -> None:
    async with (
        site(LOCKED) as at,
        aiohttp.ClientSession(headers=at.headers()) as http,
        http.get(at.base + path) as answer,
    ):
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        assert "Cache-Control" in answer.headers


async def test_other_routes_are_as_before() -> None:
    async with site() as at, aiohttp.ClientSession() as http:
        async with http.get(at.base + "/healthz") as answer:
            assert answer.status == 200
            assert "Content-Security-Policy" not in answer.headers
        async with http.get(at.base + "/nothing") as answer:
            assert (answer.status, answer.content_type) == (404, "text/plain")


async def test_without_a_token_no_network_has_a_console() -> None:
    settings = dataclasses.replace(OPEN, host="0.0.0.0", allow_unsigned=True)
    async with site(settings) as at:
        for path in ("/", "/api/calls", "/console/login", "/console/static/style.css"):
            async with aiohttp.ClientSession() as http, http.get(at.base + path) as answer:
                assert answer.status == 404


async def test_personas_and_servers() -> None:
    async with site() as at:
        _, told = await at.ask("/api/personas")
        names = [persona["name"] for persona in told["personas"]]
        assert told["default"] in names
        assert "NATF2" in told["voices"]
        _, told = await at.ask("/api/servers")
        assert told["servers"] == [
            {"number": 1, "circuit": "closed", "busy": 0, "capacity": 4, "last_failure": None}
        ]
        assert "127.0.0.1" not in str(told)


async def test_the_token_is_for_programs() -> None:
    async with site(LOCKED) as at:
        assert at.token == TOKEN
        assert (await at.ask("/api/bridge"))[1]["can_log_out"] is True
        assert (await at.ask("/api/calls", None, {"Authorization": "Bearer wrong"}))[0] == 401


async def test_who_begins_to_watch_a_long_call_gets_its_latest_words() -> None:
    async with site(behave="silence") as at, at.call() as calling:
        words = at.bridge.sessions[0].record.words
        words.extend(Word(float(n), f"word{n}") for n in range(3 * MAX_WORDS))
        async with at.watch() as events:
            state = await hear(events, lambda event: event.kind == "state")
            (call,) = state.data["calls"]
            assert call["sid"] == calling.sid
            told = [text for _, text in call["words"]]
            assert told == [f"word{n}" for n in range(2 * MAX_WORDS, 3 * MAX_WORDS)]
            words.append(Word(float(3 * MAX_WORDS), "more"))
            change = await hear(
                events, lambda event: any("words" in one for one in event.data.get("calls", ()))
            )
            assert [one["words"] for one in change.data["calls"]] == [[[3.0 * MAX_WORDS, "more"]]]


async def test_a_look_that_fails_lets_watchers_go_and_the_next_one_in() -> None:
    async with site(behave="silence") as at, at.call():
        async with at.watch() as events:
            await hear(events, lambda event: event.kind == "state")
            session = at.bridge.sessions[0]
            failures = session.record.failures
            session.record.failures = None  # type: ignore[assignment]
            async with asyncio.timeout(20):
                async for _ in events:
                    pass  # until the bridge ends it
            session.record.failures = failures
        async with at.watch() as events:
            assert (await hear(events, lambda event: True)).kind == "state"
