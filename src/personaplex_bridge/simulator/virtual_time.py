"""An asyncio event loop whose time is virtual: instead of waiting for a timer, it jumps to it.

A call of minutes between stand-ins and bridge runs in seconds of CPU, and with the same timings
every time, because computing takes no virtual time at all. Sockets are real, with two conditions:
both ends of each connection belong to this loop (time would jump while another process thinks),
and addresses are IP literals (names are looked up in a thread; see `run_in_executor`).

Code that is to live in virtual time asks the loop for it: `clock.LoopClock`, `asyncio.sleep`,
`asyncio.timeout`, `call_later`. aiohttp and websockets do so for all their timeouts.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

STALL_S = 10.0
"""Real seconds with nothing to do and nothing planned, after which nothing will ever come."""

PROBE_TIMEOUT_S = 1.0
"""Real seconds a probe may take; it takes microseconds."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stalled(RuntimeError):
    """The loop has no timer and gets no I/O: whoever waits in it waits for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector event loop in virtual seconds, which begin at 0.

    Time moves only when no callback is ready, no socket is readable or writable, nothing is under
    way on the loopback device, and a timer is planned: then it is that timer's time. With no timer
    planned the loop blocks as others do, but raises `Stalled` after `stall_s` real seconds.
    """

    def __init__(self, stall_s: float = STALL_S) -> None:
        self._virtual_s = 0.0
        self._stall_s = stall_s
        self._threads_at_work = 0
        self._probe = _LoopbackProbe()
        super().__init__(_JumpingSelector(self._wait))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As the base class does. While a thread is at work, timers are waited for in real time.

        That keeps the order of things, not the timings: they then depend on the machine.
        """
        future = super().run_in_executor(executor, func, *args)
        self._threads_at_work += 1
        future.add_done_callback(self._thread_is_done)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        """As the base class does. Its deadline (from Python 3.12 on) is for threads: real time."""
        self._threads_at_work += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._threads_at_work -= 1

    def close(self) -> None:
        """Close the loop."""
        super().close()
        self._probe.close()

    def _thread_is_done(self, _future: object) -> None:
        self._threads_at_work -= 1

    def _wait(self, poll: _Poll, timeout_s: float | None) -> _Ready:
        """In the selector's place: events now, or none and a later time.

        `timeout_s` is the virtual time until the next timer; None if there is none.
        """
        if timeout_s is not None and timeout_s <= 0:
            return poll(0)
        if ready := poll(0):
            return ready
        # What was sent may not have arrived: the kernel delivers it in the sender's own time
        # slice as a rule, but puts it off on a busy machine.
        self._probe.pass_through()
        if ready := poll(0):
            return ready
        if timeout_s is None:
            return self._block(poll)
        if self._threads_at_work:
            began = time.monotonic()
            ready = poll(timeout_s)
            self._virtual_s += min(timeout_s, time.monotonic() - began) if ready else timeout_s
            return ready
        self._virtual_s += timeout_s
        return []

    def _block(self, poll: _Poll) -> _Ready:
        if ready := poll(self._stall_s):
            return ready
        raise Stalled(
            f"no timer is planned, and no I/O came in {self._stall_s:g} s: "
            f"waiting for ever at {self._virtual_s:g} virtual seconds"
        )


def run(coroutine: Coroutine[Any, Any, T], *, stall_s: float = STALL_S) -> T:
    """Run a coroutine to its end in virtual time, as `asyncio.run` does in real time.

    Raises:
        Stalled: nothing can happen any more, and it has not ended.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(stall_s)) as runner:
        return runner.run(coroutine)


_Ready = list[tuple[selectors.SelectorKey, int]]
_Poll = Callable[[float | None], _Ready]


class _JumpingSelector(selectors.DefaultSelector):
    """The system's selector, with another way to wait."""

    def __init__(self, wait: Callable[[_Poll, float | None], _Ready]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> _Ready:
        return self._wait(super().select, timeout)


class _LoopbackProbe:
    """A datagram that this socket sends to itself arrives after all that was sent before it.

    Linux keeps one queue for each processor, TCP and UDP alike, and works through it in order.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(self._socket.getsockname())
        self._socket.settimeout(PROBE_TIMEOUT_S)

    def pass_through(self) -> None:
        """Return once the loopback device has delivered what was sent."""
        self._socket.send(b"")
        self._socket.recv(1)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
