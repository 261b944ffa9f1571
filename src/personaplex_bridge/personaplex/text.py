"""Text pieces of the model, joined into words.

The server sends one SentencePiece token a message: a leading space starts a word; a byte that
has no token of its own arrives as `<0xC3>` and belongs to a UTF-8 sequence with its neighbours;
control pieces such as `<s>` are no words.
"""

from __future__ import annotations

import codecs
import re

MAX_WORD_CHARS = 200
"""A word longer than this is given out in parts: a server that never sends a space can't make us
remember without end."""

_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>|(<[^<>\s]+>)|(?:[^<]+|<(?![^<>\s]+>))+")
"""A byte, a control piece, or text up to the next of either."""


class WordJoiner:
    """Pieces in, words out."""

    def __init__(self) -> None:
        self._word = ""
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: str) -> list[str]:
        """The words that are complete now that `piece` has come: usually none or one."""
        words: list[str] = []
        for token in _TOKEN.finditer(piece):
            if token[1]:
                words += self._append(self._bytes.decode(bytes([int(token[1], 16)])))
            elif not token[2]:
                words += self._append(self._end_of_bytes() + token[0])
        return words

    def flush(self) -> list[str]:
        """The word still open, if any."""
        self._word += self._end_of_bytes()
        return self._take()

    def _append(self, text: str) -> list[str]:
        words: list[str] = []
        for part in re.split(r"(\s+)", text):
            if part.isspace():
                words += self._take()
            else:
                self._word += part
        # At once: a word that grows by a character at a time would be copied for each of them.
        if len(self._word) > MAX_WORD_CHARS:
            *parts, self._word = self._take()
            words += parts
        return words

    def _end_of_bytes(self) -> str:
        tail = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return tail

    def _take(self) -> list[str]:
        word, self._word = self._word, ""
        return [word[at : at + MAX_WORD_CHARS] for at in range(0, len(word), MAX_WORD_CHARS)]
