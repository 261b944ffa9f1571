"""A transcript that grows while the model speaks, and the words to search it by."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

from personaplex_bridge.history.calls import Phrase
from personaplex_bridge.record import PHRASE_GAP_S, Word

MAX_PHRASES = 5_000
"""Of a call; the latest are kept. Four hours have about 3,000."""

MAX_PHRASE_CHARS = 1_000
"""A model that makes no pause begins a new phrase all the same."""

MAX_SEARCH_CHARS = 200_000
"""Of a call can be searched: PostgreSQL takes a megabyte of different words."""

_WORD = re.compile(r"[^\W_]+")


class Transcript:
    """Takes new words as they come, at a cost that doesn't grow with the call."""

    def __init__(self) -> None:
        self._phrases: deque[Phrase] = deque(maxlen=MAX_PHRASES)
        self._last: Word | None = None
        self._began_s = 0.0
        self._open: list[str] = []
        self._open_s: list[float] = []
        self._open_chars = 0

    def catch_up(self, words: deque[Word]) -> bool:
        """Take the words after the last that was taken; whether there were any."""
        new = []
        for word in reversed(words):
            if word is self._last:
                break
            new.append(word)
        for word in reversed(new):
            self._add(word)
        return bool(new)

    def phrases(self) -> tuple[Phrase, ...]:
        """All phrases, the one that may still go on included."""
        current = [self._current()] if self._open else []
        return (*self._phrases, *current)[-MAX_PHRASES:]

    def _add(self, word: Word) -> None:
        pause = self._last is not None and word.at_s - self._last.at_s >= PHRASE_GAP_S
        if self._open and (pause or self._open_chars + len(word.text) > MAX_PHRASE_CHARS):
            self._phrases.append(self._current())
            self._open, self._open_s, self._open_chars = [], [], 0
        if not self._open:
            self._began_s = word.at_s
        self._open.append(clean(word.text))
        self._open_s.append(round(word.at_s, 2))
        self._open_chars += len(word.text) + 1
        self._last = word

    def _current(self) -> Phrase:
        return Phrase(self._began_s, " ".join(self._open), tuple(self._open_s))


def clean(text: str) -> str:
    """A text that any database takes: PostgreSQL knows no null characters, UTF-8 no half ones."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def search_words(text: str) -> list[str]:
    """The words of a text as both databases search them: letters and digits, case folded."""
    return [word.casefold() for word in _WORD.findall(text)]


def search_text(phrases: Iterable[Phrase]) -> str:
    """What of a transcript is searched."""
    text = " ".join(" ".join(search_words(phrase.text)) for phrase in phrases)
    return text[:MAX_SEARCH_CHARS]
