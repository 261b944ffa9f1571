"""Faults as flags."""

from __future__ import annotations

import argparse

import pytest

from personaplex_bridge.simulator import flags
from personaplex_bridge.simulator.faults import CallFaults, Jitter, ModelFaults, Slow, Spell


def parser(prefix: str) -> argparse.ArgumentParser:
    both = argparse.ArgumentParser()
    flags.add_seed(both)
    flags.add_model_faults(both)
    flags.add_call_faults(both, prefix)
    return both


def test_none_by_default() -> None:
    arguments = parser("phone-").parse_args([])
    assert flags.model_faults(arguments) == ModelFaults()
    assert flags.call_faults(arguments) == CallFaults()


def test_every_flag_of_the_model() -> None:
    line = (
        "--pause 10+2 --pause 20+1 --block 3+1 --slow 0.8@5+2 --jitter-ms 120@1+2 --drift-ppm -50 "
        "--lose 10 --corrupt 20 --seed 7"
    )
    assert flags.model_faults(parser("phone-").parse_args(line.split())) == ModelFaults(
        pause=(Spell(10, 2), Spell(20, 1)),
        block=(Spell(3, 1),),
        slow=(Slow(0.8, Spell(5, 2)),),
        jitter=Jitter(120, Spell(1, 2), seed=7),
        drift_ppm=-50,
        lose=10,
        corrupt=20,
    )


def test_every_flag_of_a_call() -> None:
    line = (
        "--phone-block 3+1 --phone-lose-frames 4+0.1 --phone-lose 10 --phone-double 20 "
        "--phone-jitter-ms 60 --phone-drift-ppm 50 --phone-answer-after 0.4 --seed 7"
    )
    expected = CallFaults(
        block=(Spell(3, 1),),
        lose_frames=(Spell(4, 0.1),),
        lose=10,
        double=20,
        jitter=Jitter(60, seed=7),
        drift_ppm=50,
        answer_after_s=0.4,
    )
    assert flags.call_faults(parser("phone-").parse_args(line.split())) == expected


def test_flags_without_a_prefix() -> None:
    call = argparse.ArgumentParser()
    flags.add_seed(call)
    flags.add_call_faults(call)
    flags.add_never_connects(call)
    arguments = call.parse_args(["--lose", "5", "--never-connects"])
    assert flags.call_faults(arguments) == CallFaults(lose=5, never_connects=True)


def test_what_is_wrong_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser("phone-").parse_args(["--pause", "10"])
    assert "argument --pause: '10' is not of the form AT+FOR" in capsys.readouterr().err


def test_what_becomes_of_a_call_that_no_model_takes() -> None:
    both = parser("phone-")
    flags.add_endings(both)
    assert flags.call_faults(both.parse_args([])) == CallFaults()
    line = "--hang-up-holding 12.5 --dial-status no-answer"
    faults = CallFaults(hang_up_holding_s=12.5, dial_status="no-answer")
    assert flags.call_faults(both.parse_args(line.split())) == faults
