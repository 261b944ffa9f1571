"""Settings of `personaplex-bridge runpod`: read once, checked, frozen, passed down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from personaplex_bridge import values
from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.reading import Reader
from personaplex_bridge.runpod.api import API_URL

PROXY_URL = "https://{pod_id}-{port}.proxy.runpod.net"
"""Where RunPod's proxy shows an HTTP port of a pod."""

KEYS_PAGE = "https://console.runpod.io/user/settings"
PODS_PAGE = "https://console.runpod.io/pods"

_SECRETS = ("RUNPOD_API_KEY", "PERSONAPLEX_TOKEN")


@dataclass(frozen=True, slots=True)
class RunPodSettings:
    """Where RunPod is, and who asks."""

    runpod_api_key: str = field(default="", repr=False)
    runpod_api_url: str = API_URL
    runpod_proxy_url: str = PROXY_URL
    personaplex_token: str = field(default="", repr=False)
    """What the gate is asked with, for more than it tells strangers."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may never be shown."""
        return tuple(filter(None, (self.runpod_api_key, self.personaplex_token)))

    def url(self, pod_id: str, port: int) -> str:
        """Where a pod's HTTP port is reached: the value of PERSONAPLEX_URL."""
        return self.runpod_proxy_url.format(pod_id=pod_id, port=port).rstrip("/")


def read_runpod_settings(environ: Mapping[str, str]) -> RunPodSettings:
    """The settings of an environment. An empty value counts as unset.

    Raises:
        ConfigError: names every wrong value and what is allowed.
    """
    reader = Reader(environ, _SECRETS)
    settings = RunPodSettings(
        runpod_api_key=reader.get("RUNPOD_API_KEY", _token, ""),
        runpod_api_url=reader.get("RUNPOD_API_URL", _service, API_URL),
        runpod_proxy_url=reader.get("RUNPOD_PROXY_URL", _template, PROXY_URL),
        personaplex_token=reader.get("PERSONAPLEX_TOKEN", _token, ""),
    )
    if reader.wrong:
        raise ConfigError(*reader.wrong)
    return settings


def with_key(settings: RunPodSettings) -> RunPodSettings:
    """The same settings, if they have a key.

    Raises:
        ConfigError: they have none; says where to get one.
    """
    if not settings.runpod_api_key:
        allowed = f"a key of your RunPod account: make one at {KEYS_PAGE} (API Keys), with the "
        allowed += "right to read and write pods, and put it into .env"
        raise ConfigError(WrongValue("RUNPOD_API_KEY", "", allowed))
    return settings


def _token(value: str) -> str:
    if not re.fullmatch(r"[!-~]{1,4096}", value):
        raise ValueError("printable ASCII characters without spaces")
    return value


def _service(value: str) -> str:
    """A key goes there: TLS, unless it is this machine."""
    allowed = f"an address such as {API_URL} (http:// only on this machine), without a query"
    parts = values.split(value, allowed)
    local = parts.scheme == "http" and parts.hostname in values.LOOPBACK_HOSTS
    if parts.query or not (parts.scheme == "https" or local):
        raise ValueError(allowed)
    return value.rstrip("/")


def _template(value: str) -> str:
    allowed = f"an address with {{pod_id}} and {{port}} in it, such as {PROXY_URL}"
    try:
        _service(value.format(pod_id="a", port=1))
    except (ValueError, KeyError, IndexError, AttributeError):
        raise ValueError(allowed) from None
    if "{pod_id}" not in value or "{port}" not in value:
        raise ValueError(allowed)
    return value
