"""Settings: read once from the environment, checked, frozen, passed down.

`.env.example` documents every variable for users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from personaplex_bridge import values
from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.reading import Reader
from personaplex_bridge.values import LOG_LEVELS, LOOPBACK_HOSTS, Network, ServerAddress

WhenBusy: TypeAlias = Literal["queue", "reject", "forward", "voicemail"]
Fallback: TypeAlias = Literal["hangup", "forward", "voicemail"]

LogFormat: TypeAlias = Literal["text", "json"]

LOG_FORMATS: tuple[LogFormat, ...] = ("text", "json")
TRANSCODERS = ("native", "soxr")
NOISE_GATES: tuple[Literal["off", "auto", "strict"], ...] = ("off", "auto", "strict")
WHEN_BUSY: tuple[WhenBusy, ...] = ("queue", "reject", "forward", "voicemail")
FALLBACKS: tuple[Fallback, ...] = ("hangup", "forward", "voicemail")
RINGBACK_COUNTRIES = (
    "at", "au", "be", "bg", "br", "ca", "ch", "cn", "cz", "de", "dk", "ee", "es", "fi", "fr", "gb",
    "gr", "hk", "hu", "ie", "il", "in", "it", "jp", "kr", "lt", "mx", "nl", "no", "nz", "pl", "pt",
    "ru", "se", "sg", "tr", "tw", "uk", "us", "za",
)  # fmt: skip
"""Those whose ringing tone `audio.ringback` knows; this room may not ask it."""

LOOPBACK_NETWORKS = (values.network("127.0.0.0/8"), values.network("::1"))

_SECRETS = frozenset(
    {"TWILIO_AUTH_TOKEN", "LEASES_URL", "FORWARD_TO", "PERSONAPLEX_TOKEN"}
    | {"DATABASE_URL", "HISTORY_KEY", "CONSOLE_TOKEN"}
)
"""Never shown: tokens, passwords, people's numbers."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a bridge can be told. The defaults suit a laptop."""

    host: str = "127.0.0.1"
    port: int = 8080
    public_urls: tuple[str, ...] = ()
    """Scheme and host as Twilio sees them, without a trailing slash: first this bridge's own."""
    trusted_proxies: tuple[Network, ...] = LOOPBACK_NETWORKS
    """Whose X-Forwarded headers are believed."""

    personaplex_servers: tuple[ServerAddress, ...] = ()
    """None: a stand-in of our own. Ask `servers`, which knows every one's capacity."""
    personaplex_tls_verify: bool = True
    personaplex_token: str | None = field(default=None, repr=False)
    """For the gates in front of the model servers; bare servers don't look at it."""
    personaplex_capacity: int = 1
    handshake_timeout_s: float = 30.0
    """For a prompt of usual length."""
    warm_lines: bool = True
    leases_url: str | None = field(default=None, repr=False)
    """A Redis that several bridges share; None keeps leases in memory."""
    lease_ttl_s: float = 15.0

    when_busy: WhenBusy = "queue"
    fallback: Fallback = "hangup"
    forward_to: str | None = field(default=None, repr=False)
    recap: bool = False
    queue_limit: int = 100
    queue_timeout_s: float = 300.0
    hold_sound: Path | None = None
    """None: music that we make."""
    busy_words: str = (
        "All our lines are taken. You are number {position} in line. Please hold, and you will "
        "be connected."
    )
    sorry_words: str = "We are sorry, we can not go on with this call."
    again_words: str = "We are sorry, we have to end this call. Please call again in a moment."
    voicemail_words: str = "Please leave a message after the tone, and press the pound key."
    say_language: str = "en-US"

    start_timeout_s: float = 10.0
    media_timeout_s: float = 60.0
    max_call_s: float = 3600.0
    max_calls: int = 200
    max_message_bytes: int = 64 * 1024
    max_header_bytes: int = 8190
    max_body_bytes: int = 64 * 1024
    webhook_rate: int = 50
    """Requests a second from one address."""

    drain_timeout_s: float = 300.0
    drain_to: str | None = None

    persona: str = "assistant"
    personas_file: Path | None = None
    transcoder: str = "native"
    packets_per_page: int = 4
    uplink_backlog_ms: int = 1000
    downlink_backlog_ms: int = 1000
    lag_target_ms: int | None = 200
    """None: lag is never worked off."""
    noise_gate: Literal["off", "auto", "strict"] = "auto"
    cushion: bool = True
    barge_in: bool = True
    ringback: str | Path | None = "us"
    """What callers hear until the model is ready: a country, a sound file, or nothing."""
    history: bool | None = None
    """Whether calls are kept; None: if there is a `database_url`. Ask `keeps_history`."""
    database_url: str | None = field(default=None, repr=False)
    """None: a SQLite file in `state_dir`."""
    history_key: str | None = field(default=None, repr=False)
    """What callers' numbers are hashed with; None: a key of the database's own."""
    history_transcripts: bool = True
    retention_days: int | None = 30
    """None: calls are kept for ever."""
    state_dir: Path = Path("state")
    recording: bool = False
    recordings_folder: Path = Path("recordings")
    recording_days: int = 30
    recording_words: str | None = "This call is recorded."
    """None: callers are not told by us."""
    log_level: str = "INFO"
    log_format: LogFormat = "text"
    metrics_allow: tuple[Network, ...] | None = LOOPBACK_NETWORKS
    """Who may read /metrics. None: it isn't there."""
    otlp_endpoint: str | None = None
    """An OpenTelemetry collector's address; None: no traces."""
    console_token: str | None = field(default=None, repr=False)
    """What the console and its API ask for; None: only this machine has them."""
    twilio_account_sid: str | None = None
    twilio_auth_tokens: tuple[str, ...] = field(default=(), repr=False)
    """Any of them may sign."""
    allow_unsigned: bool = False

    @property
    def public_url(self) -> str | None:
        """The bridge's own address, as Twilio sees it."""
        return self.public_urls[0] if self.public_urls else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may not leave in a line of a log: tokens, a password, people's numbers."""
        urls = (self.leases_url or "", self.database_url or "")
        passwords = [urlsplit(url).password or "" for url in urls]
        secrets = (
            *self.twilio_auth_tokens,
            *passwords,
            *(unquote(password) for password in passwords),
            *(self.forward_to or "", self.personaplex_token or "", self.history_key or ""),
            self.console_token or "",
        )
        return tuple(secret for secret in secrets if secret)

    @property
    def keeps_history(self) -> bool:
        """Whether calls are kept: a bridge writes no file unless it is asked to."""
        return self.database_url is not None if self.history is None else self.history

    @property
    def overheard(self) -> tuple[ServerAddress, ...]:
        """The model servers that PERSONAPLEX_TOKEN reaches in plain text, over a network that may
        be anyone's.
        """
        if self.personaplex_token is None:
            return ()
        return tuple(server for server in self.servers if values.is_overheard(server.url))

    @property
    def servers(self) -> tuple[ServerAddress, ...]:
        """The model servers, each with its capacity."""
        return tuple(
            ServerAddress(server.url, server.capacity or self.personaplex_capacity)
            for server in self.personaplex_servers
        )


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in an environment. An empty value counts as unset.

    Raises:
        ConfigError: names every wrong value and what is allowed.
    """
    defaults = Settings()
    reader = Reader(environ, _SECRETS)
    get = reader.get
    settings = Settings(
        host=get("HOST", values.host, defaults.host),
        port=get("PORT", values.integer(0, 65535), defaults.port),
        public_urls=get("PUBLIC_URL", values.listed(values.public_url), ()),
        trusted_proxies=get(
            "TRUSTED_PROXIES", values.listed(values.network), defaults.trusted_proxies
        ),
        personaplex_servers=get("PERSONAPLEX_URL", values.server_addresses, ()),
        personaplex_tls_verify=get("PERSONAPLEX_TLS_VERIFY", values.flag, True),
        personaplex_token=get("PERSONAPLEX_TOKEN", values.bearer_token, None),
        personaplex_capacity=get(
            "PERSONAPLEX_CAPACITY",
            values.integer(1, values.MAX_CAPACITY),
            defaults.personaplex_capacity,
        ),
        handshake_timeout_s=get(
            "HANDSHAKE_TIMEOUT", values.seconds(0.1, 600), defaults.handshake_timeout_s
        ),
        warm_lines=get("WARM_LINES", values.flag, defaults.warm_lines),
        leases_url=get("LEASES_URL", values.redis_url, None),
        lease_ttl_s=get("LEASE_TTL", values.seconds(2, 300), defaults.lease_ttl_s),
        when_busy=get("WHEN_BUSY", values.choice(WHEN_BUSY), defaults.when_busy),
        fallback=get("FALLBACK", values.choice(FALLBACKS), defaults.fallback),
        forward_to=get("FORWARD_TO", values.forward_target, None),
        recap=get("RECAP", values.flag, defaults.recap),
        queue_limit=get("QUEUE_LIMIT", values.integer(1, 1000), defaults.queue_limit),
        queue_timeout_s=get("QUEUE_TIMEOUT", values.seconds(5, 14_400), defaults.queue_timeout_s),
        hold_sound=get("HOLD_SOUND", values.existing_file, None),
        busy_words=get("BUSY_WORDS", values.words, defaults.busy_words),
        sorry_words=get("SORRY_WORDS", values.words, defaults.sorry_words),
        again_words=get("AGAIN_WORDS", values.words, defaults.again_words),
        voicemail_words=get("VOICEMAIL_WORDS", values.words, defaults.voicemail_words),
        say_language=get("SAY_LANGUAGE", values.language, defaults.say_language),
        start_timeout_s=get("START_TIMEOUT", values.seconds(1, 60), defaults.start_timeout_s),
        media_timeout_s=get("MEDIA_TIMEOUT", values.seconds(1, 3600), defaults.media_timeout_s),
        # Twilio ends a call after four hours.
        max_call_s=get("MAX_CALL", values.seconds(1, 14_400), defaults.max_call_s),
        max_calls=get("MAX_CALLS", values.integer(1, 10_000), defaults.max_calls),
        max_message_bytes=get(
            "MAX_MESSAGE_BYTES", values.integer(1024, 4 << 20), defaults.max_message_bytes
        ),
        max_header_bytes=get(
            "MAX_HEADER_BYTES", values.integer(1024, 65_536), defaults.max_header_bytes
        ),
        max_body_bytes=get(
            "MAX_BODY_BYTES", values.integer(4096, 4 << 20), defaults.max_body_bytes
        ),
        webhook_rate=get("WEBHOOK_RATE", values.integer(1, 100_000), defaults.webhook_rate),
        drain_timeout_s=get("DRAIN_TIMEOUT", values.seconds(0, 14_400), defaults.drain_timeout_s),
        drain_to=get("DRAIN_TO", values.public_url, None),
        persona=get("PERSONA", str, defaults.persona),
        personas_file=get("PERSONAS_FILE", values.existing_file, None),
        transcoder=get("TRANSCODER", values.choice(TRANSCODERS), defaults.transcoder),
        packets_per_page=get("PACKETS_PER_PAGE", values.one_of(1, 2, 4), defaults.packets_per_page),
        uplink_backlog_ms=get(
            "UPLINK_BACKLOG_MS", values.integer(80, 10_000), defaults.uplink_backlog_ms
        ),
        downlink_backlog_ms=get(
            "DOWNLINK_BACKLOG_MS", values.integer(80, 10_000), defaults.downlink_backlog_ms
        ),
        lag_target_ms=get(
            "LAG_TARGET_MS", values.or_off(values.integer(40, 10_000)), defaults.lag_target_ms
        ),
        noise_gate=get("NOISE_GATE", values.choice(NOISE_GATES), defaults.noise_gate),
        cushion=get("CUSHION", values.flag, defaults.cushion),
        barge_in=get("BARGE_IN", values.flag, defaults.barge_in),
        ringback=get("RINGBACK", _ringback, defaults.ringback),
        history=get("HISTORY", values.flag, None),
        database_url=get("DATABASE_URL", values.database_url, None),
        history_key=get("HISTORY_KEY", values.key, None),
        history_transcripts=get("HISTORY_TRANSCRIPTS", values.flag, defaults.history_transcripts),
        retention_days=get(
            "RETENTION_DAYS", values.or_off(values.integer(1, 3650)), defaults.retention_days
        ),
        state_dir=get("STATE_DIR", values.folder, defaults.state_dir),
        recording=get("RECORDING", values.flag, defaults.recording),
        recordings_folder=get("RECORDINGS_FOLDER", values.folder, defaults.recordings_folder),
        recording_days=get("RECORDING_DAYS", values.integer(1, 36_500), defaults.recording_days),
        recording_words=get(
            "RECORDING_WORDS", values.or_off(values.words), defaults.recording_words
        ),
        log_level=get("LOG_LEVEL", values.choice(LOG_LEVELS), defaults.log_level),
        log_format=get("LOG_FORMAT", values.choice(LOG_FORMATS), defaults.log_format),
        metrics_allow=get(
            "METRICS_ALLOW", values.or_off(values.listed(values.network)), defaults.metrics_allow
        ),
        otlp_endpoint=get("OTEL_EXPORTER_OTLP_ENDPOINT", values.http_url, None),
        console_token=get("CONSOLE_TOKEN", values.long_token, None),
        twilio_account_sid=get("TWILIO_ACCOUNT_SID", values.account_sid, None),
        twilio_auth_tokens=get("TWILIO_AUTH_TOKEN", values.secrets, ()),
        allow_unsigned=get("ALLOW_UNSIGNED", values.flag, defaults.allow_unsigned),
    )
    wrong = reader.wrong + _contradictions(settings)
    if wrong:
        raise ConfigError(*wrong)
    return settings


def _contradictions(settings: Settings) -> list[WrongValue]:
    """Values that are right by themselves, but not together."""
    wrong = []
    for variable, chosen in (("WHEN_BUSY", settings.when_busy), ("FALLBACK", settings.fallback)):
        if chosen == "forward" and settings.forward_to is None:
            wrong.append(WrongValue(variable, chosen, "with FORWARD_TO set to a number only"))
    if settings.drain_to is not None and settings.drain_to in settings.public_urls:
        allowed = "another bridge's address, none of those in PUBLIC_URL: callers would come back"
        wrong.append(WrongValue("DRAIN_TO", settings.drain_to, allowed))
    signed = settings.twilio_auth_tokens or settings.allow_unsigned
    if settings.host not in LOOPBACK_HOSTS and not signed:
        allowed = (
            "without TWILIO_AUTH_TOKEN only an address of this machine alone, such as 127.0.0.1: "
            "anyone could call; set the token, or ALLOW_UNSIGNED=yes if that is meant"
        )
        wrong.append(WrongValue("HOST", settings.host, allowed))
    return wrong


def _ringback(value: str) -> str | Path | None:
    name = value.lower()
    if name == "off":  # not `values.flag`: "no" is Norway
        return None
    if name in RINGBACK_COUNTRIES:
        return name
    try:
        return values.existing_file(value)
    except ValueError:
        countries = ", ".join(RINGBACK_COUNTRIES)
        raise ValueError(
            f"off, the path of a sound file that exists, or a country: {countries}"
        ) from None
