"""Which room may import which (docs/design.md): wire and audio rooms know nothing of calls, calls
nothing of the web.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import personaplex_bridge

ROOT = Path(personaplex_bridge.__file__).parent
BASE = {"errors", "config", "values", "reading", "clock"}
WIRE = {"twilio", "personaplex", "audio"}
STANDARD = sys.stdlib_module_names

# A room, its neighbours, and the packages that it may use beside the standard library.
# The longest name that fits counts.
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "values": (set(), set()),
    "reading": ({"errors"}, set()),
    "config": ({"errors", "values", "reading"}, set()),
    "clock": ({"errors"}, set()),
    "logs": (set(), set()),
    "signals": (set(), set()),
    "memory": (set(), set()),
    "loops": (set(), set()),
    "findings": (set(), set()),
    "record": (set(), set()),
    "callers": ({"clock"}, set()),
    "history": (BASE | {"callers", "logs", "observing", "record"}, {"orjson", "sqlalchemy"}),
    "history.database": (BASE | {"callers"}, {"alembic", "orjson", "sqlalchemy"}),
    "history.migrations": (set(), {"alembic", "sqlalchemy"}),
    "observing": ({"logs", "record"}, set()),
    "twilio": ({"errors", "config", "values", "logs"}, {"aiohttp", "orjson", "twilio"}),
    "personaplex": ({"errors", "config", "values", "logs"}, {"websockets"}),
    "audio": (
        {"errors"},
        {"numpy", "opuslib", "pyogg", "soundfile", "soxr", "webrtcvad"},
    ),
    "personas": ({"errors", "config", "personaplex.voices", "twilio.twiml"}, set()),
    "recording": (BASE | {"audio", "logs"}, {"numpy"}),
    "hearing": (BASE | WIRE, set()),
    "speaking": (BASE | WIRE | {"recording.tape"}, set()),
    "accounts": ({"audio", "record", "hearing", "speaking"}, set()),
    "recovery": ({"errors", "personaplex.voices"}, set()),
    "conversation": (BASE | WIRE | {"logs", "loops", "record", "hearing", "speaking"}, set()),
    "session": (
        BASE
        | WIRE
        | {"accounts", "conversation", "hearing", "logs", "loops", "personas", "record"}
        | {"recording", "recovery", "speaking"},
        set(),
    ),
    "pool": (BASE | {"logs", "personaplex"}, set()),
    "pool.probing": (BASE, {"aiohttp"}),
    "pool.redis_leases": (BASE | {"logs"}, {"redis"}),
    # Of the web's rooms only the hosting of an application: the gate's image has no other packages.
    "gate": (
        BASE - {"config"}
        | {"logs", "signals", "personaplex.voices", "personaplex.messages", "runpod.api"}
        | {"web.hosting"},
        {"aiohttp"},
    ),
    "web": (
        BASE
        | {
            "callers",
            "memory",
            "logs",
            "observing",
            "personas",
            "record",
            "recording.recorder",
            "session",
            "pool",
            "twilio",
            "personaplex.voices",
        }
        | {"audio.format", "audio.hold"},
        {"aiohttp"},
    ),
    "runpod": ({"errors", "values", "reading", "logs"}, {"aiohttp"}),
    "simulator.runpod.openapi": ({"errors"}, {"aiohttp", "jsonschema"}),
    "numbers": (BASE | {"findings", "twilio", "web.paths"}, {"aiohttp", "orjson", "twilio"}),
    "dev": (BASE, {"aiohttp", "orjson", "ngrok"}),
    "dev.chain": (BASE | {"findings", "logs", "numbers"}, set()),
    "telemetry": (
        BASE
        | {"logs", "observing", "pool", "record", "web.forwarded", "web.observed", "web.paths"}
        | {"__version__"},
        {"aiohttp", "opentelemetry", "prometheus_client"},
    ),
    "console": (
        BASE
        | {"audio.mulaw", "logs", "observing", "personaplex.voices", "personas", "pool", "record"}
        | {"session", "twilio.twiml", "web", "__version__"},
        {"aiohttp", "numpy", "orjson"},
    ),
    "phone": (
        BASE
        | {"logs", "personas", "personaplex.voices", "record", "twilio.twiml", "web.browsers"}
        | {"web.paths", "audio.format"}
        | {"console.access", "console.headers", "console.problems"},
        {"aiohttp", "twilio"},
    ),
    "vendor": ({"console.headers", "console.problems", "phone.assets"}, {"aiohttp"}),
    "simulator": (
        BASE | WIRE | {"logs", "record"},
        {"aiohttp", "matplotlib", "multidict", "numpy", "yarl"},
    ),
}
# The console command and what it runs put everything together.
ABOVE = {
    *("cli", "cli.bridge", "cli.common", "cli.dev", "cli.env_file", "cli.gate"),
    *("cli.history", "cli.rehearse", "cli.renting", "cli.runpod", "cli.simulate"),
    *("cli.twilio", "cli.types", "dev.command", "doctor", "doctor.phone", "rehearsal"),
    *("past_calls", "serve", "simulator.demo", "__main__", ""),
}
SYNCHRONOUS = {
    *(
        "audio",
        "recording.tape",
        "personas",
        "pool.health",
        "pool.usual",
        "personaplex.messages",
        "personaplex.protocol",
        "personaplex.text",
    ),
    *("personaplex.voices", "twilio.fields", "twilio.inbound", "twilio.outbound"),
    *("twilio.pace", "twilio.protocol", "twilio.signature", "twilio.twiml"),
    *("web.tickets", "web.rates"),
    *("gate.access", "gate.asked", "gate.pages", "gate.steps", "personaplex.refusals"),
}
SOCKETS = {"asyncio", "aiohttp", "websockets", "socket", "ssl", "threading", "time"}


def name_of(path: Path) -> str:
    """`audio.ogg` for src/personaplex_bridge/audio/ogg.py, `audio` for its __init__.py."""
    return (
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").strip(".")
    )


def is_in(module: str, rooms: set[str]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def imports_of(path: Path) -> Iterator[str]:
    """Absolute names; `from personaplex_bridge import logs` gives personaplex_bridge.logs."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            within = node.module == "personaplex_bridge"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names if within else [node.module or ""]


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ABOVE])
def test_a_room_imports_its_neighbours_only(module: str) -> None:
    rooms = [room for room in ROOMS if is_in(module, {room})]
    assert rooms, "a new module: give it a place in the table"
    neighbours, packages = ROOMS[max(rooms, key=len)]
    for imported in imports_of(MODULES[module]):
        package, _, ours = imported.partition(".")
        if package == "personaplex_bridge":
            assert is_in(ours, neighbours | {module.partition(".")[0]}), imported
        else:
            assert package in STANDARD | packages, imported


@pytest.mark.parametrize("module", [name for name in MODULES if is_in(name, SYNCHRONOUS)])
def test_what_is_synchronous_knows_no_sockets_and_no_clocks(module: str) -> None:
    assert not {imported.partition(".")[0] for imported in imports_of(MODULES[module])} & SOCKETS


def test_the_tables_name_what_exists() -> None:
    assert set(ROOMS) | ABOVE <= set(MODULES)
    assert set(MODULES) >= SYNCHRONOUS
