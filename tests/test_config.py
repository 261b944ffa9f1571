"""Settings out of the environment."""

import contextlib
from dataclasses import FrozenInstanceError, fields
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.errors import ConfigError
from personaplex_bridge.values import ServerAddress

SID = "AC" + "0123456789abcdefABCDEF0123456789"
TOKEN = "f00dfacef00dfacef00dfacef00dface"
VARIABLES = {
    "HOST": "host",
    "PORT": "port",
    "PUBLIC_URL": "public_urls",
    "PERSONAPLEX_URL": "personaplex_servers",
    "PERSONAPLEX_TLS_VERIFY": "personaplex_tls_verify",
    "PERSONAPLEX_TOKEN": "personaplex_token",
    "PERSONAPLEX_CAPACITY": "personaplex_capacity",
    "HANDSHAKE_TIMEOUT": "handshake_timeout_s",
    "PERSONA": "persona",
    "PERSONAS_FILE": "personas_file",
    "TRANSCODER": "transcoder",
    "PACKETS_PER_PAGE": "packets_per_page",
    "UPLINK_BACKLOG_MS": "uplink_backlog_ms",
    "DOWNLINK_BACKLOG_MS": "downlink_backlog_ms",
    "LAG_TARGET_MS": "lag_target_ms",
    "NOISE_GATE": "noise_gate",
    "BARGE_IN": "barge_in",
    "CUSHION": "cushion",
    "WARM_LINES": "warm_lines",
    "RINGBACK": "ringback",
    "RECORDING": "recording",
    "RECORDINGS_FOLDER": "recordings_folder",
    "RECORDING_DAYS": "recording_days",
    "RECORDING_WORDS": "recording_words",
    "LOG_LEVEL": "log_level",
    "LOG_FORMAT": "log_format",
    "METRICS_ALLOW": "metrics_allow",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "otlp_endpoint",
    "CONSOLE_TOKEN": "console_token",
    "TWILIO_ACCOUNT_SID": "twilio_account_sid",
    "TWILIO_AUTH_TOKEN": "twilio_auth_tokens",
    "TRUSTED_PROXIES": "trusted_proxies",
    "LEASES_URL": "leases_url",
    "LEASE_TTL": "lease_ttl_s",
    "WHEN_BUSY": "when_busy",
    "FALLBACK": "fallback",
    "FORWARD_TO": "forward_to",
    "RECAP": "recap",
    "QUEUE_LIMIT": "queue_limit",
    "QUEUE_TIMEOUT": "queue_timeout_s",
    "HOLD_SOUND": "hold_sound",
    "BUSY_WORDS": "busy_words",
    "SORRY_WORDS": "sorry_words",
    "AGAIN_WORDS": "again_words",
    "VOICEMAIL_WORDS": "voicemail_words",
    "SAY_LANGUAGE": "say_language",
    "START_TIMEOUT": "start_timeout_s",
    "MEDIA_TIMEOUT": "media_timeout_s",
    "MAX_CALL": "max_call_s",
    "MAX_CALLS": "max_calls",
    "MAX_MESSAGE_BYTES": "max_message_bytes",
    "MAX_HEADER_BYTES": "max_header_bytes",
    "MAX_BODY_BYTES": "max_body_bytes",
    "WEBHOOK_RATE": "webhook_rate",
    "DRAIN_TIMEOUT": "drain_timeout_s",
    "DRAIN_TO": "drain_to",
    "ALLOW_UNSIGNED": "allow_unsigned",
    "HISTORY": "history",
    "DATABASE_URL": "database_url",
    "HISTORY_KEY": "history_key",
    "HISTORY_TRANSCRIPTS": "history_transcripts",
    "RETENTION_DAYS": "retention_days",
    "STATE_DIR": "state_dir",
}
"""Every variable, and the setting it gives."""
SECRET = {
    *("TWILIO_AUTH_TOKEN", "LEASES_URL", "FORWARD_TO", "PERSONAPLEX_TOKEN"),
    *("DATABASE_URL", "HISTORY_KEY", "CONSOLE_TOKEN"),
}


def test_every_setting_has_its_variable() -> None:
    assert sorted(VARIABLES.values()) == sorted(field.name for field in fields(Settings))


def test_defaults() -> None:
    assert read_settings({}) == Settings()
    assert read_settings(dict.fromkeys(VARIABLES, "")) == Settings()
    assert read_settings(dict.fromkeys(VARIABLES, " \t ")) == Settings()
    assert read_settings({"PATH": "/bin", "port": "1"}) == Settings()


GOOD: list[tuple[str, str, object]] = [
    ("HOST", "localhost", "localhost"),
    ("HOST", "::1", "::1"),
    ("HOST", " 127.0.0.1 ", "127.0.0.1"),
    ("PORT", "0", 0),
    ("PORT", "65535", 65535),
    ("PORT", "08080", 8080),
    ("PUBLIC_URL", "https://bridge.example", ("https://bridge.example",)),
    ("PUBLIC_URL", "https://bridge.example/", ("https://bridge.example",)),
    ("PUBLIC_URL", "HTTPS://bridge.example:8443", ("https://bridge.example:8443",)),
    ("PUBLIC_URL", "http://localhost:8080", ("http://localhost:8080",)),
    ("PUBLIC_URL", "http://127.0.0.1:8080", ("http://127.0.0.1:8080",)),
    ("PUBLIC_URL", "http://[::1]:8080", ("http://[::1]:8080",)),
    ("PERSONAPLEX_TLS_VERIFY", "yes", True),
    ("PERSONAPLEX_TLS_VERIFY", "TRUE", True),
    ("PERSONAPLEX_TLS_VERIFY", "1", True),
    ("PERSONAPLEX_TLS_VERIFY", "No", False),
    ("PERSONAPLEX_TLS_VERIFY", "off", False),
    ("PERSONAPLEX_TLS_VERIFY", "0", False),
    ("PERSONAPLEX_TOKEN", "f00d-beef.x", "f00d-beef.x"),
    ("CONSOLE_TOKEN", "f00d-beef.f00d-b", "f00d-beef.f00d-b"),
    ("PERSONAPLEX_CAPACITY", "1", 1),
    ("PERSONAPLEX_CAPACITY", "1000", 1000),
    ("HANDSHAKE_TIMEOUT", "0.1", 0.1),
    ("HANDSHAKE_TIMEOUT", "600", 600.0),
    ("PERSONA", "noir", "noir"),
    ("PERSONAS_FILE", __file__, Path(__file__)),
    ("TRANSCODER", "native", "native"),
    ("TRANSCODER", "soxr", "soxr"),
    ("PACKETS_PER_PAGE", "1", 1),
    ("PACKETS_PER_PAGE", "2", 2),
    ("PACKETS_PER_PAGE", "4", 4),
    ("UPLINK_BACKLOG_MS", "80", 80),
    ("UPLINK_BACKLOG_MS", "10000", 10_000),
    ("DOWNLINK_BACKLOG_MS", "80", 80),
    ("DOWNLINK_BACKLOG_MS", "10000", 10_000),
    ("LAG_TARGET_MS", "40", 40),
    ("LAG_TARGET_MS", "10000", 10_000),
    ("LAG_TARGET_MS", "off", None),
    ("LAG_TARGET_MS", "OFF", None),
    ("NOISE_GATE", "off", "off"),
    ("NOISE_GATE", "auto", "auto"),
    ("NOISE_GATE", "strict", "strict"),
    ("BARGE_IN", "yes", True),
    ("BARGE_IN", "no", False),
    ("CUSHION", "off", False),
    ("CUSHION", "on", True),
    ("WARM_LINES", "on", True),
    ("WARM_LINES", "off", False),
    ("RINGBACK", "gb", "gb"),
    ("RINGBACK", "UK", "uk"),
    ("RINGBACK", "no", "no"),  # Norway
    ("RINGBACK", "off", None),
    ("RINGBACK", "Off", None),
    ("RINGBACK", __file__, Path(__file__)),
    ("RECORDING", "yes", True),
    ("RECORDINGS_FOLDER", "/var/lib/calls", Path("/var/lib/calls")),
    ("RECORDING_DAYS", "7", 7),
    ("RECORDING_WORDS", "OFF", None),
    ("RECORDING_WORDS", "Hello.", "Hello."),
    ("LOG_LEVEL", "debug", "DEBUG"),
    ("LOG_LEVEL", "ERROR", "ERROR"),
    ("LOG_FORMAT", "JSON", "json"),
    ("METRICS_ALLOW", "off", None),
    ("METRICS_ALLOW", "10.0.0.7, fd00::/8", (ip_network("10.0.0.7"), ip_network("fd00::/8"))),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/", "http://collector:4318"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/otlp", "https://c.example/otlp"),
    ("TWILIO_ACCOUNT_SID", SID, SID),
    ("TWILIO_AUTH_TOKEN", TOKEN, (TOKEN,)),
    ("TWILIO_AUTH_TOKEN", f"{TOKEN}, {SID}", (TOKEN, SID)),
    (
        "PUBLIC_URL",
        "https://a.example, https://b.example",
        ("https://a.example", "https://b.example"),
    ),
    ("TRUSTED_PROXIES", "10.0.0.0/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
    ("LEASES_URL", "redis://:secret@localhost:6379/0", "redis://:secret@localhost:6379/0"),
    ("LEASES_URL", "rediss://cache.example", "rediss://cache.example"),
    ("LEASES_URL", "unix:///run/redis.sock", "unix:///run/redis.sock"),
    ("LEASE_TTL", "2", 2.0),
    ("LEASE_TTL", "300", 300.0),
    ("WHEN_BUSY", "reject", "reject"),
    ("WHEN_BUSY", "Voicemail", "voicemail"),
    ("FALLBACK", "voicemail", "voicemail"),
    ("FORWARD_TO", "+15550100", "+15550100"),
    ("FORWARD_TO", "sip:desk@example.com", "sip:desk@example.com"),
    ("FORWARD_TO", "client:ann_1", "client:ann_1"),
    ("RECAP", "yes", True),
    ("QUEUE_LIMIT", "1", 1),
    ("QUEUE_LIMIT", "1000", 1000),
    ("QUEUE_TIMEOUT", "5", 5.0),
    ("QUEUE_TIMEOUT", "14400", 14_400.0),
    ("HOLD_SOUND", __file__, Path(__file__)),
    ("BUSY_WORDS", "Number {position}, please wait.", "Number {position}, please wait."),
    ("SORRY_WORDS", "Pardon.", "Pardon."),
    ("AGAIN_WORDS", "Bis gleich.", "Bis gleich."),
    ("VOICEMAIL_WORDS", "Speak.", "Speak."),
    ("SAY_LANGUAGE", "de-DE", "de-DE"),
    ("START_TIMEOUT", "1", 1.0),
    ("MEDIA_TIMEOUT", "3600", 3600.0),
    ("MAX_CALL", "14400", 14_400.0),
    ("MAX_CALLS", "10000", 10_000),
    ("MAX_MESSAGE_BYTES", "1024", 1024),
    ("MAX_HEADER_BYTES", "65536", 65_536),
    ("MAX_BODY_BYTES", "4096", 4096),
    ("WEBHOOK_RATE", "100000", 100_000),
    ("DRAIN_TIMEOUT", "0", 0.0),
    ("DRAIN_TO", "https://b.example/", "https://b.example"),
    ("ALLOW_UNSIGNED", "yes", True),
    ("HISTORY", "on", True),
    ("HISTORY", "off", False),
    ("DATABASE_URL", "sqlite:///calls.db", "sqlite+aiosqlite:///calls.db"),
    ("DATABASE_URL", "sqlite+aiosqlite:////var/calls.db", "sqlite+aiosqlite:////var/calls.db"),
    ("DATABASE_URL", "postgres://me:pw@db/calls", "postgresql+asyncpg://me:pw@db/calls"),
    ("DATABASE_URL", "postgresql://db:5433/calls", "postgresql+asyncpg://db:5433/calls"),
    (
        "DATABASE_URL",
        "postgresql+asyncpg://me@/calls?host=/run/postgresql",
        "postgresql+asyncpg://me@/calls?host=/run/postgresql",
    ),
    ("HISTORY_KEY", TOKEN, TOKEN),
    ("HISTORY_TRANSCRIPTS", "no", False),
    ("RETENTION_DAYS", "1", 1),
    ("RETENTION_DAYS", "off", None),
    ("STATE_DIR", "/no/such/folder/yet", Path("/no/such/folder/yet")),
]


@pytest.mark.parametrize(("variable", "value", "expected"), GOOD)
def test_good_values(variable: str, value: str, expected: object) -> None:
    assert getattr(read_settings({variable: value}), VARIABLES[variable]) == expected


SERVER = "gpu.example:8998"


@pytest.mark.parametrize(
    ("scheme", "normal"),
    [("ws", "ws"), ("wss", "wss"), ("http", "ws"), ("https", "wss"), ("WSS", "wss")],
)
@pytest.mark.parametrize("path", ["", "/", "/api/chat", "/api/chat/"])
@pytest.mark.parametrize("host", [SERVER, "gpu.example", "[::1]:8998", "10.0.0.7"])
def test_personaplex_url_in_all_forms(scheme: str, normal: str, path: str, host: str) -> None:
    settings = read_settings({"PERSONAPLEX_URL": f"{scheme}://{host}{path}"})
    (address,) = settings.servers
    assert address == ServerAddress(f"{normal}://{host}/api/chat", 1)


@pytest.mark.parametrize("path", ["/pod-7", "/pod-7/", "/pod-7/api/chat"])
def test_personaplex_url_behind_a_prefix(path: str) -> None:
    settings = read_settings({"PERSONAPLEX_URL": f"wss://{SERVER}{path}"})
    assert settings.servers == (ServerAddress(f"wss://{SERVER}/pod-7/api/chat", 1),)


@pytest.mark.parametrize(
    ("url", "overheard"),
    [
        ("ws://gpu.example.com:8998", True),
        ("http://8.8.8.8", True),
        ("wss://gpu.example.com", False),
        ("ws://127.0.0.1:8998", False),
        ("ws://[::1]:8998", False),
        ("ws://localhost", False),
        ("ws://10.0.0.7", False),
        ("ws://192.168.1.2", False),
        ("ws://model:8998", False),
        ("ws://gpu.internal", False),
    ],
)
def test_a_token_in_plain_text_is_noticed(url: str, overheard: bool) -> None:
    settings = read_settings({"PERSONAPLEX_URL": url, "PERSONAPLEX_TOKEN": "t0ken"})
    assert bool(settings.overheard) == overheard
    assert not read_settings({"PERSONAPLEX_URL": url}).overheard
    assert "t0ken" not in repr(settings)
    assert settings.secrets == ("t0ken",)


def test_several_model_servers_and_what_each_can_hold() -> None:
    settings = read_settings(
        {
            "PERSONAPLEX_URL": "ws://a:8998, ws://b:8998#capacity=4 https://c/",
            "PERSONAPLEX_CAPACITY": "2",
        }
    )
    assert settings.servers == (
        ServerAddress("ws://a:8998/api/chat", 2),
        ServerAddress("ws://b:8998/api/chat", 4),
        ServerAddress("wss://c/api/chat", 2),
    )


@pytest.mark.parametrize("variable", ["WHEN_BUSY", "FALLBACK"])
def test_forwarding_needs_a_number(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable}='forward' is not allowed: with FORWARD_TO"):
        read_settings({variable: "forward"})
    settings = read_settings({variable: "forward", "FORWARD_TO": "+15550199"})
    assert getattr(settings, VARIABLES[variable]) == "forward"


@pytest.mark.parametrize("own", ["https://a.example", "https://a.example, https://all.example"])
def test_callers_are_not_drained_to_the_bridge_itself(own: str) -> None:
    for drain_to in own.split(", "):
        with pytest.raises(ConfigError, match=f"DRAIN_TO='{drain_to}' is not allowed: another"):
            read_settings({"PUBLIC_URL": own, "DRAIN_TO": f"{drain_to}/"})
    settings = read_settings({"PUBLIC_URL": own, "DRAIN_TO": "https://b.example"})
    assert settings.drain_to == "https://b.example"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "bridge.local"])
def test_strangers_are_let_in_only_when_that_is_meant(host: str) -> None:
    with pytest.raises(ConfigError, match="ALLOW_UNSIGNED=yes"):
        read_settings({"HOST": host})
    for more in ({"ALLOW_UNSIGNED": "yes"}, {"TWILIO_AUTH_TOKEN": TOKEN}):
        assert read_settings({"HOST": host, **more}).host == host


BAD_URLS = ["localhost", "localhost:8998", "ws://", "ws:///api/chat", "://host", "ws://host:port",
            "ws://host:0", "ws://host:65536", "ws://[::1", "ws://user:word@host", "ws://host#part",
            "ws://two hosts"]  # fmt: skip
NUMBERS = ["-1", "1.5", "one", "٣", "1e3", "0x10", "+1", "1_0", "9" * 30, "9" * 5000,
           "0" * 20 + "99999999"]  # fmt: skip
BAD: list[tuple[str, str, str]] = [
    ("HOST", "http://0.0.0.0", "address or host name"),
    ("HOST", "0.0.0.0 :1", "address or host name"),
    *(("PORT", value, "from 0 to 65535") for value in [*NUMBERS, "65536"]),
    ("PUBLIC_URL", "http://bridge.example", "https://host"),
    ("PUBLIC_URL", "wss://bridge.example", "https://host"),
    ("PUBLIC_URL", "bridge.example", "https://host"),
    ("PUBLIC_URL", "https://bridge.example/voice", "https://host"),
    ("PUBLIC_URL", "https://bridge.example?a=1", "https://host"),
    *(("PUBLIC_URL", url.replace("ws:", "https:"), "https://host") for url in BAD_URLS),
    *(("PERSONAPLEX_URL", url, "/api/chat") for url in BAD_URLS),
    ("PERSONAPLEX_URL", "ftp://host", "/api/chat"),
    ("PERSONAPLEX_URL", "ws://host/api/chat?seed=1", "no query"),
    ("PERSONAPLEX_TLS_VERIFY", "perhaps", "yes or no"),
    *(("CONSOLE_TOKEN", value, "16 to 200") for value in ["f" * 15, "f" * 201, "f " * 9]),
    *(("PERSONAPLEX_TOKEN", value, "one token") for value in ["a b", "a,b", "t\u00f6ken"]),
    *(("PERSONAPLEX_CAPACITY", value, "from 1 to 1000") for value in [*NUMBERS, "0", "1001"]),
    *(
        ("HANDSHAKE_TIMEOUT", value, "seconds from 0.1 to 600")
        for value in ["0", "-1", "601", "nan", "inf", "soon"]
    ),
    ("PERSONAS_FILE", "/no/such/file.toml", "exists"),
    ("PERSONAS_FILE", "/", "exists"),
    ("PERSONAS_FILE", "~nobody-of-this-name/file.toml", "exists"),
    ("PERSONAS_FILE", "x" * 5000, "exists"),
    ("TRANSCODER", "sox", "native, soxr"),
    *(("PACKETS_PER_PAGE", value, "1, 2, 4") for value in [*NUMBERS, "0", "3", "8"]),
    *(("UPLINK_BACKLOG_MS", value, "80 to 10000") for value in [*NUMBERS, "79", "10001"]),
    *(("DOWNLINK_BACKLOG_MS", value, "80 to 10000") for value in [*NUMBERS, "79", "10001"]),
    *(
        ("LAG_TARGET_MS", value, "off, or a whole number from 40 to 10000")
        for value in [*NUMBERS, "39", "10001", "no", "none"]
    ),
    *(("NOISE_GATE", value, "off, auto, strict") for value in ["on", "yes", "automatic", "0"]),
    *(("CUSHION", value, "yes or no") for value in ["soft", "1.5"]),
    *(("BARGE_IN", value, "yes or no") for value in ["perhaps", "2"]),
    *(("WARM_LINES", value, "yes or no") for value in ["perhaps", "2"]),
    *(
        ("RINGBACK", value, "off, the path of a sound file that exists, or a country: at, au, be")
        for value in ["xx", "usa", "0", "/no/such/file.mp3", "/", "x" * 5000]
    ),
    ("PERSONAPLEX_URL", "ws://host#capacity=0", "1 to 1000"),
    ("PERSONAPLEX_URL", "ws://host#capacity=1001", "1 to 1000"),
    ("PERSONAPLEX_URL", "ws://host#capacity=2, ws://host", "once"),
    ("PERSONAPLEX_URL", ",", "1 to 100"),
    *(("TRUSTED_PROXIES", value, "10.0.0.0/8") for value in ["proxy", "10.0.0.0/33", "::g"]),
    *(("LEASES_URL", value, "redis://host") for value in ["localhost", "http://h", "redis://"]),
    *(("LEASE_TTL", value, "from 2 to 300") for value in ["1", "301"]),
    ("LOG_FORMAT", "xml", "text, json"),
    *(("METRICS_ALLOW", value, "off, or addresses") for value in ["open", "yes", "10.0.0.0/33"]),
    *(
        ("OTEL_EXPORTER_OTLP_ENDPOINT", value, "http:// or https://")
        for value in ["collector:4318", "grpc://c:4317", "http://me:word@c", "http://c?a=1"]
    ),
    ("WHEN_BUSY", "hold", "queue, reject, forward, voicemail"),
    ("FALLBACK", "queue", "hangup, forward, voicemail"),
    *(("FORWARD_TO", value, "+15550100") for value in ["5550100", "+1", "tel:1", "sip:", "+1 555"]),
    *(("FORWARD_TO", value, "client:ann") for value in ["client:", "client:a b", "ann"]),
    ("RECAP", "perhaps", "yes or no"),
    *(("QUEUE_LIMIT", value, "1 to 1000") for value in ["0", "1001"]),
    *(("QUEUE_TIMEOUT", value, "5 to 14400") for value in ["4", "14401"]),
    ("HOLD_SOUND", "/no/such/file.mp3", "exists"),
    *(
        (name, "a\nb", "printable")
        for name in ["BUSY_WORDS", "SORRY_WORDS", "AGAIN_WORDS", "VOICEMAIL_WORDS"]
    ),
    ("SORRY_WORDS", "x" * 501, "500"),
    *(("SAY_LANGUAGE", value, "en-US") for value in ["english", "e", "en_US"]),
    *(("START_TIMEOUT", value, "1 to 60") for value in ["0", "61"]),
    *(("MEDIA_TIMEOUT", value, "1 to 3600") for value in ["0", "3601"]),
    *(("MAX_CALL", value, "1 to 14400") for value in ["0", "14401"]),
    *(("MAX_CALLS", value, "1 to 10000") for value in ["0", "10001"]),
    *(("MAX_MESSAGE_BYTES", value, "1024 to") for value in ["1023", "5000000"]),
    *(("MAX_HEADER_BYTES", value, "1024 to 65536") for value in ["1023", "65537"]),
    *(("MAX_BODY_BYTES", value, "4096 to") for value in ["4095", "5000000"]),
    *(("WEBHOOK_RATE", value, "1 to 100000") for value in ["0", "100001"]),
    *(("DRAIN_TIMEOUT", value, "0 to 14400") for value in ["-1", "14401"]),
    ("DRAIN_TO", "http://b.example", "https://host"),
    ("ALLOW_UNSIGNED", "perhaps", "yes or no"),
    *(("HISTORY", value, "yes or no") for value in ["perhaps", "2"]),
    *(
        ("DATABASE_URL", value, "sqlite:///relative/file.db")
        for value in ["calls.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://db/c"]
    ),
    *(
        ("DATABASE_URL", value, "postgresql://user:password@host:5432/database")
        for value in ["postgresql://db", "postgresql:///calls", "postgresql://db:x/calls"]
    ),
    *(("HISTORY_KEY", value, "16 to 200") for value in ["short", "x" * 201, "with spaces in it"]),
    ("HISTORY_TRANSCRIPTS", "perhaps", "yes or no"),
    *(("RETENTION_DAYS", value, "off, or a whole number") for value in ["0", "3651", "month"]),
    *(("STATE_DIR", value, "folder") for value in [__file__, "x" * 5000]),
    ("RECORDING", "stereo", "yes or no"),
    ("RECORDING_WORDS", "two\nlines", "off, or up to 500 printable characters"),
    ("RECORDINGS_FOLDER", "/dev/null", "the path of a folder"),
    ("RECORDING_DAYS", "0", "1 to 36500"),
    ("LOG_LEVEL", "loud", "DEBUG, INFO, WARNING, ERROR"),
    ("TWILIO_ACCOUNT_SID", "AC123", "AC followed by"),
    ("TWILIO_ACCOUNT_SID", SID.replace("AC", "CA"), "AC followed by"),
]


@pytest.mark.parametrize(("variable", "value", "allowed"), BAD, ids=lambda value: value[:30])
def test_bad_values_are_named_with_what_is_allowed(variable: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({variable: value})
    (wrong,) = caught.value.wrong
    hidden = "@" in value or variable in SECRET  # it may hold a password
    shown = "(hidden)" if hidden else value
    assert (wrong.variable, wrong.value) == (variable, shown)
    assert allowed in wrong.allowed
    assert str(caught.value) == f"{variable}={shown!r} is not allowed: {wrong.allowed}"


def test_every_checked_variable_has_a_good_and_a_bad_example() -> None:
    urls = {"PERSONAPLEX_URL"}
    assert {variable for variable, *_ in GOOD} | urls == set(VARIABLES)
    unchecked = {"PERSONA"}  # needs the catalogue
    assert {variable for variable, *_ in BAD} | unchecked | {"TWILIO_AUTH_TOKEN"} == set(VARIABLES)


def test_all_that_is_wrong_is_told_at_once() -> None:
    wrong = {"PORT": "x", "TRANSCODER": "mp3", "LOG_LEVEL": "loud", "PERSONA": "noir"}
    with pytest.raises(ConfigError) as caught:
        read_settings(wrong)
    assert [value.variable for value in caught.value.wrong] == ["PORT", "TRANSCODER", "LOG_LEVEL"]
    lines = str(caught.value).splitlines()
    assert [line.partition("=")[0] for line in lines] == ["PORT", "TRANSCODER", "LOG_LEVEL"]


def test_the_auth_token_is_never_shown() -> None:
    assert TOKEN not in repr(read_settings({"TWILIO_AUTH_TOKEN": TOKEN}))
    half = TOKEN[:16]
    with pytest.raises(ConfigError) as caught:
        read_settings({"TWILIO_AUTH_TOKEN": f"{half} {half}", "PORT": "x"})
    assert "TWILIO_AUTH_TOKEN" in str(caught.value)
    assert half not in str(caught.value)
    assert half not in repr(caught.value.wrong)


def test_history_is_kept_only_if_that_is_asked_for() -> None:
    url = {"DATABASE_URL": "postgresql://me:hush-hush@db/calls"}
    assert not read_settings({}).keeps_history
    assert read_settings({"HISTORY": "on"}).keeps_history
    assert read_settings(url).keeps_history
    assert not read_settings({**url, "HISTORY": "off"}).keeps_history
    settings = read_settings({**url, "HISTORY_KEY": TOKEN})
    assert {"hush-hush", TOKEN} <= set(settings.secrets)
    assert "hush-hush" not in repr(settings)
    assert TOKEN not in repr(settings)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


@given(st.sampled_from(sorted(VARIABLES)), st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_gives_settings_or_a_config_error(variable: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(read_settings({variable: value}), Settings)
