"""The API's description, as OpenAPI 3.1 has it (https://spec.openapis.org/oas/v3.1.1.html).

Written by hand: it says what is meant, and the tests hold the API to it.
"""

from __future__ import annotations

from personaplex_bridge import __version__
from personaplex_bridge.console.openapi_history import history_paths, history_schemas
from personaplex_bridge.console.shapes import (
    FLAG,
    NUMBER,
    PROBLEMS,
    TEXT,
    WHOLE,
    Json,
    array,
    in_path,
    operation,
    or_null,
    record,
    ref,
    says,
    words,
)


def describe() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PersonaPlex bridge",
            "version": __version__,
            "description": (
                "Calls in progress and past, model servers and personas of one bridge. Errors are "
                "problem details (RFC 9457). Times are seconds since the stream's start where they "
                "are called at_s, and numbers of callers are masked."
            ),
        },
        "security": [{"token": []}, {"session": []}],
        "tags": [
            {"name": "calls", "description": "Calls in progress, and what can be done with them."},
            {"name": "bridge", "description": "The bridge, its model servers and its personas."},
            {"name": "history", "description": "Calls past, if a history is kept."},
        ],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "CONSOLE_TOKEN. Without one only the bridge's own machine is "
                    "served, and needs none.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "console_session",
                    "description": "What a person has who has logged in.",
                },
            },
            "schemas": _schemas(),
            "responses": PROBLEMS,
        },
    }


def _paths() -> Json:
    sid = in_path("sid", "A call's SID, from the list of calls.")
    return {
        "/api/calls": {
            "get": operation("calls", "listCalls", "Calls in progress, and those that ended last",
                              "Calls"),
        },
        "/api/calls/{sid}": {
            "parameters": [sid],
            "get": operation(
                "calls", "getCall", "One call, with its transcript and figures", "OneCall",
                problems=("404",),
            ),
        },
        "/api/calls/{sid}/hangup": {
            "parameters": [sid],
            "post": _ending("hangUp", "Hang up, without a word"),
        },
        "/api/calls/{sid}/goodbye": {
            "parameters": [sid],
            "post": _ending("sayGoodbye", "Say AGAIN_WORDS, then hang up"),
        },
        "/api/calls/{sid}/forward": {
            "parameters": [sid],
            "post": _ending("forward", "Let FORWARD_TO have the call", "409"),
        },
        "/api/bridge": {
            "get": operation("bridge", "getBridge", "The bridge itself", "Bridge"),
        },
        "/api/servers": {
            "get": operation("bridge", "listServers", "The model servers", "Servers"),
        },
        "/api/personas": {
            "get": operation("bridge", "listPersonas", "The personas and voices", "Personas"),
        },
        "/api/events": {"get": _events()},
        **history_paths(),
    }  # fmt: skip


def _ending(name: str, summary: str, *problems: str) -> Json:
    text = "Answers at once; the call ends in a moment. What was asked for first counts."
    return operation(
        "calls", name, summary, "Told", status="202", problems=("404", *problems), text=text
    )


def _events() -> Json:
    told = operation(
        "calls", "watch", "What happens, as it happens", "State", problems=("503",), text=_WATCH
    )
    told["parameters"] = [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the event that was seen last.",
            "schema": TEXT,
        }
    ]
    told["responses"]["200"]["content"] = {"text/event-stream": {"schema": TEXT}}
    return told


_WATCH = (
    "Server-sent events. The first is a `state`: all there is. Then come `change` events, four "
    "a second at most, fewer with more than 25 calls: of `bridge` and `servers` what they are "
    "now; of `calls` the `sid`, the fields that changed and the `words` that came; `gone` SIDs, "
    "`ended` calls, and `forgotten` SIDs of ended calls that were deleted from the history. A "
    "`beat` comes when nothing has happened for 15 s. Who comes back within seconds with "
    "Last-Event-ID gets the changes they have missed, else a new `state`. After an hour the "
    "stream ends."
)

_CALL: Json = {
    "sid": says(TEXT, "The CallSid."),
    "persona": TEXT,
    "caller": says(TEXT, "Masked; empty if Twilio did not say."),
    "called": says(TEXT, "Masked."),
    "server": says(or_null(WHOLE), "The model server: its place in PERSONAPLEX_URL, from 1."),
    "state": words(["waiting", "talking", "lost"]),
    "duration_s": NUMBER,
    "ready_s": says(or_null(NUMBER), "When the model was ready."),
    "caller_db": says(NUMBER, "Level now, dB of full scale, -90 to 0."),
    "model_db": says(NUMBER, "Level of what the caller hears now."),
    "to_model_lag_ms": says(NUMBER, "What the caller has said, and the model not answered."),
    "to_caller_lag_ms": says(NUMBER, "What the model has said, and the caller not heard."),
    "turns": WHOLE,
    "turn_delay_s": says(or_null(NUMBER), "The latest turn's: last word to first word."),
    "sent_frames": says(WHOLE, "Of the caller's, to the model; 20 ms each."),
    "gated_frames": says(WHOLE, "Of those, as silence: there was no voice in them."),
    "barge_ins": WHOLE,
    "failures": says(WHOLE, "Times the model failed."),
    "keys": says(WHOLE, "How many keys were pressed."),
    "gaps": says(WHOLE, "Times the phone ran dry in the middle of sound."),
    "marks": array(ref("Mark")),
}

_ENDED: Json = {
    "sid": TEXT,
    "persona": TEXT,
    "caller": TEXT,
    "called": TEXT,
    "ended_at_s": says(NUMBER, "Seconds since 1970."),
    "duration_s": NUMBER,
    "ended_by": words(["caller", "model", "bridge"]),
    "kind": says(TEXT, "Why, in a word: hung_up, operator_goodbye, ModelClosed, ..."),
    "reason": says(TEXT, "Why, for people."),
    "close_code": says({"type": "integer"}, "Of the media socket (RFC 6455)."),
    "turns": WHOLE,
    "barge_ins": WHOLE,
    "failures": WHOLE,
}


def _schemas() -> Json:
    phrase = record({"at_s": NUMBER, "text": TEXT})
    transcript = {"transcript": array(ref("Phrase"))}
    spoken = {"transcript": array({"type": "array", "minItems": 2, "maxItems": 2})}
    counted = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
    figures = {"figures": counted}
    return {
        "Call": record(_CALL),
        "EndedCall": record(_ENDED | spoken),
        "Calls": record({"calls": array(ref("Call")), "ended": array(ref("EndedCall"))}),
        "OneCall": {
            "oneOf": [
                record({"in_progress": {"const": True}} | _CALL | transcript | figures),
                record({"in_progress": {"const": False}} | _ENDED | transcript),
            ]
        },
        "Phrase": phrase,
        "Mark": record({"at_s": NUMBER, "kind": _MARKS, "detail": TEXT}),
        "Told": record(
            {"sid": TEXT, "action": words(["hangup", "goodbye", "forward"])}
        ),
        "Bridge": record(_BRIDGE),
        "Server": record(_SERVER),
        "Servers": record({"servers": array(ref("Server"))}),
        "Persona": record(_PERSONA),
        "Personas": record(
            {"personas": array(ref("Persona")), "default": TEXT, "voices": array(TEXT)}
        ),
        "State": record(
            {
                "bridge": ref("Bridge"),
                "servers": array(ref("Server")),
                "calls": array({"type": "object"}),
                "ended": array(ref("EndedCall")),
            }
        ),
        **history_schemas(),
        "Problem": record({"title": TEXT, "status": {"type": "integer"}, "detail": TEXT}),
    }  # fmt: skip


_MARKS: Json = {
    "type": "string",
    "enum": ["ready", "first-audio", "turn", "barge-in", "failure", "recovered"],
}

_BRIDGE: Json = {
    "instance": says(TEXT, "Another one after a restart."),
    "version": TEXT,
    "began_at_s": says(NUMBER, "Seconds since 1970."),
    "draining": says(FLAG, "Whether new calls are turned away."),
    "callers_waiting": WHOLE,
    "max_calls": WHOLE,
    "leases": words(["ok", "away"]),
    "can_forward": FLAG,
    "has_history": FLAG,
    "has_phone": FLAG,
    "can_log_out": FLAG,
}

_SERVER: Json = {
    "number": says(WHOLE, "Its place in PERSONAPLEX_URL, from 1."),
    "circuit": words(["closed", "half-open", "open"]),
    "busy": WHOLE,
    "capacity": WHOLE,
    "last_failure": says(or_null(TEXT), "The class of the last error."),
}

_PERSONA: Json = {
    "name": TEXT,
    "description": TEXT,
    "experimental": FLAG,
    "voice": TEXT,
    "text_prompt": TEXT,
    "numbers": says(array(TEXT), "The called numbers that lead to it."),
}
