"""Who gets in: Twilio, as its signature shows, and under which address it knows us."""

from __future__ import annotations

import logging
import re
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from personaplex_bridge import logs
from personaplex_bridge.config import Settings
from personaplex_bridge.twilio import signature
from personaplex_bridge.values import LOOPBACK_HOSTS

MAX_FIELDS = 200
"""Twilio's webhooks have about thirty parameters."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

_log = logging.getLogger(logs.NAME)


class Access:
    """Looks at requests before anything is done for them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def read_webhook(self, request: web.Request) -> dict[str, str]:
        """The parameters of a webhook of Twilio's, from its form or its query.

        Raises:
            HTTPForbidden: it isn't Twilio's, or is another account's.
            HTTPBadRequest: it has no readable form, or no usable host.
        """
        form = await _read_form(request)
        settings, base = self._settings, self.public_base(request)
        url, signed = base + request.raw_path, _signature_of(request)
        if settings.twilio_auth_tokens and not any(
            signature.webhook_is_signed(token, url, form, signed)
            for token in settings.twilio_auth_tokens
        ):
            _log.warning(
                "refused a webhook: its signature is wrong for %s%s; is PUBLIC_URL right?",
                base,
                request.path,
            )
            raise web.HTTPForbidden(text="wrong signature\n")
        parameters = {**request.query, **form}
        account = settings.twilio_account_sid
        if account and parameters.get("AccountSid") != account:
            _log.warning("refused a webhook: it is not of the account TWILIO_ACCOUNT_SID")
            raise web.HTTPForbidden(text="another account\n")
        return parameters

    def check_upgrade(self, request: web.Request) -> None:
        """Refuse a media socket that isn't Twilio's.

        Raises:
            HTTPForbidden: its signature is wrong.
            HTTPBadRequest: it has no usable host.
        """
        tokens, signed = self._settings.twilio_auth_tokens, _signature_of(request)
        url = self.stream_base(request) + request.raw_path
        if tokens and not any(signature.upgrade_is_signed(token, url, signed) for token in tokens):
            _log.warning("refused a media socket: its signature is wrong")
            raise web.HTTPForbidden(text="wrong signature\n")

    def stream_base(self, request: web.Request) -> str:
        """As `public_base`, for WebSockets."""
        return "ws" + self.public_base(request).removeprefix("http")

    def public_base(self, request: web.Request) -> str:
        """Scheme and host as Twilio sees them: PUBLIC_URL, else what a proxy forwarded.

        Without either, only a caller on this machine itself may be served in the clear: Twilio
        takes nothing but `wss`.
        """
        if self._settings.public_url is not None:
            return self._settings.public_url
        host = request.headers.get("X-Forwarded-Host", request.host).split(",")[0].strip()
        if not _HOST.fullmatch(host):
            raise web.HTTPBadRequest(text="no usable host\n")
        forwarded = {"X-Forwarded-Host", "X-Forwarded-Proto"} & set(request.headers)
        local = not forwarded and urlsplit(f"//{host}").hostname in LOOPBACK_HOSTS
        return f"http://{host}" if local else f"https://{host}"


async def _read_form(request: web.Request) -> dict[str, str]:
    """The POST parameters, as Twilio sends them: URL-encoded UTF-8.

    Anything else gets 400: anyone can send anything here before a signature is checked.
    """
    try:
        body = (await request.read()).decode("utf-8")
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise web.HTTPBadRequest(text="no readable form\n") from None


def _signature_of(request: web.Request) -> str:
    return request.headers.get(signature.HEADER, "")
