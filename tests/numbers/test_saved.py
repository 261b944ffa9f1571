"""What is kept of numbers that were pointed here."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.errors import NumberError
from personaplex_bridge.numbers.records import FIELDS, Routing
from personaplex_bridge.numbers.saved import Saved, SavedNumbers, state_folder

ACCOUNT, NUMBER_SID = "AC" + "1" * 32, "PN" + "2" * 32
BEFORE = Routing(voice_url="https://before.example/", voice_application_sid="AP" + "3" * 32)
KEPT = Saved(ACCOUNT, NUMBER_SID, BEFORE, ("https://here.example/voice/inbound",))

routings = st.builds(
    Routing, **{name: st.text(min_size=1) | st.just("") for name in FIELDS if "method" not in name}
)


@given(st.builds(Saved, st.text(), st.text(), routings, st.lists(st.text()).map(tuple), st.text()))
def test_what_is_kept_comes_back(saved: Saved) -> None:
    assert Saved.parse(saved.serialize()) == saved


@given(routings)
def test_a_routing_comes_back(routing: Routing) -> None:
    assert Routing.parse(routing.serialize()) == routing


def test_a_password_in_a_webhook_is_not_told() -> None:
    told = Routing(voice_url="https://me:secret@host.example:8443/voice?x=1").told
    assert told == "https://(hidden)@host.example:8443/voice?x=1"


def test_a_routing_of_other_kinds_is_refused() -> None:
    with pytest.raises(ValueError, match="voice_url is no text"):
        Routing.parse({"voice_url": 1})


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    saved = SavedNumbers(tmp_path / "state" / "numbers")
    saved.keep(KEPT)
    path = saved.path(NUMBER_SID)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert saved.get(NUMBER_SID) == KEPT
    assert saved.all(ACCOUNT) == [KEPT]
    assert saved.all("AC" + "9" * 32) == [], "another account's"
    saved.forget(NUMBER_SID)
    saved.forget(NUMBER_SID)
    assert saved.get(NUMBER_SID) is None
    assert saved.all(ACCOUNT) == []


def test_a_number_is_one_holders(tmp_path: Path) -> None:
    saved, other = SavedNumbers(tmp_path / "x"), SavedNumbers(tmp_path / "x")
    with saved.held(NUMBER_SID):
        with (
            pytest.raises(NumberError, match=r"another .* has the number PN"),
            other.held(NUMBER_SID),
        ):
            pass
        with other.held("PN" + "4" * 32):
            pass
    with other.held(NUMBER_SID):
        assert other.all(ACCOUNT) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1}',
        json.dumps({"version": 1, "account": "A", "number": "N", "ours": []}).encode(),
        json.dumps({"version": 1, "account": "A", "number": "N", "ours": 1, "before": {}}).encode(),
        b"\xff\xfe",
    ],
)
def test_a_file_that_is_broken_is_named(content: bytes, tmp_path: Path) -> None:
    saved = SavedNumbers(tmp_path)
    saved.path(NUMBER_SID).write_bytes(content)
    for look in (lambda: saved.get(NUMBER_SID), lambda: saved.all(ACCOUNT)):
        with pytest.raises(NumberError, match=f"{NUMBER_SID}.json can't be read"):
            look()


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    saved = SavedNumbers(tmp_path / "file" / "numbers")
    with pytest.raises(NumberError, match=r"can't be written .*: the number is as it was"):
        saved.keep(KEPT)


@pytest.mark.parametrize(
    ("environ", "base"),
    [
        ({"XDG_STATE_HOME": "/var/state"}, "/var/state"),
        ({"XDG_STATE_HOME": "relative"}, None),
        ({}, None),
    ],
)
def test_the_folder(environ: dict[str, str], base: str | None) -> None:
    root = Path(base) if base else Path.home() / ".local/state"
    assert state_folder(environ) == root / "personaplex-bridge" / "numbers"
