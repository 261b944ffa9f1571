"""Input that arrives in pieces."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T", bytes, str)


def split_at(whole: T, cuts: Sequence[int]) -> list[T]:
    """`whole` cut at these places, in any order; those beyond its end give empty pieces."""
    return [whole[begin:end] for begin, end in pairwise([0, *sorted(cuts), len(whole)])]
