"""Logs: server-sent events in any pieces, and streams that break off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.errors import RunPodError
from personaplex_bridge.runpod.events import MAX_EVENT_BYTES, Event, EventParser
from personaplex_bridge.simulator.runpod import Trouble
from tests.runpod.harness import Scene, account, body, until

STREAM = (
    b": hello\n\nid: 1\ndata: one\n\nid:2\r\ndata:two\r\ndata: more\r\n\r\n"
    b"data: same id\r\revent: x\nretry: 5\ndata\n\nid: 3\n\ndata: \xc3\xa9\n\ndata: unfinished\n"
)
EVENTS = [
    Event("1", "one"),
    Event("2", "two\nmore"),
    Event("2", "same id"),
    Event("2", ""),
    Event("3", "é"),
]
QUIET_S = 0.5


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_pieces_give_the_same_events(cuts: list[int]) -> None:
    parser, at, events = EventParser(), 0, []
    for cut in [*sorted(cuts), len(STREAM)]:
        events += parser.feed(STREAM[at:cut])
        at = cut
    assert events == EVENTS


def test_an_event_has_a_bound() -> None:
    line = b"data: " + b"x" * 993 + b"\n"
    with pytest.raises(ValueError, match="bytes"):
        EventParser().feed(line * (MAX_EVENT_BYTES // 1000 + 2))
    with pytest.raises(ValueError, match="bytes"):
        EventParser().feed(b"x" * (MAX_EVENT_BYTES + 1))


async def a_pod(scene: Scene, lines: int = 0) -> str:
    """A pod that runs, and has said so many lines."""
    pod = await scene.runpod.create(body())
    state = scene.server.account.pods[pod.id]
    await until(lambda: state.status == "RUNNING")
    for number in range(lines):
        state.log.add(scene.server.account.now(), "container", f"line {number % 7}")
    return pod.id


async def test_the_end_of_a_log() -> None:
    async with account() as scene:
        pod_id = await a_pod(scene, 20)
        lines = [line async for line in scene.runpod.logs(pod_id, tail=5, quiet_s=QUIET_S)]
        assert [line.line for line in lines] == [f"line {number % 7}" for number in range(15, 20)]
        assert {line.source for line in lines} == {"container"}


async def test_one_source() -> None:
    async with account() as scene:
        pod_id = await a_pod(scene, 3)
        lines = [line async for line in scene.runpod.logs(pod_id, "system", quiet_s=QUIET_S)]
        assert lines
        assert {line.source for line in lines} == {"system"}


@pytest.mark.parametrize("at_a_time", [1, 3, 7])
async def test_a_stream_that_breaks_off_goes_on_where_it_was(at_a_time: int) -> None:
    async with account(log_lines_per_connection=at_a_time) as scene:
        pod_id = await a_pod(scene, 30)
        entries = scene.server.account.pods[pod_id].log.entries
        lines = [line async for line in scene.runpod.logs(pod_id, tail=5000, quiet_s=QUIET_S)]
        assert [line.id for line in lines] == [entry.id for entry in entries]
        assert scene.asked("GET", f"/v2/pods/{pod_id}/logs") > 30 // at_a_time


async def test_following_ends_with_the_pod() -> None:
    async with account() as scene:
        pod_id = await a_pod(scene, 2)
        seen: list[str] = []

        async def follow() -> None:
            async for line in scene.runpod.logs(pod_id):
                seen.append(line.line)
                if len(seen) == 3:
                    scene.server.account.delete(pod_id)

        with pytest.raises(RunPodError) as caught:
            await follow()
        assert caught.value.status == 404
        assert "stop container" in seen


async def test_troubles_are_overcome_and_bounded() -> None:
    async with account() as scene:
        pod_id = await a_pod(scene, 2)
        path = f"/v2/pods/{pod_id}/logs"
        scene.server.troubles.append(Trouble("GET", path, 503, times=2))
        lines = [line async for line in scene.runpod.logs(pod_id, tail=1, quiet_s=QUIET_S)]
        assert len(lines) == 1
        scene.server.troubles.append(Trouble("GET", path, None, times=99))
        with pytest.raises(RunPodError):
            await anext(scene.runpod.logs(pod_id))


async def test_no_such_pod() -> None:
    async with account() as scene:
        with pytest.raises(RunPodError, match="404"):
            await anext(scene.runpod.logs("nobody"))
