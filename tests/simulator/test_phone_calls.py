"""What Twilio's stand-in does with documents: in order, as long as it takes. In virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from personaplex_bridge.audio.hold import music
from personaplex_bridge.clock import LoopClock
from personaplex_bridge.simulator.account import TwilioAccount
from personaplex_bridge.simulator.caller import CallFailed, CallPlan, PhoneCall
from personaplex_bridge.simulator.faults import CallFaults
from personaplex_bridge.simulator.obey import TwimlError
from personaplex_bridge.simulator.report import Doing, Moment, PhoneReport
from personaplex_bridge.twilio import signature, twiml
from personaplex_bridge.twilio.twiml import Words
from personaplex_bridge.web.hosting import hosted
from tests.virtual import in_virtual_time

HOST, CLOCK, TOKEN = "127.0.0.1", LoopClock(), "12345"
WORDS = Words("one two three four five")
WORDS_S = 2.0

Form = dict[str, str]
Document = Callable[[Form], str]


@dataclass
class Script:
    """A web server that answers as a test says, and what it was asked: path and form."""

    documents: dict[str, Document]
    asked: list[tuple[str, Form]] = field(default_factory=list)
    port: int = 0
    sounds: int = 0
    account: TwilioAccount = field(default_factory=TwilioAccount)

    def url(self, path: str) -> str:
        return f"http://{HOST}:{self.port}{path}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        signed = signature.sign(TOKEN, self.url(str(request.rel_url)), form)
        assert request.headers[signature.HEADER] == signed
        self.asked.append((request.path, form))
        return web.Response(text=self.documents[request.path](form), content_type="text/xml")

    async def play(self, request: web.Request) -> web.StreamResponse:
        assert signature.HEADER not in request.headers
        self.sounds += 1
        headers = {"Cache-Control": "max-age=60"} if "kept" in request.path else {}
        body, kind = music().wav(0), "audio/wav" if "text" not in request.path else "text/plain"
        return web.Response(body=body, content_type=kind, headers=headers)

    async def call(self, plan: CallPlan | None = None) -> PhoneReport:
        plan = plan or CallPlan("", b"")
        plan = dataclasses.replace(plan, webhook_url=self.url("/in"), auth_token=TOKEN)
        return await PhoneCall(plan, CLOCK, self.account).run()


@asynccontextmanager
async def scripted(**documents: str | Document) -> AsyncIterator[Script]:
    """`in_` is the webhook's document, others are at their name."""

    def of(document: str | Document) -> Document:
        return document if callable(document) else lambda _: document

    script = Script({f"/{name.rstrip('_')}": of(value) for name, value in documents.items()})
    app = web.Application()
    app.router.add_post("/{path:.*}", script.answer)
    app.router.add_get("/{path:.*}", script.play)
    async with hosted(app, HOST, 0) as script.port:
        yield script


def document(*verbs: str) -> str:
    return f"<Response>{''.join(verbs)}</Response>"


def say(words: Words = WORDS) -> str:
    return f"<Say>{words.text}</Say>"


@in_virtual_time
async def test_what_twilio_does_takes_its_time_and_is_told_in_order() -> None:
    play = '<Play loop="2">/tune.wav</Play>'
    async with scripted(in_=document(say(), play, '<Pause length="3"/>', say())) as script:
        report = await script.call()
    assert report.moments == [
        Moment(0.0, WORDS_S, Doing.SAYS, WORDS.text),
        Moment(2.0, 10.0, Doing.PLAYS, script.url("/tune.wav")),
        Moment(12.0, 3.0, Doing.PAUSES),
        Moment(15.0, WORDS_S, Doing.SAYS, WORDS.text),
    ]
    assert report.said_by_twilio == [WORDS.text] * 2
    assert report.dead_air_s == 3.0
    assert report.outcome == ", at the end of the TwiML"


@in_virtual_time
async def test_redirects_are_followed_from_where_they_stand() -> None:
    async with scripted(
        in_="<Response><Redirect>more/there</Redirect></Response>",
        **{"more/there": "<Response><Redirect>/end</Redirect><Say>never</Say></Response>"},
        end=twiml.hang_up(),
    ) as script:
        report = await script.call()
    assert script.paths() == ["/in", "/more/there", "/end"]
    assert report.outcome == "hung up by TwiML"
    assert report.said_by_twilio == []


@in_virtual_time
async def test_documents_that_lead_to_each_other_are_a_failure() -> None:
    async with scripted(in_="<Response><Redirect>/in</Redirect></Response>") as script:
        with pytest.raises(CallFailed, match="without end"):
            await script.call()


@in_virtual_time
async def test_the_queue_polls_until_leave_then_asks_its_action() -> None:
    def wait(form: Form) -> str:
        if int(form["QueueTime"]) >= 6:
            return twiml.leave_queue()
        return document(say(), "<Play>/kept.wav</Play>") if form["QueueTime"] == "0" else say_again

    say_again = document(say())
    async with scripted(
        in_=twiml.enqueue("/wait", "/queued"), wait=wait, queued=twiml.hang_up()
    ) as script:
        report = await script.call()
    assert script.paths() == ["/in", "/wait", "/wait", "/queued"]
    forms = [form for _, form in script.asked]
    assert [form["CallStatus"] for form in forms] == ["ringing", *["in-progress"] * 3]
    assert (forms[1]["QueuePosition"], forms[1]["CurrentQueueSize"]) == ("1", "1")
    assert [form.get("QueueTime") for form in forms] == [None, "0", "7", "7"]
    assert forms[3]["QueueResult"] == "leave"
    assert report.queue_results == ["leave"]
    assert report.held_s == 7.0
    assert report.outcome == "hung up by TwiML"


@in_virtual_time
async def test_callers_have_places_in_the_queue() -> None:
    def wait(form: Form) -> str:
        gone = form["QueuePosition"] == "1" and int(form["QueueTime"]) >= 4
        return twiml.leave_queue() if gone else document(say())

    async with scripted(
        in_=twiml.enqueue("/wait", "/queued"), wait=wait, queued=twiml.hang_up()
    ) as script:
        calls = []
        for _ in range(3):
            calls.append(asyncio.create_task(script.call()))
            await asyncio.sleep(0.5)
        reports = await asyncio.gather(*calls)
    places = [form["QueuePosition"] for path, form in script.asked if path == "/wait"]
    assert places[:6] == ["1", "2", "3", "1", "2", "3"]
    assert [report.held_s for report in reports] == [4.0, 4.0, 4.0]


@in_virtual_time
async def test_a_caller_who_has_enough_of_holding() -> None:
    plan = CallPlan("", b"", faults=CallFaults(hang_up_holding_s=5.0))
    async with scripted(
        in_=twiml.enqueue("/wait", "/queued"), wait=document(say()), queued=document(say())
    ) as script:
        report = await script.call(plan)
    assert report.outcome == "the caller hung up while holding"
    assert report.held_s == 5.0
    assert script.paths() == ["/in", "/wait", "/wait", "/wait", "/queued"]
    last = script.asked[-1][1]
    assert (last["QueueResult"], last["CallStatus"]) == ("hangup", "completed")
    assert report.moments[-1].end_s == 5.0


@pytest.mark.parametrize(
    ("wait", "problem"),
    [
        (document("<Dial>+15550100</Dial>"), "<Dial> may not stand in a waitUrl's document"),
        (document(), "a waitUrl's document that takes no time"),
    ],
)
@in_virtual_time
async def test_a_wait_url_that_twilio_would_not_take(wait: str, problem: str) -> None:
    async with scripted(
        in_=twiml.enqueue("/wait", "/queued"), wait=wait, queued=twiml.hang_up(WORDS)
    ) as script:
        report = await script.call()
    assert script.asked[-1][1]["QueueResult"] == "error"
    assert report.problems == [problem]
    assert report.said_by_twilio == [WORDS.text]


@in_virtual_time
async def test_a_wait_url_may_hang_up() -> None:
    async with scripted(
        in_=twiml.enqueue("/wait", "/queued"), wait=twiml.hang_up(WORDS), queued=document()
    ) as script:
        report = await script.call()
    assert report.outcome == "hung up by TwiML"
    assert script.asked[-1][1]["QueueResult"] == "hangup"


@in_virtual_time
async def test_sounds_are_kept_as_long_as_they_may_be() -> None:
    play = "<Play>/kept.wav</Play>" * 3 + "<Play>/not.wav</Play>" * 2
    async with scripted(in_=document(play)) as script:
        report = await script.call()
    assert len(report.of(Doing.PLAYS)) == 5
    assert script.sounds == 3


@in_virtual_time
async def test_a_sound_that_is_none_is_an_error() -> None:
    async with scripted(in_=document("<Play>/text.txt</Play>")) as script:
        with pytest.raises(CallFailed, match="13420"):
            await script.call()


@pytest.mark.parametrize(
    ("status", "lasts_s", "duration"),
    [("completed", 16.0, "10"), ("no-answer", 30.0, "0"), ("busy", 2.0, "0"), ("failed", 0.5, "0")],
)
@in_virtual_time
async def test_dialling(status: str, lasts_s: float, duration: str) -> None:
    plan = CallPlan("", b"", faults=CallFaults(dial_status=status))
    forward = twiml.forward("+15550100", "/done")
    async with scripted(in_=forward, done=twiml.hang_up()) as script:
        report = await script.call(plan)
    assert report.moments == [Moment(0.0, lasts_s, Doing.DIALS, "+15550100")]
    form = script.asked[-1][1]
    assert (form["DialCallStatus"], form["DialCallDuration"]) == (status, duration)
    assert report.outcome == f"forwarded ({status}), then hung up by TwiML"


@in_virtual_time
async def test_a_message() -> None:
    async with scripted(in_=twiml.take_message(WORDS, "/done"), done=twiml.hang_up()) as script:
        report = await script.call()
        silent = await script.call(CallPlan("", b"", message_s=0))
    assert [moment.doing for moment in report.moments] == [Doing.SAYS, Doing.RECORDS]
    assert script.asked[1][1]["RecordingDuration"] == "5"
    assert report.outcome == "left a message of 5 s, then hung up by TwiML"
    # Twilio asks nothing for an empty recording.
    assert script.paths() == ["/in", "/done", "/in"]
    assert silent.outcome == "hung up by TwiML"


@in_virtual_time
async def test_a_stream_that_can_not_be_opened_leads_to_the_action() -> None:
    async with scripted(
        in_=lambda _: twiml.connect_stream(f"ws://{HOST}:9/none", {}, "/after"),
        after=twiml.hang_up(WORDS),
    ) as script:
        report = await script.call()
    assert report.said_by_twilio == [WORDS.text]
    assert "31920" in report.problems[0]
    assert report.outcome == "the media socket could not be opened, then hung up by TwiML"


@in_virtual_time
async def test_a_webhook_that_is_too_slow() -> None:
    async def slow(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(15.5)
        return web.Response()

    app = web.Application()
    app.router.add_post("/in", slow)
    async with hosted(app, HOST, 0) as port:
        plan = CallPlan(f"http://{HOST}:{port}/in", b"")
        with pytest.raises(CallFailed, match="no answer"):
            await PhoneCall(plan, CLOCK).run()
        assert CLOCK.now() < 16


@in_virtual_time
async def test_a_document_that_is_none() -> None:
    async with scripted(in_="<Response><Nonsense/></Response>") as script:
        with pytest.raises(TwimlError, match="Nonsense"):
            await script.call()
    async with scripted(in_=document(say(), '<Reject reason="busy"/>')) as script:
        assert (await script.call()).problems == ["<Reject> for a call that is answered"]
