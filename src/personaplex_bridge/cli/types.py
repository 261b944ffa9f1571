"""What an argument of a command may be: parsers that refuse with what is allowed."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from personaplex_bridge import values


def number(low: int, high: int) -> Any:
    """A whole number."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parse


def seconds(text: str) -> float:
    """A length of time, of at most a call's."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 4 * 3600:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds, above 0 and up to 14400"
        )
    return seconds


def moment(text: str) -> datetime:
    """A date, a date with a time, or how long ago; in UTC unless it says otherwise."""
    ago = re.fullmatch(r"(\d{1,4})([dhm])", text, re.ASCII)
    if ago is not None:
        unit = {"d": "days", "h": "hours", "m": "minutes"}[ago[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(ago[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment, such as 2026-01-31, 2026-01-31T09:00+01:00, or 7d (a week ago)"
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def wav_file(text: str) -> Path:
    """Checked before the call, not after it."""
    path = Path(text)
    if path.suffix.lower() != ".wav" or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no .wav file in a folder that exists")
    return path


def folder(text: str) -> Path:
    """A folder that is there or can be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} exists and is no folder")
    return path


def key(text: str) -> tuple[float, str]:
    """A key and the moment it is pressed."""
    pressed, at, moment = text.partition("@")
    if pressed not in set("0123456789*#ABCD") or not at:
        _refuse(f"{text!r} is not of the form KEY@SECONDS, such as 1@2.5")
    return seconds(moment), pressed


def phone_number(text: str) -> str:
    """A number, with or without the spaces that people write in it."""
    number = re.sub(r"[\s().-]", "", text)
    if not re.fullmatch(r"\+[1-9]\d{6,14}", number, re.ASCII):
        _refuse(f"{text!r} is no number with + and its country's code, such as +15550100")
    return number


def public_url(text: str) -> str:
    """Scheme and host as Twilio sees them."""
    try:
        return values.public_url(text)
    except ValueError as error:
        _refuse(f"{text!r} is not {error}")


def _refuse(why: str) -> NoReturn:
    raise argparse.ArgumentTypeError(why)
