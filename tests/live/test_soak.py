"""The soak: a tiny one through the same code, and what its verdict says of made-up measurements."""

from __future__ import annotations

import dataclasses
import json
from array import array
from itertools import islice
from typing import Any

import pytest

from benchmarks.bad_models import BadModels, number_in, prompt_of
from benchmarks.soak import __main__ as command
from benchmarks.soak import bad_phones
from benchmarks.soak.findings import LEFT, Alike, Figures, figures, find
from benchmarks.soak.phones import HUNG, OVER, STANDIN_FAULTS, Made
from benchmarks.soak.plan import FAULTS, PHONE_FAULTS, Call, Plan, Sizes
from benchmarks.soak.run import soak
from benchmarks.soak.table import render
from benchmarks.soak.verdict import Measured, Verdict, is_by_chance, judge
from benchmarks.soak.watch import Sample
from benchmarks.sounds import shipped_speech

TINY = Sizes(
    warm_up_calls=2,
    warm_up_minutes=0.01,
    baseline_calls=2,
    baseline_minutes=0.01,
    short_calls=8,
    at_once=8,
    long_minutes=0.02,
    long_at_once=2,
    fault_every=2,
    short_s=(0.8, 1.2),
    long_s=(1.0, 1.5),
    after_fault_s=0.8,
    spread_s=0.2,
    rest_s=0.4,
    faults=(
        "model dies in mid-word",
        "phone vanishes",
        "model sends garbage",
        "phone sends 200 malformed messages",
    ),
)


async def test_a_tiny_soak_finds_nothing_left_over() -> None:
    """Delays and counts are left to the soak itself: a test may run on a busy machine."""
    lines: list[str] = []
    soaked = await soak(TINY, shipped_speech(), lines.append)
    verdicts = {verdict.criterion: verdict for verdict in soaked.verdicts}
    for criterion in (
        "no call or line in progress at rest",
        "no tasks left over",
        "no sockets left over",
        "no file descriptors left over",
        "all calls were made, with faults in the share that was asked for",
        "no call hangs",
        "no model server ever had two connections at a time",
        "the bridge logs no error of its own",
    ):
        assert verdicts[criterion].is_met, verdicts[criterion]
    run = soaked.measured.with_faults
    assert run.faulty >= 4
    for fault, outcome in {
        "model dies in mid-word": OVER,
        "phone vanishes": "the phone cut the connection",
        "model sends garbage": OVER,
        "phone sends 200 malformed messages": "the server closed the stream with 1002",
    }.items():
        assert run.faults[fault].keys() == {outcome}
    assert run.calls >= 4
    assert soaked.measured.baseline.faulty == 0
    assert any("without faults" in line and "MB" in line for line in lines)
    written = command.written(soaked.as_json())
    assert json.loads(written) == json.loads(json.dumps(soaked.as_json()))
    lines_of_samples = [line for line in written.splitlines() if b'"phase":' in line]
    assert len(lines_of_samples) == len(soaked.samples) > 0
    assert "| model dies in mid-word |" in render(soaked.measured.baseline, run, soaked.verdicts)


# The verdict

REST = Sample(100.0, 10.0, 0.5, 80.0, 20, {"LISTEN": 1, "ESTABLISHED": 1}, 5, 0, {"warm": 1})
DELAYS = {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 9.0, "n": 1000}


def calm(**changes: Any) -> Figures:
    """A run in which all was well."""
    all_well = Figures(
        calls=300,
        judged=300,
        affected=0,
        lost=0,
        doubled=0,
        gaps=0,
        problems={},
        underruns=2,
        underrun_calls=2,
        sent=1000,
        heard=1000,
        said=1000,
        received=1000,
        uplink_ms=DELAYS,
        downlink_ms=DELAYS,
        phone_late_ms=DELAYS,
        alike={"short": Alike(150, 0, 1), "long": Alike(150, 0, 1)},
        unjudged_affected=0,
        affected_calls=[],
        faults={},
        hung=0,
    )
    return dataclasses.replace(all_well, **changes)


def measured(**changes: Any) -> Measured:
    with_faults = calm(faults={"phone vanishes": {"the phone cut the connection": 300}})
    all_well = Measured(REST, REST, calm(), with_faults, 2000, 600.0, 0, [])
    return dataclasses.replace(all_well, **changes)


def failed(what: Measured) -> list[str]:
    return [verdict.criterion for verdict in judge(what, Sizes()) if not verdict.is_met]


def test_all_is_well() -> None:
    assert failed(measured()) == []


@pytest.mark.parametrize(
    ("after", "criterion"),
    [
        ({"tasks": 6}, "no tasks left over"),
        ({"descriptors": 21}, "no file descriptors left over"),
        (
            {"sockets": {"LISTEN": 1, "ESTABLISHED": 1, "CLOSE_WAIT": 1}},
            "no sockets left over",
        ),
        ({"sockets": {"LISTEN": 1, "ESTABLISHED": 2}}, "no sockets left over"),
        ({"resident_mb": 85.1}, "resident memory back within 5 MB"),
        ({"sessions": 1}, "no call or line in progress at rest"),
        ({"lines": {"warm": 1, "busy": 1}}, "no call or line in progress at rest"),
        ({"lines": {"idle": 1}}, "no call or line in progress at rest"),
    ],
)
def test_a_leak_is_found(after: dict[str, Any], criterion: str) -> None:
    assert failed(measured(after=dataclasses.replace(REST, **after))) == [criterion]


AFFECTED = "calls with frames lost or doubled, gaps or problems"


@pytest.mark.parametrize(
    ("changes", "criterion"),
    [
        ({"alike": {"short": Alike(150, 8, 1), "long": Alike(150, 0, 1)}}, AFFECTED),
        (
            {"alike": {"short": Alike(150, 0, 20), "long": Alike(150, 0, 1)}},
            "calls in which the phone ran dry for a moment, heard or not",
        ),
        ({"uplink_ms": {**DELAYS, "p50": 1.6}}, "uplink p50 equal within 0.5 ms"),
        ({"uplink_ms": {**DELAYS, "p99": 8.1}}, "uplink p99 equal within 5 ms"),
        ({"downlink_ms": {**DELAYS, "p99": 8.1}}, "downlink p99 equal within 5 ms"),
        ({"downlink_ms": None}, "downlink delays equal"),
        ({"hung": 1}, "no call hangs"),
        (
            {"judged": 100},
            "neither the machine nor a measuring program stood still in most of the calls",
        ),
    ],
)
def test_an_affected_call_is_found(changes: dict[str, Any], criterion: str) -> None:
    with_faults = dataclasses.replace(measured().with_faults, **changes)
    assert failed(measured(with_faults=with_faults)) == [criterion]


@pytest.mark.parametrize(
    ("changes", "criterion"),
    [
        ({"crowded": 1}, "no model server ever had two connections at a time"),
        ({"errors": ["Traceback"]}, "the bridge logs no error of its own"),
        ({"short_made": 1999}, "all calls were made, with faults in the share that was asked for"),
        (
            {"with_faults": calm()},
            "all calls were made, with faults in the share that was asked for",
        ),
        ({"long_s": 599.0}, "all calls were made, with faults in the share that was asked for"),
    ],
)
def test_what_else_is_found(changes: dict[str, Any], criterion: str) -> None:
    assert failed(measured(**changes)) == [criterion]


def test_no_more_than_by_chance_is_equal() -> None:
    """Calls are compared with their like: a machine that is busier in one run spoils nothing."""
    baseline = calm(alike={"late": Alike(30, 15, 0), "in time": Alike(270, 1, 0)})
    busier = {"late": Alike(150, 76, 0), "in time": Alike(150, 1, 0), "later": Alike(9, 9, 0)}
    worse = {"late": Alike(30, 15, 0), "in time": Alike(270, 24, 0)}
    faults = measured().with_faults.faults
    assert failed(measured(baseline=baseline, with_faults=calm(alike=busier, faults=faults))) == []
    assert failed(measured(baseline=baseline, with_faults=calm(alike=worse, faults=faults))) == [
        AFFECTED
    ]


@pytest.mark.parametrize(
    ("numbers", "by_chance"),
    [
        ((0, 10, 0, 10), True),
        ((0, 300, 2, 300), True),
        ((0, 300, 8, 300), False),
        ((5, 300, 5, 300), True),
        ((9, 300, 0, 300), True),
        ((2, 400, 40, 2500), True),
        ((2, 400, 80, 2500), False),
    ],
)
def test_chance(numbers: tuple[int, int, int, int], by_chance: bool) -> None:
    assert is_by_chance([numbers]) is by_chance


def test_kinds_add_up() -> None:
    """What is likely in each of two kinds may be unlikely in both."""
    table = (1, 300, 7, 300)
    assert is_by_chance([table])
    assert not is_by_chance([table, table])


def test_the_table_tells_what_failed() -> None:
    table = render(calm(), calm(), [Verdict("no tasks left over", False, "5 before, 6 after")])
    assert "| no tasks left over | FAIL | 5 before, 6 after |" in table


# What came of a call

CALL = Call(7, None, 4.0, 0.0)
FRAMES = [0.08 * number for number in range(50)]


def made(**changes: Any) -> Made:
    """A call of 50 model frames, each way a millisecond long."""
    late = [at + 0.002 for at in FRAMES]
    call = Made(CALL, 0.0, 5.0, OVER, 200, 50.0)
    at: dict[str, Any] = {"completing_at": array("d", FRAMES), "media_at": array("d", late)}
    return dataclasses.replace(call, **{**at, **changes})


def session(frames: list[float] = FRAMES, **changes: Any) -> dict[str, Any]:
    at = [moment + 0.001 for moment in frames]
    return {"prompt": "call 7", "heard_at": at, "said_at": at, "ended": LEFT, **changes}


def test_a_good_call() -> None:
    found = find(made(), [session()])
    assert not found.is_affected
    assert found.uplink_ms == pytest.approx([1.0] * 50)
    assert found.downlink_ms == pytest.approx([1.0] * 50)


def test_the_last_frame_may_be_cut_off() -> None:
    at = [moment + 0.001 for moment in FRAMES]
    assert not find(made(), [session(FRAMES[:-1], said_at=at)]).is_affected


def test_a_lost_frame_is_found() -> None:
    at = [moment + 0.001 for moment in FRAMES]
    found = find(made(), [session(FRAMES[:20] + FRAMES[21:], said_at=at)])
    assert (found.lost, found.uplink_ms) == (1, [])
    assert find(made(), [session(FRAMES[:-3], said_at=at)]).lost == 2


def test_a_doubled_frame_is_found() -> None:
    media_at = array("d", [*(moment + 0.002 for moment in FRAMES), 4.0])
    found = find(made(received=51.0, media_at=media_at), [session()])
    assert (found.doubled, found.downlink_ms) == (1, [])


@pytest.mark.parametrize(
    ("call", "sessions"),
    [
        (made(outcome="rejected: busy"), [session()]),
        (made(gaps=1), [session()]),
        (made(problems=("a binary frame",)), [session()]),
        (made(), []),
        (made(), [session(), session()]),
        (made(), [session(ended="client left with 1006")]),
    ],
)
def test_any_trouble_affects_a_call(call: Made, sessions: list[dict[str, Any]]) -> None:
    assert find(call, sessions).is_affected


def test_calls_in_which_something_else_stood_still_are_not_judged() -> None:
    bad = made(gaps=1)
    assert figures([bad], [session()], []).affected == 1
    stalled = figures([bad], [session()], [(2.0, 2.1)])
    assert (stalled.judged, stalled.affected, stalled.unjudged_affected) == (0, 0, 1)
    assert figures([made(late_ms=40.0)], [session()], []).judged == 0
    assert figures([bad], [session()], [(6.0, 6.1)]).affected == 1


def test_calls_with_faults_are_told_apart() -> None:
    faulty = dataclasses.replace(CALL, number=8, fault="phone vanishes")
    found = figures([made(), made(call=faulty, outcome=HUNG)], [session()], [])
    assert (found.calls, found.faulty, found.hung) == (1, 1, 1)
    assert found.faults == {"phone vanishes": {HUNG: 1}}


# What is to be done


def test_a_tenth_of_the_calls_has_a_fault_each_kind_in_turn() -> None:
    calls = list(islice(Plan(Sizes()).short(with_faults=True), 400))
    faults = [call.fault for call in calls if call.fault]
    assert len(faults) == 40
    assert faults[: len(FAULTS)] == list(FAULTS)
    assert not any(call.fault for call in islice(Plan(Sizes()).long(with_faults=False), 100))
    assert any(call.is_usual for call in calls)


def test_every_fault_is_somebodys_to_play() -> None:
    assert set(PHONE_FAULTS) == STANDIN_FAULTS.keys() | bad_phones.DEEDS.keys()


def test_a_prompt_is_obeyed_once() -> None:
    prompt, models = prompt_of(7, "dies in mid-word", 1.0), BadModels([])
    deed = models.deed_for(prompt)
    assert deed is not None
    assert (deed.name, deed.at_s, number_in(prompt)) == ("dies in mid-word", 1.0, 7)
    assert models.deed_for(prompt) is None
    assert models.deed_for(prompt_of(8, None, 0.0)) is None


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    told = capsys.readouterr().out
    assert "--short-calls" in told
    assert "--quick" in told


def test_sizes_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--at-once", "200"])
    assert "1 to 80 calls" in capsys.readouterr().err
