"""Settings out of the environment."""

import contextlib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.config import Settings, read_settings
from personaplex_bridge.errors import ConfigError

SID = "AC" + "0123456789abcdefABCDEF0123456789"
TOKEN = "f00dfacef00dfacef00dfacef00dface"
VARIABLES = {
    "HOST": "host",
    "PORT": "port",
    "PUBLIC_URL": "public_url",
    "PERSONAPLEX_URL": "personaplex_url",
    "PERSONAPLEX_TLS_VERIFY": "personaplex_tls_verify",
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
    "LOG_LEVEL": "log_level",
    "TWILIO_ACCOUNT_SID": "twilio_account_sid",
    "TWILIO_AUTH_TOKEN": "twilio_auth_token",
}
"""Every variable, and the setting it gives."""


def test_every_setting_has_its_variable() -> None:
    assert sorted(VARIABLES.values()) == sorted(field.name for field in fields(Settings))


def test_defaults() -> None:
    assert read_settings({}) == Settings()
    assert read_settings(dict.fromkeys(VARIABLES, "")) == Settings()
    assert read_settings(dict.fromkeys(VARIABLES, " \t ")) == Settings()
    assert read_settings({"PATH": "/bin", "port": "1"}) == Settings()


GOOD: list[tuple[str, str, object]] = [
    ("HOST", "0.0.0.0", "0.0.0.0"),
    ("HOST", "::", "::"),
    ("HOST", " bridge.local ", "bridge.local"),
    ("PORT", "0", 0),
    ("PORT", "65535", 65535),
    ("PORT", "08080", 8080),
    ("PUBLIC_URL", "https://bridge.example", "https://bridge.example"),
    ("PUBLIC_URL", "https://bridge.example/", "https://bridge.example"),
    ("PUBLIC_URL", "HTTPS://bridge.example:8443", "https://bridge.example:8443"),
    ("PUBLIC_URL", "http://localhost:8080", "http://localhost:8080"),
    ("PUBLIC_URL", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ("PUBLIC_URL", "http://[::1]:8080", "http://[::1]:8080"),
    ("PERSONAPLEX_TLS_VERIFY", "yes", True),
    ("PERSONAPLEX_TLS_VERIFY", "TRUE", True),
    ("PERSONAPLEX_TLS_VERIFY", "1", True),
    ("PERSONAPLEX_TLS_VERIFY", "No", False),
    ("PERSONAPLEX_TLS_VERIFY", "off", False),
    ("PERSONAPLEX_TLS_VERIFY", "0", False),
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
    ("LOG_LEVEL", "debug", "DEBUG"),
    ("LOG_LEVEL", "ERROR", "ERROR"),
    ("TWILIO_ACCOUNT_SID", SID, SID),
    ("TWILIO_AUTH_TOKEN", TOKEN, TOKEN),
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
    assert settings.personaplex_url == f"{normal}://{host}/api/chat"


@pytest.mark.parametrize("path", ["/pod-7", "/pod-7/", "/pod-7/api/chat"])
def test_personaplex_url_behind_a_prefix(path: str) -> None:
    settings = read_settings({"PERSONAPLEX_URL": f"wss://{SERVER}{path}"})
    assert settings.personaplex_url == f"wss://{SERVER}/pod-7/api/chat"


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
    ("LOG_LEVEL", "loud", "DEBUG, INFO, WARNING, ERROR"),
    ("TWILIO_ACCOUNT_SID", "AC123", "AC followed by"),
    ("TWILIO_ACCOUNT_SID", SID.replace("AC", "CA"), "AC followed by"),
]


@pytest.mark.parametrize(("variable", "value", "allowed"), BAD, ids=lambda value: value[:30])
def test_bad_values_are_named_with_what_is_allowed(variable: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({variable: value})
    (wrong,) = caught.value.wrong
    shown = "(hidden)" if "@" in value else value  # it holds a password
    assert (wrong.variable, wrong.value) == (variable, shown)
    assert allowed in wrong.allowed
    assert str(caught.value) == f"{variable}={shown!r} is not allowed: {wrong.allowed}"


def test_every_checked_variable_has_a_good_and_a_bad_example() -> None:
    urls = {"PERSONAPLEX_URL"}
    assert {variable for variable, *_ in GOOD} | urls == set(VARIABLES)
    unchecked = {"PERSONA"}  # needs the catalogue
    secret = {"TWILIO_AUTH_TOKEN"}
    assert {variable for variable, *_ in BAD} | unchecked | secret == set(VARIABLES)


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


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


@given(st.sampled_from(sorted(VARIABLES)), st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_gives_settings_or_a_config_error(variable: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(read_settings({variable: value}), Settings)
