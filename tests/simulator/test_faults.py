"""What can go wrong, written and computed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.clock import LoopClock
from personaplex_bridge.simulator import faults
from personaplex_bridge.simulator.faults import Jitter, ModelFaults, Slow, Spell, after, is_nth
from personaplex_bridge.simulator.link import Link
from personaplex_bridge.simulator.pace import Pace
from tests.virtual import in_virtual_time


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (faults.parse_spell, "10+2", Spell(10.0, 2.0)),
        (faults.parse_spell, "0+0.5", Spell(0.0, 0.5)),
        (faults.parse_slow, "0.8@10+2", Slow(0.8, Spell(10.0, 2.0))),
        (faults.parse_jitter, "120", Jitter(120.0)),
        (faults.parse_jitter, "120@10+2", Jitter(120.0, Spell(10.0, 2.0))),
        (faults.parse_drift_ppm, "-50.5", -50.5),
        (faults.parse_every, "10", 10),
        (faults.parse_wait_s, "0.3", 0.3),
    ],
)
def test_what_is_right(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "why"),
    [
        (faults.parse_spell, "10", r"'10' is not of the form AT\+FOR in seconds, such as 10\+2"),
        (faults.parse_spell, "a+2", "not of the form"),
        (faults.parse_spell, "1e3+2", "not of the form"),
        (faults.parse_spell, "nan+2", "not of the form"),
        (faults.parse_spell, "٣+2", "not of the form"),
        (faults.parse_spell, "-1+2", "AT is 0 to 14400 s"),
        (faults.parse_spell, "1+0", "FOR above 0"),
        (faults.parse_spell, "1+99999", "up to 14400"),
        (faults.parse_slow, "0.8", "SPEED@AT"),
        (faults.parse_slow, "x@1+2", "SPEED@AT"),
        (faults.parse_slow, "0@1+2", "SPEED is 0.01 to 100"),
        (faults.parse_slow, "0.5@12", "AT[+]FOR"),
        (faults.parse_jitter, "much", "MS or MS@AT"),
        (faults.parse_jitter, "0", "MS is above 0"),
        (faults.parse_jitter, "5@", "AT[+]FOR"),
        (faults.parse_drift_ppm, "200000", "ppm from -100000 to 100000"),
        (faults.parse_every, "0", "every n-th"),
        (faults.parse_every, "1.5", "whole number"),
        (faults.parse_wait_s, "-1", "0 to 14400"),
    ],
)
def test_what_is_wrong_says_what_is_right(
    parse: Callable[[str], object], text: str, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)


def test_a_spell_holds_its_beginning_and_not_its_end() -> None:
    spell = Spell(1.0, 2.0)
    assert [spell.covers(moment) for moment in (0.9, 1.0, 2.9, 3.0)] == [False, True, True, False]
    assert spell.since(10.0) == Spell(11.0, 2.0)


def test_after_spells_in_any_order() -> None:
    spells = [Spell(5.0, 1.0), Spell(1.0, 1.0), Spell(2.0, 1.0), Spell(2.5, 1.0)]
    assert [after(spells, moment) for moment in (0.5, 1.0, 1.5, 3.2, 3.5, 5.5)] == [
        *(0.5, 3.5, 3.5, 3.5, 3.5, 6.0)
    ]


def test_every_nth() -> None:
    assert [number for number in range(1, 10) if is_nth(number, 3)] == [3, 6, 9]
    assert not any(is_nth(number, 0) for number in range(10))


def steps(pace: Pace, ready: list[float]) -> list[float]:
    return [round(pace.step(moment), 9) for moment in ready]


def test_the_pace_without_faults() -> None:
    pace = Pace(0.04, ModelFaults(), 0.0)
    assert steps(pace, [1.0, 1.0, 1.0, 2.0]) == [1.04, 1.08, 1.12, 2.04]
    pace.freeze(7.0)
    assert steps(pace, [2.08, 2.16]) == [7.04, 7.08]


def test_the_pace_with_a_pause_and_a_slow_spell() -> None:
    hit = ModelFaults(pause=(Spell(1.0, 2.0),), slow=(Slow(0.8, Spell(4.0, 0.25)),))
    pace = Pace(0.04, hit, 100.0)
    assert steps(pace, [100.98, 101.02, 101.1]) == [101.02, 103.04, 103.08]
    assert steps(pace, [104.0] * 4) == [104.1, 104.2, 104.3, 104.34]


@given(st.floats(-1000, 1000), st.lists(st.floats(0.0, 0.3), max_size=50))
def test_a_model_with_its_own_clock_never_comes_before_its_input_nor_its_time(
    drift_ppm: float, gaps: list[float]
) -> None:
    pace = Pace(0.04, ModelFaults(drift_ppm=drift_ppm), 0.0)
    ready = [sum(gaps[:number]) for number in range(1, len(gaps) + 1)]
    done = [pace.step(moment) for moment in ready]
    assert done == sorted(done)
    for number, (here, there) in enumerate(zip(ready, done, strict=True)):
        assert there >= here + 0.04 - 1e-9
        assert there >= done[0] + number * 0.08 * (1 + drift_ppm / 1e6) - 1e-9


@in_virtual_time
async def test_a_link_delays_and_keeps_the_order() -> None:
    clock, arrived = LoopClock(), list[tuple[float, str]]()

    async def send(text: str) -> None:
        arrived.append((clock.now(), text))

    async def run(seed: int) -> list[tuple[float, str]]:
        arrived.clear()
        began = clock.now()
        link = Link(send, clock, Jitter(100.0, seed=seed), ())
        delivering = asyncio.create_task(link.deliver())
        for number in range(200):
            await clock.sleep_until(began + number * 0.02)
            await link.put(str(number))
        await link.emptied()
        delivering.cancel()
        return [(round(at - began, 6), text) for at, text in arrived]

    first, again, other = await run(1), await run(1), await run(2)
    assert first == again
    assert first != other
    assert [text for _, text in first] == [str(number) for number in range(200)]
    late = [at - number * 0.02 for number, (at, _) in enumerate(first)]
    assert min(late) >= 0.0
    assert 0.08 < max(late) <= 0.1 + 1e-6
