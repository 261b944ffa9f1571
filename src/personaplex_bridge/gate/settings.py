"""Settings of `personaplex-bridge gate`: read once, checked, frozen, passed down."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from personaplex_bridge import values
from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.reading import Reader
from personaplex_bridge.values import CHAT_PATH, LOG_LEVELS, LOOPBACK_HOSTS

MIN_TOKEN_LENGTH = 16

_PLACEHOLDER = re.compile(r"\{\{\s*RUNPOD_SECRET_(\w*)\s*\}\}")

_SECRETS = frozenset({"GATE_TOKEN", "HF_TOKEN", "RUNPOD_API_KEY"})


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Everything a gate can be told. The defaults suit a container that holds the model server."""

    host: str = "0.0.0.0"  # noqa: S104 - a token is asked for
    port: int = 8998
    model_url: str = "http://127.0.0.1:8999"
    """Scheme and host of the one model server, without a trailing slash."""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Any of them lets in; none: everybody is let in."""
    allow_anyone: bool = False
    handshake_timeout_s: float = 300.0
    voices_dir: Path | None = None
    """Where the model server has its voices; None: see `cache.voices_folder`."""
    idle_stop_minutes: float | None = None
    """The pod is stopped after so many minutes without a caller; None: never."""

    hf_home: Path | None = None
    """Where the model server keeps its weights; None: nothing is known of them."""
    hf_token: str = field(default="", repr=False)
    hf_endpoint: str = "https://huggingface.co"

    runpod_pod_id: str = ""
    """Empty: not in a pod."""
    runpod_api_key: str = field(default="", repr=False)
    runpod_api_url: str = "https://api.runpod.io"
    log_level: str = "INFO"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may not leave in a line of a log."""
        return tuple(filter(None, (*self.tokens, self.hf_token, self.runpod_api_key)))


def missing_secret(value: str) -> str | None:
    """The name of the RunPod secret that `value` asks for, and that RunPod has not filled in."""
    found = _PLACEHOLDER.search(value)
    return found[1] if found else None


def read_gate_settings(environ: Mapping[str, str]) -> GateSettings:
    """The settings in an environment. An empty value counts as unset.

    Raises:
        ConfigError: names every wrong value and what is allowed.
    """
    defaults = GateSettings()
    reader = Reader(environ, _SECRETS)
    get = reader.get
    settings = GateSettings(
        host=get("GATE_HOST", values.host, defaults.host),
        port=get("GATE_PORT", values.integer(0, 65535), defaults.port),
        model_url=get("GATE_MODEL_URL", _model_url, defaults.model_url),
        tokens=get("GATE_TOKEN", _tokens, ()),
        allow_anyone=get("GATE_ALLOW_ANYONE", values.flag, defaults.allow_anyone),
        handshake_timeout_s=get(
            "GATE_HANDSHAKE_TIMEOUT", values.seconds(0.1, 3600), defaults.handshake_timeout_s
        ),
        voices_dir=get("GATE_VOICES_DIR", _folder, None),
        idle_stop_minutes=get("IDLE_STOP_MINUTES", _minutes, None),
        hf_home=get("HF_HOME", Path, None),
        hf_token=get("HF_TOKEN", str, ""),
        hf_endpoint=get("HF_ENDPOINT", _http_url, defaults.hf_endpoint),
        runpod_pod_id=get("RUNPOD_POD_ID", str, ""),
        runpod_api_key=get("RUNPOD_API_KEY", _runpod_key, ""),
        runpod_api_url=get("RUNPOD_API_URL", _http_url, defaults.runpod_api_url),
        log_level=get("LOG_LEVEL", values.choice(LOG_LEVELS), defaults.log_level),
    )
    named = {wrong.variable for wrong in reader.wrong}
    if wrong := reader.wrong + _contradictions(settings, named):
        raise ConfigError(*wrong)
    return settings


def read_address(environ: Mapping[str, str]) -> GateSettings:
    """Host and port alone, whatever is wrong with the rest."""
    defaults, get = GateSettings(), Reader(environ).get
    return GateSettings(
        host=get("GATE_HOST", values.host, defaults.host),
        port=get("GATE_PORT", values.integer(0, 65535), defaults.port),
    )


def _contradictions(settings: GateSettings, named: Collection[str]) -> list[WrongValue]:
    """Values that are right by themselves, but not together. The variables `named` are not."""
    wrong = []
    is_open = not settings.tokens and not settings.allow_anyone and "GATE_TOKEN" not in named
    if is_open and settings.host not in LOOPBACK_HOSTS:
        allowed = (
            f"a token of at least {MIN_TOKEN_LENGTH} characters (openssl rand -hex 32), because "
            f"anyone who reaches {settings.host} could use the model; or GATE_ALLOW_ANYONE=yes if "
            "that is meant"
        )
        wrong.append(WrongValue("GATE_TOKEN", "", allowed))
    if settings.idle_stop_minutes is not None:
        minutes = f"{settings.idle_stop_minutes:g}"
        for variable, value in (
            ("RUNPOD_POD_ID", settings.runpod_pod_id),
            ("RUNPOD_API_KEY", settings.runpod_api_key),
        ):
            if not value and variable not in named:
                allowed = f"with {variable} only, which stopping the pod needs"
                wrong.append(WrongValue("IDLE_STOP_MINUTES", minutes, allowed))
    return wrong


def _tokens(value: str) -> tuple[str, ...]:
    _refuse_placeholder(value)
    tokens = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
    fits = all(re.fullmatch(rf"[!-~]{{{MIN_TOKEN_LENGTH},}}", token) for token in tokens)
    if not fits or len(tokens) > values.MAX_LISTED:
        raise ValueError(
            f"a token of at least {MIN_TOKEN_LENGTH} ASCII characters without spaces (openssl rand "
            "-hex 32), or several with commas between them"
        )
    return tokens


def _runpod_key(value: str) -> str:
    _refuse_placeholder(value)
    return value


def _refuse_placeholder(value: str) -> None:
    if (name := missing_secret(value)) is not None:
        raise ValueError(
            f"it asks for the RunPod secret {name}, which doesn't exist; make it in "
            "RunPod's console under Secrets"
        )


def _http_url(value: str) -> str:
    allowed = "http:// or https:// and a host, without a query"
    parts = values.split(value, allowed)
    if parts.scheme not in ("http", "https") or parts.query:
        raise ValueError(allowed)
    return parts.geturl().rstrip("/")


def _model_url(value: str) -> str:
    return _http_url(value).removesuffix(CHAT_PATH)


def _folder(value: str) -> Path:
    path = Path(value)
    if not path.is_dir():
        raise ValueError("the path of a folder that exists")
    return path


def _minutes(value: str) -> float:
    try:
        return values.seconds(0.01, 100_000)(value)
    except ValueError:
        raise ValueError("minutes from 0.01 to 100000, or nothing for never") from None
