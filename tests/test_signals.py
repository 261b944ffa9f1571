"""Which signals are heard."""

from __future__ import annotations

import signal

from personaplex_bridge.signals import unless_ignored


def test_nohup_is_respected() -> None:
    both = signal.SIGINT, signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert unless_ignored(*both) == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGHUP, before)
    assert unless_ignored(*both) == list(both)
