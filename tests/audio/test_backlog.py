"""What the caller said and the model has not been sent yet."""

from collections.abc import Iterable
from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.backlog import KEPT_PAUSE_FRAMES, CallerBacklog, Frame


def frames(pattern: str) -> list[Frame]:
    """`v` is a frame with voice, `.` one without; each carries its number."""
    return [(bytes([number % 256]), kind == "v") for number, kind in enumerate(pattern)]


def filled(pattern: str, limit: int = 50) -> CallerBacklog:
    backlog = CallerBacklog(limit * 20)
    for frame in frames(pattern):
        backlog.append(frame)
    return backlog


def numbers(taken: Iterable[Frame]) -> list[int]:
    return [mulaw[0] for mulaw, _ in taken]


def kinds(taken: Iterable[Frame]) -> str:
    return "".join("v" if voiced else "." for _, voiced in taken)


def everything(backlog: CallerBacklog) -> list[Frame]:
    return backlog.take(len(backlog))


def test_first_in_first_out() -> None:
    backlog = filled("v.v.")
    assert numbers(backlog.take(3)) == [0, 1, 2]
    assert numbers(backlog.take(1)) == [3]


def test_nothing_is_taken_while_there_is_less_than_asked_for() -> None:
    backlog = filled("vvv")
    assert backlog.take(4) == []
    assert len(backlog) == 3


def test_without_pauses_the_oldest_is_dropped() -> None:
    backlog = filled("v" * 60)
    assert numbers(everything(backlog)) == list(range(10, 60))
    assert (backlog.dropped, backlog.shortened) == (10, 0)


def test_pauses_go_before_speech_does() -> None:
    backlog = filled("v" * 20 + "." * 20 + "v" * 20)
    assert numbers(everything(backlog)) == [*range(25), *range(35, 60)]
    assert (backlog.dropped, backlog.shortened) == (0, 10)


def test_the_beginning_of_each_pause_is_kept() -> None:
    backlog = filled("v" + "." * 8 + "v" + "." * 8 + "v")
    assert backlog.shorten(100) == 2 * (8 - KEPT_PAUSE_FRAMES)
    assert kinds(everything(backlog)) == "v.....v.....v"


def test_the_oldest_pause_is_shortened_first() -> None:
    backlog = filled("v" + "." * 8 + "v" + "." * 8)
    assert backlog.shorten(2) == 2
    assert numbers(everything(backlog)) == [*range(6), 8, *range(9, 18)]


def test_a_pause_whose_beginning_has_left_needs_no_other() -> None:
    backlog = filled("v" + "." * 8)
    backlog.take(6)
    assert backlog.shorten(100) == 3
    assert len(backlog) == 0


def test_silence_before_the_first_word_is_no_pause_to_keep() -> None:
    assert filled("." * 10).shorten(100) == 10


def test_shortening_by_nothing_changes_nothing() -> None:
    backlog = filled("." * 10)
    assert backlog.shorten(0) == 0
    assert (len(backlog), backlog.shortened) == (10, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.text("v.", min_size=1, max_size=30)),
        st.tuples(st.just("append"), st.integers(1, 40).map(lambda number: "." * number)),
        st.tuples(st.just("take"), st.integers(0, 8).map(str)),
        st.tuples(st.just("shorten"), st.integers(0, 20).map(str)),
    ),
    max_size=30,
)


@given(st.integers(4, 60), STEPS)
def test_bounded_in_order_and_nothing_is_unaccounted_for(
    limit: int, steps: list[tuple[str, str]]
) -> None:
    backlog = CallerBacklog(limit * 20)
    number, taken = 0, []
    for step, what in steps:
        if step == "append":
            for kind in what:
                backlog.append((number.to_bytes(2, "big"), kind == "v"))
                number += 1
        elif step == "take":
            taken += backlog.take(int(what))
        else:
            backlog.shorten(int(what))
        assert len(backlog) <= limit
        assert number == len(taken) + len(backlog) + backlog.shortened + backlog.dropped
    taken += everything(backlog)
    order = [int.from_bytes(mulaw, "big") for mulaw, _ in taken]
    assert order == sorted(set(order))


@given(st.text("v.", max_size=8), st.text("v....", max_size=120), st.integers(4, 40))
def test_nothing_is_dropped_while_there_is_a_pause_to_shorten(
    before: str, pattern: str, limit: int
) -> None:
    long_pause = "." * (KEPT_PAUSE_FRAMES + 1)
    backlog = CallerBacklog(limit * 20)
    left = "." * KEPT_PAUSE_FRAMES
    for frame in frames(before):
        backlog.append(frame)
    left += kinds(everything(backlog))
    for frame in frames(pattern):
        waiting = kinds(everything(deepcopy(backlog))) + kinds([frame])
        dropped = backlog.dropped
        backlog.append(frame)
        if backlog.dropped > dropped:
            assert long_pause not in left[-KEPT_PAUSE_FRAMES:] + waiting
            left += waiting[0]
