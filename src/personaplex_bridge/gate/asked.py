"""What a client asks of the model, checked before the model hears of it.

The server joins the voice's name to a path and loads it; it dies of what is missing, empty or
unknown, and then serves the next caller with leftovers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus, urlencode

from personaplex_bridge.errors import GateRefusal
from personaplex_bridge.gate import cache
from personaplex_bridge.personaplex.voices import MAX_ENCODED_PROMPT_BYTES, VOICES

PARAMETERS = ("voice_prompt", "text_prompt")

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\.pt", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A voice that the model has, by its file's name, and a prompt it can take in."""

    voice: str
    text_prompt: str = field(repr=False)

    @property
    def query(self) -> str:
        """What is sent on: these two parameters, and nothing else."""
        return urlencode({"voice_prompt": self.voice, "text_prompt": self.text_prompt})


@dataclass(frozen=True, slots=True)
class Voices:
    """Which voices there are. Looked up anew for each request: the server makes them at its
    first start.
    """

    folder: Path | None = None
    hf_home: Path | None = None

    def has(self, name: str) -> bool:
        """Whether there is a voice in a file of this plain name."""
        folder = self.folder
        if folder is None and self.hf_home is not None:
            folder = cache.voices_folder(self.hf_home)
        if folder is None:
            return name.removesuffix(".pt") in VOICES
        return (folder / name).is_file()


def check(parameters: Sequence[tuple[str, str]], voices: Voices) -> Asked:
    """What is asked for, of all `parameters` of a query in their order.

    Raises:
        GateRefusal: with status 400; what is wrong, in words that quote no prompt.
    """
    for name, _ in parameters:
        if name not in PARAMETERS:
            why = ": the model server dies of it" if name == "seed" else ""
            raise _wrong(f"the parameter {name[:20]!r} is not allowed{why}")
    voice, prompt = (_once(name, parameters) for name in PARAMETERS)
    if not _PLAIN_NAME.fullmatch(voice):
        raise _wrong(f"voice_prompt={voice[:20]!r} is no plain name that ends in .pt")
    if not voices.has(voice):
        raise _wrong(f"voice_prompt={voice[:20]!r} is no voice that the model has")
    if not prompt.strip():
        raise _wrong("text_prompt is empty: the model server dies of that")
    try:
        size = len(quote_plus(prompt))
    except UnicodeEncodeError:
        raise _wrong("text_prompt is no UTF-8") from None
    if size > MAX_ENCODED_PROMPT_BYTES:
        allowed = f"the model server allows {MAX_ENCODED_PROMPT_BYTES}"
        raise _wrong(f"text_prompt takes {size} bytes when URL-encoded; {allowed}")
    return Asked(voice, prompt)


def _once(name: str, parameters: Sequence[tuple[str, str]]) -> str:
    given = [value for each, value in parameters if each == name]
    match given:
        case [value]:
            return value
        case []:
            raise _wrong(f"the parameter {name} is missing")
        case _:
            raise _wrong(f"the parameter {name} is there {len(given)} times")


def _wrong(what: str) -> GateRefusal:
    return GateRefusal(400, "bad_request", what)
