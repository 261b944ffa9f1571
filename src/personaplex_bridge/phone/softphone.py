"""Access tokens for Twilio's Voice SDK: a telephone in a page that calls through Twilio.

https://www.twilio.com/docs/voice/sdks/javascript and https://www.twilio.com/docs/iam/access-tokens.
The token says who its holder is and through which TwiML App they may call; the App's voice URL is
the bridge's webhook.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant

from personaplex_bridge import values
from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.reading import Reader

LIFETIME_S = 3600
"""Twilio allows a day. Pages ask for another one in time."""

IDENTITY = "phone"
"""Of who doesn't say who they are: what `<Client>` rings."""

_IDENTITY = re.compile(r"[A-Za-z0-9_]{1,121}")

_SECRETS = frozenset({"TWILIO_API_SECRET"})


@dataclass(frozen=True, slots=True)
class SoftphoneSettings:
    """What tokens are made of. Without a TwiML App there are none."""

    account_sid: str | None = None
    api_key: str | None = None
    api_secret: str | None = field(default=None, repr=False)
    app_sid: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may not leave in a line of a log."""
        return tuple(filter(None, [self.api_secret]))


def read_softphone_settings(environ: Mapping[str, str]) -> SoftphoneSettings:
    """Read the TWILIO_ variables that a token takes.

    Raises:
        ConfigError: with everything that is wrong or, beside TWILIO_APP_SID, missing.
    """
    reader = Reader(environ, _SECRETS)
    settings = SoftphoneSettings(
        account_sid=reader.get("TWILIO_ACCOUNT_SID", values.account_sid, None),
        api_key=reader.get("TWILIO_API_KEY", str, None),
        api_secret=reader.get("TWILIO_API_SECRET", str, None),
        app_sid=reader.get("TWILIO_APP_SID", _app_sid, None),
    )
    wrong = reader.wrong + (_missing(settings) if settings.app_sid else [])
    if wrong:
        raise ConfigError(*wrong)
    return settings


def is_identity(text: str) -> bool:
    """Whether Twilio takes it for the name of a client."""
    return _IDENTITY.fullmatch(text) is not None


def voice_token(settings: SoftphoneSettings, identity: str) -> str:
    """A JSON Web Token for `LIFETIME_S`: its holder may call through the App, and be called.

    `settings` must be complete.
    """
    token = AccessToken(
        settings.account_sid,
        settings.api_key,
        settings.api_secret,
        identity=identity,
        ttl=LIFETIME_S,
    )
    token.add_grant(VoiceGrant(outgoing_application_sid=settings.app_sid, incoming_allow=True))
    return str(token.to_jwt())


def _app_sid(value: str) -> str:
    if not re.fullmatch(r"AP[0-9a-fA-F]{32}", value):
        raise ValueError("AP followed by 32 hexadecimal digits: a TwiML App of Twilio's console")
    return value


def _missing(settings: SoftphoneSettings) -> list[WrongValue]:
    needed = {
        "TWILIO_ACCOUNT_SID": settings.account_sid,
        "TWILIO_API_KEY": settings.api_key,
        "TWILIO_API_SECRET": settings.api_secret,
    }
    allowed = "must be set with TWILIO_APP_SID: tokens for the Voice SDK are signed with it"
    return [WrongValue(name, "", allowed) for name, value in needed.items() if not value]
