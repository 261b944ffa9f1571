"""What `serve` complains of at start."""

from __future__ import annotations

import logging

import pytest

from personaplex_bridge.config import read_settings
from personaplex_bridge.serve import warn_of_open_doors

PUBLIC = {"PUBLIC_URL": "https://bridge.example.com"}
EVERYWHERE = {"HOST": "0.0.0.0", "ALLOW_UNSIGNED": "yes"}


@pytest.mark.parametrize(
    ("environ", "who"),
    [
        (EVERYWHERE, ["anyone who reaches 0.0.0.0 can call"]),
        (PUBLIC, ["anyone who finds https://bridge.example.com can call"]),
        (EVERYWHERE | PUBLIC, ["anyone who reaches", "anyone who finds"]),
    ],
)
def test_open_doors_are_complained_of_loudly(
    environ: dict[str, str], who: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_open_doors(read_settings(environ))
    assert len(caplog.messages) == len(who)
    for message, expected in zip(caplog.messages, who, strict=True):
        assert "NOBODY IS ASKED WHO THEY ARE" in message
        assert expected in message
    assert {record.levelno for record in caplog.records} == {logging.CRITICAL}


def test_a_laptop_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_open_doors(read_settings({}))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_closed_doors_are_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_open_doors(read_settings({**EVERYWHERE, **PUBLIC, "TWILIO_AUTH_TOKEN": "secret"}))
    assert not caplog.records
