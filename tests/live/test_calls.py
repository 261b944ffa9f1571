"""Whole calls over real sockets, from webhook to hang-up.

In virtual time: computing takes none, so every delay is exact. One call is in real time, with the
clock and the event loop that callers get.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest

from personaplex_bridge.audio.ringback import waiting_sound
from personaplex_bridge.clock import SYSTEM_CLOCK
from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.record import EndedBy
from personaplex_bridge.simulator.alignment import find_speech
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.faults import CallFaults
from personaplex_bridge.simulator.ledger import count_frames
from personaplex_bridge.simulator.model import ModelOptions
from tests.live.harness import CLOCK, COLD, bridge_to, full_line, speech, standin, until
from tests.virtual import in_virtual_time

PLAN = CallPlan("", speech()[:80_000], hang_up_after_s=12.0)
STEP_MS = 40
WORD_MS = 60 + STEP_MS + 20
"""From the caller's mouth to their ear: until the model's frame is whole, the model's step, and
until the phone's next frame.
"""

SPARED_MS = 61
"""So much may stay of what was waiting when the model became ready: not worth a pause."""


@pytest.mark.parametrize("packets_per_page", [1, 2, 4])
@pytest.mark.parametrize(("transcoder", "codec_ms"), [("native", 9), ("soxr", 9 + 2 * 80)])
@pytest.mark.parametrize("prompt_ms", [0, 900])
@in_virtual_time
async def test_what_the_caller_says_comes_back_in_time(
    transcoder: str, codec_ms: int, packets_per_page: int, prompt_ms: int
) -> None:
    """However long the model took to be ready. (soxr holds 50 ms back twice, which costs a model
    frame each time.)
    """
    settings = dataclasses.replace(COLD, transcoder=transcoder, packets_per_page=packets_per_page)
    options = ModelOptions("echo", prompt_ms=prompt_ms, step_ms=STEP_MS)
    async with full_line(options, settings) as (line, _):
        report = await line.call(PLAN)
        record = await line.record()
    assert report.problems == []
    # soxr gives what it has in lumps: one may come late.
    assert sum(gap.ms for gap in report.gaps) <= (20 if transcoder == "soxr" else 0)
    assert record.ending is not None
    assert record.ending.by is EndedBy.CALLER
    matches = find_speech(PLAN.speech, bytes(report.heard))
    assert len(matches) >= 4
    assert all(match.correlation > 0.9 for match in matches)
    delays_ms = [match.delay_s * 1000 for match in matches]
    assert max(delays_ms) - min(delays_ms) < 1
    spared_ms = delays_ms[0] - WORD_MS - codec_ms
    assert -1 < spared_ms < (SPARED_MS if prompt_ms else 1)


@in_virtual_time
async def test_not_a_frame_is_lost_or_doubled() -> None:
    async with full_line(ModelOptions("echo", prompt_ms=0)) as (line, model):
        report = await line.call(PLAN)
        record = await line.record()
    ledger = count_frames(report, record, model.sessions[0])
    assert ledger.phone_sent == ledger.bridge_encoded == ledger.model_heard == 600
    assert ledger.model_said - ledger.under_way == ledger.bridge_sent == ledger.phone_received
    assert ledger.uplink_difference == 0
    assert ledger.downlink_difference == 0


async def test_a_call_as_shipped_in_real_time() -> None:
    settings = Settings()
    sound = waiting_sound(settings.ringback)
    options = ModelOptions("echo", prompt_ms=300)
    async with full_line(options, settings, SYSTEM_CLOCK, sound) as (line, model):
        plan = CallPlan("", speech()[:32_000], hang_up_after_s=5.0)
        report = await line.call(plan, SYSTEM_CLOCK)
        record = await line.record()
        session = model.sessions[0]
    assert report.problems == []
    assert 4.5 < record.duration_s < 6.0
    ledger = count_frames(report, record, session)
    assert ledger.uplink_difference == 0
    assert ledger.downlink_difference == 0
    matches = find_speech(plan.speech, bytes(report.heard))
    broken = [match for match in matches if not match.found]
    assert len(matches) >= 3
    assert len(broken) <= report.underruns  # pauses that a busy machine puts in


@in_virtual_time
async def test_the_model_takes_in_its_prompts_while_the_phone_connects() -> None:
    async with full_line(ModelOptions("echo", prompt_ms=400)) as (line, model):
        await line.call(dataclasses.replace(PLAN, faults=CallFaults(answer_after_s=0.5)))
        record = await line.record()
    assert record.handshake_s == pytest.approx(0, abs=0.001)
    assert record.shortened_frames == record.dropped_frames == 0
    assert len(model.sessions) == 1


@in_virtual_time
async def test_a_line_whose_stream_never_comes_is_free_again() -> None:
    async with full_line(ModelOptions("silence", prompt_ms=0)) as (line, model):
        nobody = CallPlan("", b"", faults=CallFaults(never_connects=True))
        await line.call(nobody)
        assert (await line.call(nobody)).outcome == "rejected: busy"
        await asyncio.sleep(15.1)
        report = await line.call(CallPlan("", b"", hang_up_after_s=1.0))
        await line.record()
    assert report.media_messages > 0
    assert model.crowded == 0


@in_virtual_time
async def test_the_model_repeats_a_sentence_and_writes_text() -> None:
    async with full_line(ModelOptions("repeat", prompt_ms=500)) as (line, _):
        report = await line.call(CallPlan("", speech()[: 8000 * 5], quiet_s=1.0))
        record = await line.record()
    matches = find_speech(speech()[: 8000 * 5], bytes(report.heard))
    assert matches
    assert all(match.found for match in matches)
    text = " ".join(word.text for word in record.words)
    assert text.startswith("You spoke for ")
    assert text.endswith("here it is again: déjà vu!")


@in_virtual_time
async def test_what_is_said_before_the_handshake_is_kept_up_to_the_bound() -> None:
    settings = dataclasses.replace(COLD, uplink_backlog_ms=400)
    async with full_line(ModelOptions("silence", prompt_ms=2000), settings) as (line, model):
        report = await line.call(CallPlan("", PLAN.speech, hang_up_after_s=3.0))
        record = await line.record()
    session = model.sessions[0]
    assert session.eaten == 0, "nothing may be sent before the handshake"
    # The first second has pauses, and then words; of 100 frames, 20 were kept.
    assert record.shortened_frames > 0
    assert record.dropped_frames > 0
    assert record.shortened_frames + record.dropped_frames == pytest.approx(80, abs=4)
    at_once = [at for at in session.heard_at if at < session.heard_at[0] + 0.02]
    assert len(at_once) == 5
    ledger = count_frames(report, record, session)
    assert ledger.uplink_difference == 0


@in_virtual_time
async def test_keys_and_persona_arrive() -> None:
    async with full_line(ModelOptions("silence", prompt_ms=0)) as (line, model):
        line_url = f"{line.webhook}?persona=noir&voice=VARF0"
        keys = ((0.1, "1"), (0.2, "#"))
        plan = CallPlan(line_url, b"", keys=keys, hang_up_after_s=0.5)
        await PhoneCall(plan, CLOCK).run()
        record = await line.record()
    assert record.keys == "1#"
    assert record.persona == "noir"
    assert model.sessions[0].voice == "VARF0.pt"
    assert model.sessions[0].text_prompt == load_catalogue().get("noir").role.text_prompt


@in_virtual_time
async def test_the_called_number_chooses_the_persona() -> None:
    catalogue = load_catalogue()
    numbered = catalogue.extended(type(catalogue)({}, {"+15550100": "strategist"}))
    options = ModelOptions("silence", prompt_ms=0)
    async with standin(options) as (url, model), bridge_to(url, None, numbered) as line:
        await line.call(CallPlan("", b"", hang_up_after_s=0.3))
        await line.record()
    assert model.sessions[0].text_prompt == catalogue.get("strategist").role.text_prompt


@in_virtual_time
async def test_one_connection_to_a_model_server_ever() -> None:
    """The second caller gets a busy signal, and the third, after the first, a conversation."""
    async with full_line(ModelOptions("silence", prompt_ms=100)) as (line, model):
        plan = CallPlan("", b"", hang_up_after_s=2.0)
        first = asyncio.create_task(line.call(plan))
        await until(lambda: model.sessions[0].frames_in > 0 if model.sessions else False)
        second = await line.call(plan)
        await first
        await line.record()
        third = await line.call(plan)
        await line.record()
    assert second.outcome == "rejected: busy"
    assert third.media_messages > 0
    assert model.crowded == 0
    assert len(model.sessions) == 2


@in_virtual_time
async def test_calls_do_not_mix() -> None:
    settings = dataclasses.replace(COLD, personaplex_capacity=4)
    sound = speech()
    async with full_line(ModelOptions("echo", prompt_ms=0, sessions=4), settings) as (
        line,
        _,
    ):
        plans = [CallPlan("", sound[24_000 * n :][:32_000], hang_up_after_s=6.0) for n in range(4)]
        reports = await asyncio.gather(*(line.call(plan) for plan in plans))
        for _ in plans:
            await line.record()
    for plan, report in zip(plans, reports, strict=True):
        assert all(match.found for match in find_speech(plan.speech, bytes(report.heard)))


@in_virtual_time
async def test_nothing_private_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Numbers, prompts, transcripts, keys: not in any line from INFO up."""
    caplog.set_level(logging.INFO)
    async with full_line(ModelOptions("repeat", prompt_ms=0)) as (line, _):
        url = f"{line.webhook}?text_prompt=You+are+Mata+Hari."
        plan = CallPlan(url, speech()[: 8000 * 5], keys=((0.1, "7"),), quiet_s=1.0)
        await PhoneCall(plan, CLOCK).run()
        record = await line.record()
    assert len(record.words) > 5
    text = "\n".join(caplog.messages)
    assert "call begins" in text
    assert "call over" in text
    for private in ("5550111", "5550100", "Mata", "spoke", "déjà"):
        assert private not in text
