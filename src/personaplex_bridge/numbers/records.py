"""What Twilio tells of an account and its numbers.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource,
https://www.twilio.com/docs/iam/api/account
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """An account: `kind` is Trial or Full, `status` active, suspended or closed."""

    sid: str
    kind: str
    status: str

    @property
    def is_trial(self) -> bool:
        """Whether it has not been upgraded yet."""
        return self.kind.lower() == "trial"


@dataclass(frozen=True, slots=True)
class Routing:
    """What a number does with a call. Nothing set is "".

    A trunk goes before an application, and an application before the URLs: Twilio ignores what
    comes after.
    """

    voice_url: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    voice_application_sid: str = ""
    trunk_sid: str = ""
    status_callback: str = ""
    status_callback_method: str = "POST"

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Routing:
        """From JSON, or from what keeps it. What is missing or null is not set.

        Raises:
            ValueError: a field is no text.
        """
        given = {name: found.get(name) for name in FIELDS}
        if wrong := [name for name, value in given.items() if not isinstance(value, str | None)]:
            raise ValueError(f"{wrong[0]} is no text")
        return cls(**{name: value for name, value in given.items() if value})

    def serialize(self) -> dict[str, str]:
        """The fields by their names."""
        return dataclasses.asdict(self)

    @property
    def told(self) -> str:
        """Where calls go, in words."""
        if self.trunk_sid:
            return f"the SIP trunk {self.trunk_sid}"
        if self.voice_application_sid:
            return f"the TwiML app {self.voice_application_sid}"
        return _without_password(self.voice_url) or "nowhere"


def _without_password(url: str) -> str:
    """Webhooks may hold one: https://user:password@host."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"(hidden)@{host}").geturl() if user or at else url


FIELDS = tuple(each.name for each in dataclasses.fields(Routing))


@dataclass(frozen=True, slots=True)
class Number:
    """A phone number of the account. `number` is E.164."""

    sid: str
    number: str = field(repr=False)
    name: str = field(repr=False)
    takes_calls: bool
    routing: Routing
