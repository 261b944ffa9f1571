"""Words out of the model's text pieces."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from personaplex_bridge.personaplex.text import MAX_WORD_CHARS, WordJoiner
from personaplex_bridge.simulator.behaviours import pieces_of
from tests.splits import split_at


def joined(pieces: list[str]) -> list[str]:
    joiner = WordJoiner()
    return [word for piece in pieces for word in joiner.feed(piece)] + joiner.flush()


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([], []),
        ([" Hello"], ["Hello"]),
        (["Hello"], ["Hello"]),
        ([" Hello", " there"], ["Hello", "there"]),
        ([" Hel", "lo", ",", " there", "."], ["Hello,", "there."]),
        ([" a b", "c "], ["a", "bc"]),
        (["  a", " ", " ", "b\n", "\tc"], ["a", "b", "c"]),
        ([""], []),
        # Bytes outside the vocabulary
        ([" caf", "<0xC3>", "<0xA9>"], ["café"]),
        ([" caf", "<0xC3><0xA9>", "s", " two"], ["cafés", "two"]),
        ([" ", "<0xE2>", "<0x82>", "<0xAC>", "5"], ["€5"]),
        ([" ", "<0xf0>", "<0x9f>", "<0x98>", "<0x80>"], ["😀"]),
        ([" 5", "<0x41>"], ["5A"]),
        ([" one", "<0x0A>", "two"], ["one", "two"]),
        ([" one", "<0xC2>", "<0xA0>", "two"], ["one", "two"]),
        # Broken UTF-8
        ([" a", "<0xC3>", "b"], ["a\ufffdb"]),
        ([" a", "<0xC3>", " b"], ["a\ufffd", "b"]),
        ([" a", "<0xE2>", "<0x82>"], ["a\ufffd"]),
        ([" a", "<0xFF>", "<0xC3>", "<0xA9>"], ["a\ufffdé"]),
        ([" a", "<0xA9>", "b"], ["a\ufffdb"]),
        # Control pieces are no words
        (["<s>"], []),
        ([" one", "</s>", "<pad>", "<unk>", " two"], ["one", "two"]),
        ([" on<s>e"], ["one"]),
        # An angle bracket alone is text
        ([" 1", " <", " 2"], ["1", "<", "2"]),
        ([" a<", "b"], ["a<b"]),
        ([" a>b"], ["a>b"]),
    ],
)
def test_pieces(pieces: list[str], words: list[str]) -> None:
    assert joined(pieces) == words


def test_a_word_is_given_out_when_the_next_begins() -> None:
    joiner = WordJoiner()
    assert joiner.feed(" Hel") == []
    assert joiner.feed("lo") == []
    assert joiner.feed(" there") == ["Hello"]
    assert joiner.flush() == ["there"]
    assert joiner.flush() == []


def test_flush_ends_an_unfinished_character() -> None:
    joiner = WordJoiner()
    joiner.feed(" a<0xC3>")
    assert joiner.flush() == ["a\ufffd"]
    assert joiner.feed("<0xA9>") + joiner.flush() == ["\ufffd"]


def test_a_word_without_end_is_given_out_in_parts() -> None:
    joiner = WordJoiner()
    parts = []
    for _ in range(1000):
        parts += joiner.feed("abcdefg")
        assert all(len(part) <= MAX_WORD_CHARS + len("abcdefg") for part in parts)
    tail = joiner.flush()
    assert "".join(parts + tail) == "abcdefg" * 1000
    assert sum(map(len, tail)) <= MAX_WORD_CHARS


@pytest.mark.parametrize("piece", ["<", "<0x41>", "<a", "a"])
@pytest.mark.parametrize("at_once", [1, 1000])
def test_its_parts_are_of_full_length_however_it_comes(piece: str, at_once: int) -> None:
    words = joined([piece * at_once] * (1000 // at_once))
    assert "".join(words) == piece.replace("<0x41>", "A") * 1000
    assert {len(word) for word in words} == {MAX_WORD_CHARS}


sentences = st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=100)


@given(sentences, st.lists(st.integers(0, 100), max_size=20))
def test_any_split_gives_the_same_words(sentence: str, cuts: list[int]) -> None:
    assert joined(split_at(sentence, cuts)) == sentence.split()


@given(sentences)
@example("You spoke for 1.5 seconds: déjà vu! 日本語 😀")
def test_the_stand_ins_pieces_give_the_sentence_back(sentence: str) -> None:
    assert joined(pieces_of(sentence)) == sentence.split()


@given(
    st.lists(
        st.text(max_size=12) | st.sampled_from(["<0x0A>", "<0xC3>", "<0xA9>", "<s>", "<", ">"])
    )
)
def test_words_have_no_spaces_and_are_not_empty(pieces: list[str]) -> None:
    assert all(word and not any(map(str.isspace, word)) for word in joined(pieces))
