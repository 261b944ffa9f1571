"""How the model stand-in says a sentence in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.simulator.behaviours import pieces_of


@pytest.mark.parametrize(
    ("sentence", "pieces"),
    [
        ("", []),
        ("Hi you", [" Hi", " you"]),
        ("  spaced\n out ", [" space", "d", " out"]),
        ("seconds", [" secon", "ds"]),
        ("déjà", [" d", "<0xC3>", "<0xA9>", "j", "<0xC3>", "<0xA0>"]),
        ("€", [" ", "<0xE2>", "<0x82>", "<0xAC>"]),
    ],
)
def test_pieces(sentence: str, pieces: list[str]) -> None:
    assert pieces_of(sentence) == pieces


@given(st.text(max_size=60))
def test_pieces_are_short_and_ascii(sentence: str) -> None:
    pieces = pieces_of(sentence)
    assert all(piece.isascii() and 1 <= len(piece) <= 6 for piece in pieces)
    assert sum(piece.startswith(" ") for piece in pieces) == len(sentence.split())
