"""What one does with an account's numbers, with the account at hand: the `twilio` commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from personaplex_bridge import values
from personaplex_bridge.errors import ConfigError, NumberError
from personaplex_bridge.findings import Finding
from personaplex_bridge.numbers import limits, pointing
from personaplex_bridge.numbers.pointing import Pointed
from personaplex_bridge.numbers.probing import Prober
from personaplex_bridge.numbers.records import Number
from personaplex_bridge.numbers.rest import TwilioRest, open_rest
from personaplex_bridge.numbers.saved import Saved, SavedNumbers, state_folder
from personaplex_bridge.numbers.settings import (
    AccountSettings,
    check_complete,
    read_account_settings,
)
from personaplex_bridge.reading import Reader
from personaplex_bridge.web.paths import WEBHOOK_PATH


class Desk:
    """The account, what is kept of its numbers, and the bridge's own addresses."""

    def __init__(
        self,
        rest: TwilioRest,
        account: AccountSettings,
        saved: SavedNumbers,
        public_urls: tuple[str, ...],
    ) -> None:
        self._rest = rest
        self._account = account
        self._saved = saved
        self._public_urls = public_urls

    @property
    def public_url(self) -> str | None:
        """The bridge's own address; None if it isn't set."""
        return self._public_urls[0] if self._public_urls else None

    async def numbers(self) -> list[Number]:
        """Those that take calls."""
        return [number for number in await self._rest.numbers() if number.takes_calls]

    def marks(self, number: Number) -> str:
        """What is to be said of where a number points."""
        here = any(number.routing.told.startswith(f"{url}/") for url in self._public_urls)
        kept = self._saved.get(number.sid) is not None
        return "  (here)" * here + "  (what it was before is kept)" * kept

    def kept_in(self, number: Number) -> str:
        """The path of the file that says what a number was."""
        return str(self._saved.path(number.sid))

    async def point(self, number: str | None, base: str, persona: str | None) -> Pointed:
        """Let a number's calls go to the bridge at `base`; None: the account's only number."""
        chosen = await pointing.choose(self._rest, number)
        url = pointing.webhook_url(base, WEBHOOK_PATH, persona)
        account_sid = self._account.account_sid or ""
        return await pointing.point(self._rest, self._saved, account_sid, chosen, url)

    async def webhook(self, number: str) -> str:
        """Where a number's calls go.

        Raises:
            NumberError: not to a webhook.
        """
        routing = (await pointing.choose(self._rest, number)).routing
        if routing.trunk_sid or routing.voice_application_sid or not routing.voice_url:
            raise NumberError(f"the number's calls don't go to a webhook, but to: {routing.told}")
        return routing.voice_url

    async def kept(self, number: str | None = None) -> list[Saved]:
        """What is kept, of all numbers or of one."""
        kept = self._saved.all(self._account.account_sid or "")
        if number is None:
            return kept
        sids = {found.sid for found in await self._rest.numbers(number)}
        return [each for each in kept if each.number_sid in sids]

    async def restore(self, kept: Saved, *, force: bool) -> Pointed:
        """Put a number back.

        Raises:
            NumberError: also if a running `dev` has the number, whose callers this would cut off.
        """
        with self._saved.held(kept.number_sid):
            return await pointing.restore(self._rest, self._saved, kept, force=force)

    async def limit(self) -> str:
        """What the account may not do."""
        return limits.of(await self._rest.account())

    async def status(self) -> AsyncIterator[Finding]:
        """Look at the account, then at each number, and at the bridge behind it."""
        info = await self._rest.account()
        mend = "" if info.status == "active" else "see Twilio's console"
        yield Finding("account", f"{info.kind.lower()}, {info.status}; {limits.of(info)}", mend)
        numbers, looked_at = await self.numbers(), set[str]()
        if not numbers:
            yield Finding("numbers", "none takes calls", "buy one with Voice in the console")
        for number in numbers:
            yield Finding(number.number, f"{number.routing.told}{self.marks(number)}")
            base = _bridge_of(number)
            if base is not None and base not in looked_at:
                looked_at.add(base)
                async for finding in self._look_at(base):
                    yield finding

    async def _look_at(self, base: str) -> AsyncIterator[Finding]:
        prober = Prober(base, self._account)
        finding = await prober.is_there()
        yield finding
        if not finding.is_well:
            return
        yield await prober.refuses_strangers()
        if self._account.auth_tokens:
            yield await prober.knows_twilio()
        else:
            yield Finding("signed webhook", "not tried: TWILIO_AUTH_TOKEN is not set")


@asynccontextmanager
async def open_desk(environ: Mapping[str, str]) -> AsyncIterator[Desk]:
    """Sit down at it, with the settings of an environment.

    Raises:
        ConfigError: a setting is wrong, or missing.
    """
    account, public_urls = read_account_settings(environ), _public_urls(environ)
    check_complete(account)
    saved = SavedNumbers(state_folder(environ))
    async with open_rest(account) as rest:
        yield Desk(rest, account, saved, public_urls)


def _public_urls(environ: Mapping[str, str]) -> tuple[str, ...]:
    reader = Reader(environ)
    none: tuple[str, ...] = ()
    urls = reader.get("PUBLIC_URL", values.listed(values.public_url), none)
    if reader.wrong:
        raise ConfigError(*reader.wrong)
    return urls


def _bridge_of(number: Number) -> str | None:
    """The bridge that a number's calls go to; None if it is none, as its webhook's path shows."""
    routing = number.routing
    parts = urlsplit(routing.voice_url)
    if routing.trunk_sid or routing.voice_application_sid or parts.path != WEBHOOK_PATH:
        return None
    return f"{parts.scheme}://{parts.netloc}"
