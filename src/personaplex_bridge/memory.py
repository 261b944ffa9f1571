"""Giving freed memory back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Have the C library return what it keeps of freed memory. It takes milliseconds.

    glibc keeps what many calls at once have needed, for ever; others (musl, macOS) return memory
    by themselves and have no such function.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
