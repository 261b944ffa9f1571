"""Whole calls over real sockets, from webhook to hang-up."""

from __future__ import annotations

import asyncio
import logging

import pytest

from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.record import EndedBy
from personaplex_bridge.simulator.alignment import find_speech
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.ledger import count_frames
from personaplex_bridge.simulator.model import ModelOptions
from tests.live.harness import CUSHION_MS, FAST, bridge_to, full_line, speech, standin, until

PLAN = CallPlan("", speech()[:80_000], hang_up_after_s=12.0)


@pytest.mark.parametrize("packets_per_page", [1, 2, 4])
@pytest.mark.parametrize("transcoder", ["native", "soxr"])
async def test_what_the_caller_says_comes_back(transcoder: str, packets_per_page: int) -> None:
    settings = Settings(transcoder=transcoder, packets_per_page=packets_per_page)
    async with full_line(ModelOptions("echo", prompt_ms=CUSHION_MS), settings) as (line, _):
        report = await line.call(PLAN)
        record = await line.record()
    assert report.problems == []
    assert record.ending is not None
    assert record.ending.by is EndedBy.CALLER
    matches = find_speech(PLAN.speech, bytes(report.heard))
    assert len(matches) >= 4
    assert all(match.correlation > 0.9 for match in matches)
    # One delay throughout: nothing was lost or doubled on the way.
    delays = [match.delay_s for match in matches]
    assert max(delays) - min(delays) < 0.02


async def test_not_a_frame_is_lost_or_doubled() -> None:
    async with full_line(ModelOptions("echo", prompt_ms=CUSHION_MS)) as (line, model):
        report = await line.call(PLAN)
        record = await line.record()
    ledger = count_frames(report, record, model.sessions[0])
    assert ledger.phone_sent == 600
    assert ledger.bridge_dropped == 0
    assert ledger.bridge_unsent == 600 - ledger.bridge_encoded < 4
    assert ledger.uplink_difference == 0
    assert ledger.downlink_difference == 0


async def test_the_model_repeats_a_sentence_and_writes_text() -> None:
    async with full_line(ModelOptions("repeat", prompt_ms=CUSHION_MS)) as (line, _):
        report = await line.call(CallPlan("", speech()[: 8000 * 5], quiet_s=1.0))
        record = await line.record()
    matches = find_speech(speech()[: 8000 * 5], bytes(report.heard))
    assert matches
    assert all(match.found for match in matches)
    text = " ".join(word.text for word in record.words)
    assert text.startswith("You spoke for ")
    assert text.endswith("here it is again: déjà vu!")


async def test_what_is_said_before_the_handshake_is_kept_up_to_the_bound() -> None:
    settings = Settings(uplink_backlog_ms=400)
    async with full_line(ModelOptions("silence", prompt_ms=2000), settings) as (line, model):
        await line.call(CallPlan("", PLAN.speech, hang_up_after_s=3.0))
        record = await line.record()
    session = model.sessions[0]
    assert session.eaten == 0, "nothing may be sent before the handshake"
    kept = record.uplink_packets + record.unsent_frames
    assert kept + record.dropped_frames == record.caller_frames
    # 2,000 ms of prompt are 100 frames; 20 of them were kept.
    assert 75 <= record.dropped_frames <= 90


async def test_keys_and_persona_arrive() -> None:
    async with full_line(ModelOptions("silence", prompt_ms=0)) as (line, model):
        line_url = f"{line.webhook}?persona=noir&voice=VARF0"
        keys = ((0.1, "1"), (0.2, "#"))
        plan = CallPlan(line_url, b"", keys=keys, hang_up_after_s=0.5)
        await PhoneCall(plan, FAST).run()
        record = await line.record()
    assert record.keys == "1#"
    assert record.persona == "noir"
    assert model.sessions[0].voice == "VARF0.pt"
    assert model.sessions[0].text_prompt == load_catalogue().get("noir").role.text_prompt


async def test_the_called_number_chooses_the_persona() -> None:
    catalogue = load_catalogue()
    numbered = catalogue.extended(type(catalogue)({}, {"+15550100": "strategist"}))
    options = ModelOptions("silence", prompt_ms=0)
    async with standin(options, FAST) as (url, model), bridge_to(url, None, numbered) as line:
        await line.call(CallPlan("", b"", hang_up_after_s=0.3))
        await line.record()
    assert model.sessions[0].text_prompt == catalogue.get("strategist").role.text_prompt


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


async def test_calls_do_not_mix() -> None:
    settings = Settings(personaplex_capacity=4)
    sound = speech()
    async with full_line(ModelOptions("echo", prompt_ms=CUSHION_MS, sessions=4), settings) as (
        line,
        _,
    ):
        plans = [CallPlan("", sound[24_000 * n :][:32_000], hang_up_after_s=6.0) for n in range(4)]
        reports = await asyncio.gather(*(line.call(plan) for plan in plans))
        for _ in plans:
            await line.record()
    for plan, report in zip(plans, reports, strict=True):
        assert all(match.found for match in find_speech(plan.speech, bytes(report.heard)))


async def test_nothing_private_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Numbers, prompts, transcripts, keys: not in any line from INFO up."""
    caplog.set_level(logging.INFO)
    async with full_line(ModelOptions("repeat", prompt_ms=0)) as (line, _):
        url = f"{line.webhook}?text_prompt=You+are+Mata+Hari."
        plan = CallPlan(url, speech()[: 8000 * 5], keys=((0.1, "7"),), quiet_s=1.0)
        await PhoneCall(plan, FAST).run()
        record = await line.record()
    assert len(record.words) > 5
    text = "\n".join(caplog.messages)
    assert "call begins" in text
    assert "call over" in text
    for private in ("5550111", "5550100", "Mata", "spoke", "déjà"):
        assert private not in text
