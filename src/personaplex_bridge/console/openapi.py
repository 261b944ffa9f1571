"""The API's description, as OpenAPI 3.1 has it (https://spec.openapis.org/oas/v3.1.1.html).

Written by hand: it says what is meant, and the tests hold the API to it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from personaplex_bridge import __version__
from personaplex_bridge.console.past import ID, LINE, MAX_CHARS, MAX_LIMIT, OUTCOMES, SORTS

Json: TypeAlias = dict[str, Any]

_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer", "minimum": 0}
_NUMBER: Json = {"type": "number"}
_FLAG: Json = {"type": "boolean"}
_LINE: Json = {"type": "string", "maxLength": MAX_CHARS, "pattern": LINE}


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
            "responses": _PROBLEMS,
        },
    }


def _paths() -> Json:
    sid = _parameter("sid", "A call's SID, from the list of calls.")
    return {
        "/api/calls": {
            "get": _operation("calls", "listCalls", "Calls in progress, and those that ended last",
                              "Calls"),
        },
        "/api/calls/{sid}": {
            "parameters": [sid],
            "get": _operation(
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
            "get": _operation("bridge", "getBridge", "The bridge itself", "Bridge"),
        },
        "/api/servers": {
            "get": _operation("bridge", "listServers", "The model servers", "Servers"),
        },
        "/api/personas": {
            "get": _operation("bridge", "listPersonas", "The personas and voices", "Personas"),
        },
        "/api/events": {"get": _events()},
        "/api/history/search": {"post": _search()},
        "/api/history/{id}": {
            "parameters": [_parameter("id", "A call's id in the history.", f"^{ID}$")],
            "get": _operation(
                "history", "getPastCall", "One call, with all that is kept of it", "PastCall",
                problems=("404",),
            ),
        },
    }  # fmt: skip


def _operation(
    tag: str, name: str, summary: str, schema: str, *, status: str = "200", problems: Any = ()
) -> Json:
    answers: Json = {status: {"description": summary, "content": _content(schema)}}
    answers |= {code: {"$ref": f"#/components/responses/{code}"} for code in (*_USUAL, *problems)}
    return {"tags": [tag], "operationId": name, "summary": summary, "responses": answers}


def _ending(name: str, summary: str, *problems: str) -> Json:
    operation = _operation(
        "calls", name, summary, "Told", status="202", problems=("404", *problems)
    )
    operation["description"] = (
        "Answers at once; the call ends in a moment. What was asked for first counts."
    )
    return operation


def _events() -> Json:
    operation = _operation(
        "calls", "watch", "What happens, as it happens", "State", problems=("503",)
    )
    operation["description"] = (
        "Server-sent events. The first is a `state`: all there is. Then come `change` events, four "
        "a second at most: of `bridge` and `servers` what they are now; of `calls` the `sid`, the "
        "fields that changed and the `words` that came; `gone` SIDs, and `ended` calls. A `beat` "
        "comes when nothing has happened for 15 s. Who comes back within seconds with "
        "Last-Event-ID gets the changes they have missed, else a new `state`. After an hour the "
        "stream ends."
    )
    operation["parameters"] = [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the event that was seen last.",
            "schema": _TEXT,
        }
    ]
    operation["responses"]["200"]["content"] = {"text/event-stream": {"schema": _TEXT}}
    return operation


def _search() -> Json:
    operation = _operation(
        "history",
        "searchPast",
        "Find calls past",
        "PastCalls",
        problems=("400", "404", "413", "415"),
    )
    operation["requestBody"] = {"required": True, "content": _content("PastSearch")}
    return operation


def _parameter(name: str, text: str, pattern: str = "") -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string", "minLength": 1} | ({"pattern": pattern} if pattern else {}),
    }


def _content(schema: str) -> Json:
    return {"application/json": {"schema": _ref(schema)}}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(required: Json, optional: Json | None = None, *, more: bool = False) -> Json:
    shape: Json = {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
    }
    return shape if more else shape | {"additionalProperties": False}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _or_null(schema: Json) -> Json:
    return schema | {"type": [schema["type"], "null"]}


def _says(schema: Json, text: str) -> Json:
    return schema | {"description": text}


_CALL: Json = {
    "sid": _says(_TEXT, "The CallSid."),
    "persona": _TEXT,
    "caller": _says(_TEXT, "Masked; empty if Twilio did not say."),
    "called": _says(_TEXT, "Masked."),
    "server": _says(_or_null(_WHOLE), "The model server: its place in PERSONAPLEX_URL, from 1."),
    "state": {"type": "string", "enum": ["waiting", "talking", "lost"]},
    "duration_s": _NUMBER,
    "ready_s": _says(_or_null(_NUMBER), "When the model was ready."),
    "caller_db": _says(_NUMBER, "Level now, dB of full scale, -90 to 0."),
    "model_db": _says(_NUMBER, "Level of what the caller hears now."),
    "to_model_lag_ms": _says(_NUMBER, "What the caller has said, and the model not answered."),
    "to_caller_lag_ms": _says(_NUMBER, "What the model has said, and the caller not heard."),
    "turns": _WHOLE,
    "turn_delay_s": _says(_or_null(_NUMBER), "The latest turn's: last word to first word."),
    "sent_frames": _says(_WHOLE, "Of the caller's, to the model; 20 ms each."),
    "gated_frames": _says(_WHOLE, "Of those, as silence: there was no voice in them."),
    "barge_ins": _WHOLE,
    "failures": _says(_WHOLE, "Times the model failed."),
    "keys": _says(_WHOLE, "How many keys were pressed."),
    "gaps": _says(_WHOLE, "Times the phone ran dry in the middle of sound."),
    "marks": _list(_ref("Mark")),
}

_ENDED: Json = {
    "sid": _TEXT,
    "persona": _TEXT,
    "caller": _TEXT,
    "called": _TEXT,
    "ended_at_s": _says(_NUMBER, "Seconds since 1970."),
    "duration_s": _NUMBER,
    "ended_by": {"type": "string", "enum": ["caller", "model", "bridge"]},
    "kind": _says(_TEXT, "Why, in a word: hung_up, operator_goodbye, ModelClosed, ..."),
    "reason": _says(_TEXT, "Why, for people."),
    "close_code": _says({"type": "integer"}, "Of the media socket (RFC 6455)."),
    "turns": _WHOLE,
    "barge_ins": _WHOLE,
    "failures": _WHOLE,
}

_PAST_SEARCH: Json = {
    "text": _says(_LINE, "Words the model said."),
    "number": _says(_LINE, "The caller's, whole."),
    "persona": _LINE,
    "outcome": {"type": "string", "enum": list(OUTCOMES)},
    "model_failed": _FLAG,
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
    "min_duration_s": {"type": "number", "minimum": 0, "maximum": 1e6},
    "sort": {"type": "string", "enum": list(SORTS)},
    "descending": _FLAG,
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    "after": _says(_LINE, "`next` of the page before."),
}


def _schemas() -> Json:
    phrase = _object({"at_s": _NUMBER, "text": _TEXT})
    transcript = {"transcript": _list(_ref("Phrase"))}
    spoken = {"transcript": _list({"type": "array", "minItems": 2, "maxItems": 2})}
    counted = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
    figures = {"figures": counted}
    return {
        "Call": _object(_CALL),
        "EndedCall": _object(_ENDED | spoken),
        "Calls": _object({"calls": _list(_ref("Call")), "ended": _list(_ref("EndedCall"))}),
        "OneCall": {
            "oneOf": [
                _object({"in_progress": {"const": True}} | _CALL | transcript | figures),
                _object({"in_progress": {"const": False}} | _ENDED | transcript),
            ]
        },
        "Phrase": phrase,
        "Mark": _object({"at_s": _NUMBER, "kind": _MARKS, "detail": _TEXT}),
        "Told": _object(
            {"sid": _TEXT, "action": {"type": "string", "enum": ["hangup", "goodbye", "forward"]}}
        ),
        "Bridge": _object(_BRIDGE),
        "Server": _object(_SERVER),
        "Servers": _object({"servers": _list(_ref("Server"))}),
        "Persona": _object(_PERSONA),
        "Personas": _object(
            {"personas": _list(_ref("Persona")), "default": _TEXT, "voices": _list(_TEXT)}
        ),
        "State": _object(
            {
                "bridge": _ref("Bridge"),
                "servers": _list(_ref("Server")),
                "calls": _list({"type": "object"}),
                "ended": _list(_ref("EndedCall")),
            }
        ),
        "PastSearch": _object({}, _PAST_SEARCH),
        "PastCalls": _object({"calls": _list({"type": "object"}), "next": _or_null(_TEXT)}),
        "PastCall": {"type": "object"},
        "Problem": _object({"title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT}),
    }  # fmt: skip


_MARKS: Json = {
    "type": "string",
    "enum": ["ready", "first-audio", "turn", "barge-in", "failure", "recovered"],
}

_BRIDGE: Json = {
    "instance": _says(_TEXT, "Another one after a restart."),
    "version": _TEXT,
    "began_at_s": _says(_NUMBER, "Seconds since 1970."),
    "draining": _says(_FLAG, "Whether new calls are turned away."),
    "callers_waiting": _WHOLE,
    "max_calls": _WHOLE,
    "leases": {"type": "string", "enum": ["ok", "away"]},
    "can_forward": _FLAG,
    "has_history": _FLAG,
    "has_phone": _FLAG,
    "can_log_out": _FLAG,
}

_SERVER: Json = {
    "number": _says(_WHOLE, "Its place in PERSONAPLEX_URL, from 1."),
    "circuit": {"type": "string", "enum": ["closed", "half-open", "open"]},
    "busy": _WHOLE,
    "capacity": _WHOLE,
    "last_failure": _says(_or_null(_TEXT), "The class of the last error."),
}

_PERSONA: Json = {
    "name": _TEXT,
    "description": _TEXT,
    "experimental": _FLAG,
    "voice": _TEXT,
    "text_prompt": _TEXT,
    "numbers": _says(_list(_TEXT), "The called numbers that lead to it."),
}

_USUAL = ("401", "403", "429")
_WHY = {
    "400": "Something asked for is wrong; the detail says what is allowed.",
    "401": "No token, or a wrong one.",
    "403": "Another site's page asks, or another machine without CONSOLE_TOKEN.",
    "404": "There is no such thing.",
    "409": "It can't be done as things are.",
    "413": "The body is longer than MAX_BODY_BYTES.",
    "415": "The body is no JSON.",
    "429": "Too many wrong tokens from this address; see Retry-After.",
    "503": "Too many watch already.",
}
_PROBLEMS: Json = {
    code: {
        "description": text,
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
    }
    for code, text in _WHY.items()
}
