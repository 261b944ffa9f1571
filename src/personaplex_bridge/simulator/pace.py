"""When the model stand-in's steps are done: step time, pauses, slow spells and its own clock."""

from __future__ import annotations

from personaplex_bridge.simulator.faults import FRAME_MS, ModelFaults, after


class Pace:
    """The model takes one step after the other. All times are readings of one clock.

    `began` is the handshake. A step that was begun before a spell ends as it began.
    """

    def __init__(self, step_s: float, faults: ModelFaults, began: float) -> None:
        self._step_s = step_s
        self._pauses = [spell.since(began) for spell in faults.pause]
        self._slow = [(slow.spell.since(began), slow.step_s) for slow in faults.slow]
        drift_ppm = faults.drift_ppm
        self._period_s = None if drift_ppm is None else FRAME_MS / 1000 * (1 + drift_ppm / 1e6)
        self._steps = 0
        self._first_done = 0.0
        self._free_at = began

    def freeze(self, until: float) -> None:
        """No step begins before."""
        self._free_at = max(self._free_at, until)

    def step(self, ready: float) -> float:
        """When the next step is done, on a frame that is there from `ready` on."""
        begin = max(ready, self._free_at)
        if self._pauses:
            begin = after(self._pauses, begin)
        done = begin + self._step_time_s(begin)
        if self._period_s is not None:
            done = self._by_own_clock(done, self._period_s)
        self._free_at = done
        return done

    def _step_time_s(self, begin: float) -> float:
        for spell, step_s in self._slow:
            if spell.covers(begin):
                return step_s
        return self._step_s

    def _by_own_clock(self, done: float, period_s: float) -> float:
        """Counted from the first step, so that nothing adds up but the drift itself."""
        if self._steps == 0:
            self._first_done = done
        due = self._first_done + self._steps * period_s
        self._steps += 1
        return max(done, due)
