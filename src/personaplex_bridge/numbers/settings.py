"""Which Twilio account, and how to get in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from personaplex_bridge import values
from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.reading import Reader

API_URL = "https://api.twilio.com"

_SECRETS = frozenset({"TWILIO_AUTH_TOKEN", "TWILIO_API_SECRET"})


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """The account and its keys, any of which may be missing."""

    account_sid: str | None = None
    auth_tokens: tuple[str, ...] = field(default=(), repr=False)
    api_key: str | None = None
    api_secret: str | None = field(default=None, repr=False)
    api_url: str = API_URL

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User name and password for the REST API: the API key if there is one, or the account and
        the first of its tokens; None if neither is complete.
        """
        if self.api_key and self.api_secret:
            return self.api_key, self.api_secret
        if self.account_sid and self.auth_tokens:
            return self.account_sid, self.auth_tokens[0]
        return None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may not leave in a line of a log."""
        return (*self.auth_tokens, *filter(None, [self.api_secret]))


def read_account_settings(environ: Mapping[str, str]) -> AccountSettings:
    """Read the TWILIO_ variables.

    Raises:
        ConfigError: with everything that is wrong.
    """
    reader = Reader(environ, _SECRETS)
    settings = AccountSettings(
        account_sid=reader.get("TWILIO_ACCOUNT_SID", values.account_sid, None),
        auth_tokens=reader.get("TWILIO_AUTH_TOKEN", values.secrets, ()),
        api_key=reader.get("TWILIO_API_KEY", str, None),
        api_secret=reader.get("TWILIO_API_SECRET", str, None),
        api_url=reader.get("TWILIO_API_URL", values.public_url, API_URL),
    )
    if reader.wrong:
        raise ConfigError(*reader.wrong)
    return settings


def check_complete(settings: AccountSettings, *, signs: bool = False) -> None:
    """Return if there is enough to ask Twilio; if it `signs`, to sign as Twilio does, too.

    Raises:
        ConfigError: names each variable that is missing.
    """
    where = "must be set: Twilio's console shows it on its first page; put it into .env"
    missing = [] if settings.account_sid else ["TWILIO_ACCOUNT_SID"]
    if not settings.auth_tokens and (signs or settings.credentials is None):
        missing.append("TWILIO_AUTH_TOKEN")
    if missing:
        raise ConfigError(*(WrongValue(name, "", where) for name in missing))
