"""What `personaplex-bridge call` tells of many calls."""

from __future__ import annotations

from personaplex_bridge.simulator.calls import _summary
from personaplex_bridge.simulator.report import Doing, Moment, PhoneReport


def held(place: int, held_s: float, result: str = "leave") -> PhoneReport:
    words = f"You are number {place} in line."
    return PhoneReport(
        "CA1",
        moments=[
            Moment(0.0, 2.0, Doing.SAYS, words),
            Moment(2.25, 5.0, Doing.PLAYS, "/0.wav"),
            Moment(7.5, 3.0, Doing.STREAMS),
        ],
        held_s=held_s,
        queue_results=[result],
        outcome="the caller hung up",
        first_media_s=0.1,
    )


def test_callers_who_held_are_told_of_together() -> None:
    first = PhoneReport("CA0", outcome="the caller hung up", first_media_s=0.1)
    lines = _summary([first, held(1, 10.0), held(2, 20.0), held(13, 90.0, "hangup")])
    assert lines[0] == "4 call(s): the caller hung up"
    assert lines[2:] == [
        "held: 3 call(s), 20.0 s at the median, 90.0 s at most; "
        "left the queue by leave (2x), hangup (1x); pieces of hold sound: 3; "
        "longest silence: 0.25 s",
        "Twilio says, 3x: You are number N in line.",
    ]


def test_nobody_held() -> None:
    lines = _summary([PhoneReport("CA0", outcome="rejected: busy")])
    assert lines == ["1 call(s): rejected: busy"]
