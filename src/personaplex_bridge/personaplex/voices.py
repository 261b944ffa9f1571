"""What may be asked of a model server when connecting: one of 18 voices, and a prompt.

The server joins the voice's name to a path and loads it, and dies without a word on anything it
doesn't like, so everything is checked here, before connecting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode, urlsplit, urlunsplit

from personaplex_bridge.errors import PersonaError

VOICES = frozenset(
    [f"NAT{gender}{number}" for gender in "FM" for number in range(4)]
    + [f"VAR{gender}{number}" for gender in "FM" for number in range(5)]
)
"""NAT are natural, VAR are varied; F are female, M are male."""

_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""What XML 1.0 has no way to write; lone surrogates too."""

MAX_ENCODED_PROMPT_BYTES = 8000
"""The server takes request lines up to about 8,190 bytes: a URL-encoded prompt of 8,100 passed,
one of 8,300 got HTTP 400."""

VOICE_STEPS = 51 + 12
"""Steps of the model that every prompt takes, whatever its length."""


@dataclass(frozen=True, slots=True)
class Role:
    """Who the model is to be in a call.

    Raises:
        PersonaError: the voice is unknown, or the prompt is empty or too long.
    """

    voice: str
    text_prompt: str

    def __post_init__(self) -> None:
        """Refuse what the model server would choke on."""
        if self.voice not in VOICES:
            raise PersonaError(
                f"voice {self.voice[:12]!r} is not one of {', '.join(sorted(VOICES))}"
            )
        if not self.text_prompt.strip():
            raise PersonaError("text_prompt is empty: the model server dies of that")
        if _NO_XML.search(self.text_prompt):
            raise PersonaError("text_prompt holds a control character, which TwiML can't carry")
        size = len(quote_plus(self.text_prompt))
        if size > MAX_ENCODED_PROMPT_BYTES:
            raise PersonaError(
                f"text_prompt takes {size} bytes when URL-encoded; "
                f"the model server allows {MAX_ENCODED_PROMPT_BYTES}"
            )

    @property
    def prompt_steps(self) -> int:
        """About how many steps the model takes to take it in, rather too many than too few.

        About 51 for the voice, 12, and one for each token: some four letters of English, but a
        byte of what isn't in the vocabulary.
        """
        letters = sum(char.isascii() for char in self.text_prompt)
        other_bytes = len(self.text_prompt.encode()) - letters
        return VOICE_STEPS + letters // 3 + other_bytes


def chat_url(server: str, role: Role) -> str:
    """The WebSocket URL of a call. Never a `seed`: the server dies of it."""
    parts = urlsplit(server)
    query = urlencode({"voice_prompt": f"{role.voice}.pt", "text_prompt": role.text_prompt})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
