"""Giving freed memory back to the system."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Collect what calls have left in circles, then have the C library return what it keeps of
    freed memory. It takes milliseconds: for when nobody is calling.

    A call's codecs are large and few, so the collector, which counts objects, is in no hurry.
    glibc keeps what many calls at once have needed, for ever; others (musl, macOS) return memory
    by themselves and have no such function.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
