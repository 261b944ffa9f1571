"""The noise between a caller's words: how loud it is, how restless, and what stands out of it.

All levels are in dB and all times in frames of 20 ms. Three things are followed:

- the *floor*, the mean level while nobody speaks. It follows the noise within a second, upwards
  only when no loud voice has been heard for a moment; and what doesn't dip for 1.2 s is noise,
  however loud: speech dips between its syllables;
- the *restlessness*, the noise's mean distance from its floor: 0.4 dB for a steady hiss, 2 dB for
  a roomful of talkers. What is to stand out must do so by a multiple of it;
- the *peak*, how far the caller's loud vowels stand above the floor. The lower it is, the less a
  voice must stand out: where the words do so by little, too much passes rather than too little.

What is learned doesn't depend on what is let through: all that stays below about half the peak
counts as noise, even if it stood out. Otherwise whatever is let through by mistake isn't learned,
so the noise seems calmer than it is, so more is let through.
"""

from __future__ import annotations

from collections import deque

_QUIET_ROOM_DB = -50.0
"""At first a floor is taken to be no higher than this: a caller may begin to speak at once."""

_FLOOR_RATE = 1 / 50
_RESTLESS_RATE = 1 / 100
_FIRST_RATE = 1 / 5
"""In a new place all that is learned is at first the mean of what was heard there."""
_DROP_RATE = 1 / 8
_FAR_TOO_HIGH_DB = 12.0
"""A floor so far above what is heard (a long vowel was taken for noise) falls faster."""
_LOUD = 0.45
"""Surely a voice, for learning: above this part of the peak."""
_GUARD_FRAMES = 14
"""So long after a loud voice nothing is learned about the noise: words die away."""

_DIP_RATE = 0.4
_DIP_FRAMES = 12
_DIPS = 5
"""The lowest level of each 12 frames is kept, of the last 5 such spans."""
_ANOTHER_PLACE_DB = 2.5
"""When the lowest dip is so far above the floor, this is another noise."""

_SUDDEN = 3.5
_LASTING_DB = 1.5
_LASTING = 3.0
_SMOOTHING = 0.7
_OUTLIER = 3.0
"""What lies further out than this many times the restlessness counts only so much: a word that
was missed must not pass for restlessness."""

_SLOPE = 1.6
_LEAST_DB = 1.5
_MOST_DB = 6.3
"""What must stand out by at most so many dB: this many for each that the peak exceeds the reach,
but no fewer than the least and no more than the most."""

_FIRST_PEAK_DB = 12.5
_LEAST_PEAK_DB = 7.0
_PEAK_RISE_DB = 0.25
_PEAK_FALL_DB = 0.022
"""Steps, a frame with a voice: the peak comes to lie where 1 of 12 such frames is louder.
It falls only when a loud voice was heard a moment ago: while the caller listens, what is taken for
a voice isn't theirs."""

_SHAPELESS_DB = 15.0
"""What stands out so far counts without looking like speech."""


class NoiseFloor:
    """One call's noise. Feed it every frame of 20 ms.

    A frame stands out when its level exceeds the floor by 3.5 times the restlessness; or its
    level smoothed over some 30 ms does, by 1.5 dB and 3 times its own, smaller restlessness; or
    either does by what the peak asks for: 1.5 to 6.3 dB, more above the least when it exceeds
    `reach_db` by more.
    """

    def __init__(self, reach_db: float) -> None:
        self._reach_db = reach_db
        self._begun = False
        self._floor_db = _QUIET_ROOM_DB
        self._restless_db = 1.0
        self._lasting_restless_db = 0.6
        self._lasting_db = 0.0  # the smoothed level above the floor
        self._peak_db = _FIRST_PEAK_DB
        self._learned = 0  # frames of noise, in this place
        self._smooth_db = 0.0  # the smoothed level itself, for the dips
        self._dip_db = 0.0
        self._dips: deque[float] = deque(maxlen=_DIPS)
        self._frames = 0
        self._since_loud = _GUARD_FRAMES + 1

    def feed(self, level_db: float, *, speech_like: bool) -> bool:
        """Whether a frame stands out as a voice does; learn from it.

        `speech_like` is what another detector makes of its shape.
        """
        above_db = level_db - self._raised(level_db)
        self._lasting_db += _SMOOTHING * (above_db - self._lasting_db)
        voiced = self._stands_out(above_db) and (speech_like or above_db > _SHAPELESS_DB)
        if voiced:
            self._follow_peak(above_db)
        self._learn(above_db)
        return voiced

    def _stands_out(self, above_db: float) -> bool:
        asked_db = _SLOPE * (self._peak_db - self._reach_db)
        asked_db = min(max(asked_db, _LEAST_DB), _MOST_DB)
        if above_db > asked_db or self._lasting_db > asked_db:
            return True
        lasting_db = _LASTING_DB + _LASTING * self._lasting_restless_db
        return above_db > _SUDDEN * self._restless_db or self._lasting_db > lasting_db

    def _follow_peak(self, above_db: float) -> None:
        if above_db > self._peak_db:
            self._peak_db += min(above_db - self._peak_db, _PEAK_RISE_DB)
        elif self._peak_db > _LEAST_PEAK_DB and self._since_loud <= _GUARD_FRAMES:
            self._peak_db -= _PEAK_FALL_DB

    def _learn(self, above_db: float) -> None:
        """Let the floor and the restlessness follow the noise."""
        self._floor_db += _DROP_RATE * min(above_db + _FAR_TOO_HIGH_DB, 0.0)
        self._since_loud = 0 if above_db > _LOUD * self._peak_db else self._since_loud + 1
        if self._since_loud <= _GUARD_FRAMES:
            self._floor_db += _FLOOR_RATE * min(above_db, 0.0)
            return
        self._learned += 1
        first = 1 / (self._learned + 1 / _FIRST_RATE - 1)
        far_db = _OUTLIER * self._restless_db
        self._floor_db += max(_FLOOR_RATE, first) * min(above_db, far_db)
        rate = max(_RESTLESS_RATE, first)
        self._restless_db += rate * (min(abs(above_db), far_db + 0.3) - self._restless_db)
        far_db = min(abs(self._lasting_db), _OUTLIER * self._lasting_restless_db + 0.3)
        self._lasting_restless_db += rate * (far_db - self._lasting_restless_db)

    def _raised(self, level_db: float) -> float:
        """The floor, no lower than the lowest dip of the last 1.2 s."""
        if not self._begun:
            self._begun = True
            self._floor_db = min(level_db, _QUIET_ROOM_DB)
            self._smooth_db = self._dip_db = level_db
        self._smooth_db += _DIP_RATE * (level_db - self._smooth_db)
        self._dip_db = min(self._dip_db, self._smooth_db)
        self._frames += 1
        if self._frames == _DIP_FRAMES:
            self._dips.append(self._dip_db)
            self._dip_db, self._frames = self._smooth_db, 0
            lowest_db = min(self._dips)
            if len(self._dips) == _DIPS and lowest_db > self._floor_db:
                if lowest_db > self._floor_db + _ANOTHER_PLACE_DB:
                    # What was known of the caller's level above the noise is void.
                    self._learned = 0
                    self._peak_db = min(self._peak_db, _FIRST_PEAK_DB)
                self._floor_db = lowest_db
        return self._floor_db
