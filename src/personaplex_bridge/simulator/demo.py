"""`personaplex-bridge demo`: a whole call on this machine, through real sockets.

Caller's stand-in, bridge and model's stand-in run in one process, but talk only over WebSockets
and HTTP on the loopback address, as they would over the internet.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.files import read_as_mulaw, write_wav
from personaplex_bridge.audio.ringback import waiting_sounds
from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.pool import make_pool
from personaplex_bridge.record import CallRecord, phrases
from personaplex_bridge.recording.recorder import Recorder
from personaplex_bridge.simulator.alignment import Match, find_speech
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.conversation import ModelSession
from personaplex_bridge.simulator.faults import NO_CALL_FAULTS, CallFaults
from personaplex_bridge.simulator.ledger import Ledger, count_frames
from personaplex_bridge.simulator.model import ModelOptions, ModelServer
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.values import CHAT_PATH, ServerAddress
from personaplex_bridge.web.bridge import Bridge
from personaplex_bridge.web.hosting import hosted
from personaplex_bridge.web.paths import WEBHOOK_PATH

HOST = "127.0.0.1"
PROGRESS_S = 0.2
METER = " ▁▂▃▄▅▆▇█"
PATIENCE_S = 60.0
RECORD_TIMEOUT_S = 2.0
"""How long the bridge may take to close a call after the caller hung up."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo is to do."""

    sound: Path
    folder: Path
    repeat: int = 1
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    faults: CallFaults = NO_CALL_FAULTS
    record: bool = False
    """As RECORDING=yes does, into the folder."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """One finished call, seen from all three programs."""

    speech: bytes
    phone: PhoneReport
    record: CallRecord
    model: ModelSession
    ledger: Ledger
    matches: list[Match]

    @property
    def went_well(self) -> bool:
        """No frame was lost or doubled, and a model that is to repeat was heard repeating."""
        lost = self.ledger.uplink_difference + self.ledger.downlink_difference
        return lost == 0 and (not self.matches or any(match.found for match in self.matches))


async def run_demo(options: DemoOptions, settings: Settings) -> DemoResult:
    """Make the call, showing progress, and write the folder.

    Raises:
        AudioError: the sound file, or that of RINGBACK, is not usable.
        PersonaError: PERSONA or PERSONAS_FILE is not usable.
    """
    speech = read_as_mulaw(options.sound, options.repeat)
    options.folder.mkdir(parents=True, exist_ok=True)
    result = await _call(speech, options, settings)
    if (recording := result.record.recording) is not None:
        recording.replace(options.folder / "recording.opus")
        recording.parent.rmdir()
    _write_folder(options.folder, result)
    return result


async def _call(speech: bytes, options: DemoOptions, settings: Settings) -> DemoResult:
    over: asyncio.Future[CallRecord] = asyncio.get_running_loop().create_future()
    model = ModelServer(options.model)
    catalogue = load_catalogue(settings.personas_file)
    persona = catalogue.get(settings.persona)
    async with contextlib.AsyncExitStack() as stack:
        model_port = await stack.enter_async_context(hosted(model.application(), HOST, 0))
        # As `serve` makes them, but for the address. The call comes at once: a line that is to be
        # warm is so only if the model takes in its prompts faster than the phone connects.
        server = ServerAddress(f"ws://{HOST}:{model_port}{CHAT_PATH}")
        pool = make_pool(settings, [server], persona.role)
        recorder = None
        if options.record:
            recorder = Recorder(options.folder, settings.recording_days)
            await stack.enter_async_context(recorder.running())
        bridge = Bridge(
            settings,
            catalogue,
            pool,
            over.set_result,
            waiting_sounds=waiting_sounds(settings.ringback),
            recorder=recorder,
        )
        async with hosted(bridge.application(), HOST, 0) as port:
            url = f"http://{HOST}:{port}{WEBHOOK_PATH}"
            phone = PhoneCall(CallPlan(url, speech, patience_s=PATIENCE_S, faults=options.faults))
            progress = asyncio.create_task(_show_progress(phone, bridge, speech), name="progress")
            try:
                report = await phone.run()
                record = await asyncio.wait_for(over, RECORD_TIMEOUT_S)
            finally:
                progress.cancel()
                await asyncio.gather(progress, return_exceptions=True)
    session = model.sessions[0]
    repeats = options.model.behave in ("repeat", "echo")
    matches = find_speech(speech, bytes(report.heard)) if repeats else []
    ledger = count_frames(report, record, session)
    return DemoResult(speech, report, record, session, ledger, matches)


async def _show_progress(phone: PhoneCall, bridge: Bridge, speech: bytes) -> None:
    """One line, rewritten in place on a terminal; one line every five seconds elsewhere."""
    live = sys.stdout.isatty()
    ticks = 0
    with contextlib.suppress(ValueError):  # standard output was closed
        while True:
            line = _progress_line(phone.report, bridge, speech)
            if live:
                print(f"\r\x1b[K{line}", end="", flush=True)
            elif ticks % 25 == 0:
                print(line, flush=True)
            ticks += 1
            try:
                await asyncio.sleep(PROGRESS_S)
            finally:
                if live:
                    print("\r\x1b[K", end="", flush=True)


def _progress_line(report: PhoneReport, bridge: Bridge, speech: bytes) -> str:
    now = len(report.heard)
    caller = _meter(speech[max(0, now - 1600) : now])
    hears = _meter(bytes(report.heard[-1600:]))
    words = [word.text for record in bridge.records for word in list(record.words)[-8:]]
    said = f'  model\'s text: "{" ".join(words)}"' if words else ""
    return f"  {now / 8000:5.1f} s   caller says {caller}   caller hears {hears}{said}"


def _meter(sound: bytes) -> str:
    if not sound:
        return METER[0]
    peak = int(np.abs(mulaw.decode(sound).astype(np.int32)).max())
    # A step for every 6 dB.
    return METER[min(len(METER) - 1, max(0, peak.bit_length() - 6))]


def _write_folder(folder: Path, result: DemoResult) -> None:
    from personaplex_bridge.simulator.timeline import draw_timeline

    heard, record = bytes(result.phone.heard), result.record
    caller = result.speech[: len(heard)]
    write_wav(folder / "caller.wav", caller)
    write_wav(folder / "heard.wav", heard)
    write_wav(folder / "stereo.wav", caller, heard)
    transcript = [f"{at_s:7.2f}  {phrase}" for at_s, phrase in phrases(record.words)]
    (folder / "transcript.txt").write_text("\n".join([*transcript, ""]), "utf-8")
    draw_timeline(folder / "timeline.png", caller, heard, list(record.words), record.handshake_s)
    (folder / "report.txt").write_text("\n".join([*report_lines(result), ""]), "utf-8")
    (folder / "report.json").write_text(json.dumps(_figures(result), indent=2) + "\n", "utf-8")


def report_lines(result: DemoResult) -> list[str]:
    """The short report."""
    phone, record = result.phone, result.record
    lines = [
        f"the call lasted {record.duration_s:.1f} s; {phone.outcome}",
        f"webhook answered in {phone.webhook_s * 1000:.0f} ms; model ready "
        f"{_ms(record.handshake_s)} and its first audio at the bridge {_ms(record.first_audio_s)} "
        "after the stream's start",
        *result.ledger.lines(),
        f"pauses in what the caller heard for want of media: {phone.underruns}, in the middle of "
        f"sound: {len(phone.gaps)} ({sum(gap.ms for gap in phone.gaps):.0f} ms in all)",
    ]
    if result.matches:
        lines.append(_told_of_speech(result))
    return lines + [f"Twilio would complain: {problem}" for problem in phone.problems]


def _told_of_speech(result: DemoResult) -> str:
    found = [match for match in result.matches if match.found]
    told = f"of {len(result.matches)} seconds in which the caller spoke, {len(found)} came back"
    if not found:
        return told
    correlation = median(match.correlation for match in found)
    delay_s = median(match.delay_s for match in found)
    return f"{told} (median correlation {correlation:.3f}, median delay {delay_s:.2f} s)"


def _figures(result: DemoResult) -> dict[str, object]:
    phone, record = result.phone, result.record
    return {
        "duration_s": round(record.duration_s, 3),
        "outcome": phone.outcome,
        "webhook_s": round(phone.webhook_s, 4),
        "handshake_s": record.handshake_s,
        "first_audio_s": record.first_audio_s,
        "underruns": phone.underruns,
        "gaps": [gap._asdict() for gap in phone.gaps],
        "clears": [cleared._asdict() for cleared in phone.clears],
        "problems": phone.problems,
        "frames": dataclasses.asdict(result.ledger),
        "lost_or_doubled": {
            "uplink": result.ledger.uplink_difference,
            "downlink": result.ledger.downlink_difference,
        },
        "speech": [dataclasses.asdict(match) for match in result.matches],
        "transcript": [dataclasses.asdict(word) for word in record.words],
    }


def _ms(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1000:.0f} ms"
