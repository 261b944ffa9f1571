"""The part of the API's description that is about calls past."""

from __future__ import annotations

from personaplex_bridge.console.past import (
    FILTERS,
    FORMATS,
    ID,
    LINE,
    MAX_CHARS,
    MAX_LIMIT,
    MAX_TEXT_CHARS,
    OUTCOMES,
    PRIVATE,
    SOMEBODY,
    SORTS,
)
from personaplex_bridge.console.shapes import (
    FLAG,
    MOMENT,
    NUMBER,
    TEXT,
    WHOLE,
    Json,
    array,
    binary,
    content,
    in_path,
    in_query,
    operation,
    or_null,
    record,
    ref,
    says,
    words,
)

_LINE: Json = TEXT | {"maxLength": MAX_CHARS, "pattern": LINE}
_ID: Json = TEXT | {"pattern": f"^{ID}$"}

_FILTERS: Json = {
    "text": says(
        _LINE | {"maxLength": MAX_TEXT_CHARS},
        "Words the model said, all of them; in quotes a row, begin* a beginning.",
    ),
    "number": says(_LINE, "The caller's, whole."),
    "persona": _LINE,
    "outcome": words(OUTCOMES),
    "model_failed": FLAG,
    "since": says(MOMENT, "Calls that began then or later."),
    "until": says(MOMENT, "Calls that began before."),
    "min_duration_s": NUMBER | {"minimum": 0, "maximum": 1e6},
}

_ORDER: Json = {
    "sort": words(SORTS),
    "descending": FLAG,
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    "after": says(_LINE, "`next` of the page before."),
}

_FORMAT: Json = says(words(FORMATS), "`json`, unless said; `csv` has a line for each call.")

_CALL: Json = {
    "id": says(_ID, "Rises with the time the call began."),
    "call_sid": TEXT,
    "stream_sid": TEXT,
    "bridge": says(TEXT, "Which bridge had it."),
    "persona": TEXT,
    "model_server": or_null(WHOLE),
    "caller": says(TEXT, "Masked."),
    "called": says(TEXT, "Masked."),
    "started_at": MOMENT,
    "updated_at": MOMENT,
    "ended_at": or_null(MOMENT),
    "outcome": words(OUTCOMES),
    "ended_by": TEXT,
    "ended_reason": says(TEXT, "For people."),
    "close_code": or_null({"type": "integer"}),
    "duration_s": NUMBER,
    "handshake_s": or_null(NUMBER),
    "first_audio_s": or_null(NUMBER),
    "turns": WHOLE,
    "turn_delay_s": says(or_null(NUMBER), "The median."),
    "barge_ins": WHOLE,
    "failures": says(WHOLE, "Times the model failed while the call had it."),
    "model_failed": says(FLAG, "Whether it failed at all."),
    "keys": says(WHOLE, "How many were pressed."),
    "gaps": WHOLE,
}

_KEPT: Json = {
    "events": says(array({"type": "object"}), "`at_s`, `kind`, and what is told of that kind."),
    "transcript": array(ref("PastPhrase")),
    "figures": says({"type": "object"}, "Every figure of the call, by name."),
}
_PLAYABLE: Json = {"has_recording": says(FLAG, "Whether there is a recording to play.")}


def history_paths() -> Json:
    """What there is below /api/history."""
    one = [in_path("id", "A call's id in the history.", f"^{ID}$")]
    return {
        "/api/history/search": {"post": _with_body("PastSearch", operation(
            "history", "searchPast", "Find calls past", "PastCalls",
            problems=("400", "404", "413", "415", "503"),
        ))},
        "/api/history/export": {"get": _export_query(), "post": _export_body()},
        "/api/history/delete-caller": {"post": _with_body("Caller", operation(
            "history", "deleteCaller", "Delete all calls of a caller, and their recordings",
            "Deleted", problems=("400", "404", "409", "413", "415", "503"),
            text="For ever. By `number`, or by one `call` of theirs. Of callers who hide their "
            "number all are one. Of a call in progress here nothing more is kept; one at another "
            "bridge is kept when it is over: ask again then.",
        ))},
        "/api/history/{id}": {
            "parameters": one,
            "get": operation(
                "history", "getPastCall", "One call, with all that is kept of it", "PastCall",
                problems=("404", "503"),
            ),
            "delete": operation(
                "history", "deletePastCall", "Delete a call and its recording, for ever", "Deleted",
                problems=("404", "409", "503"),
            ),
        },
        "/api/history/{id}/recording": {"parameters": one, "get": _recording()},
    }  # fmt: skip


def history_schemas() -> Json:
    """The schemas that those need."""
    found = {"calls": array(ref("PastCallInList")), "next": or_null(TEXT)}
    return {
        "PastSearch": record({}, _FILTERS | _ORDER),
        "PastExport": record({}, _FILTERS | {"format": _FORMAT}),
        "PastCalls": record(found),
        "PastCallInList": record(_CALL),
        "PastCall": record(_CALL | _KEPT | _PLAYABLE),
        "ExportedCall": record(_CALL | _KEPT),
        "PastPhrase": record(
            {
                "at_s": NUMBER,
                "text": TEXT,
                "words_s": says(array(NUMBER), "When each word was said, if that is kept."),
            }
        ),
        "Caller": {
            "type": "object",
            "properties": {
                "number": says(
                    TEXT | {"maxLength": MAX_CHARS, "pattern": SOMEBODY}, "+15550100, or anonymous."
                ),
                "call": says(_ID, "A call of theirs."),
            },
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        },
        "Deleted": record(
            {
                "calls": WHOLE,
                "recordings": WHOLE,
                "recordings_missing": says(
                    WHOLE,
                    "Recordings of these calls that this bridge's folder has not: gone already, or "
                    "on another machine.",
                ),
            }
        ),
    }


def _with_body(schema: str, of: Json) -> Json:
    return of | {"requestBody": {"required": True, "content": content(schema)}}


def _export_query() -> Json:
    public = [in_query(name, _FILTERS[name]) for name in FILTERS if name not in PRIVATE]
    told = operation(
        "history", "exportPast", "Calls past as a file: JSON or CSV", "PastCall",
        problems=("400", "404", "503"),
        text="All that is kept, the oldest first. To choose by `number` or `text`, which have no "
        "place in an address, POST. An export that breaks off was not whole.",
    )  # fmt: skip
    return _as_file(told) | {"parameters": [in_query("format", _FORMAT), *public]}


def _export_body() -> Json:
    told = operation(
        "history", "exportPastChosen", "The same, with every filter", "PastCall",
        problems=("400", "404", "413", "415", "503"),
    )  # fmt: skip
    return _with_body("PastExport", _as_file(told))


def _as_file(told: Json) -> Json:
    answer = binary("text/csv", "The calls.")
    answer["content"]["application/json"] = {"schema": array(ref("ExportedCall"))}
    told["responses"]["200"] = answer
    return told


def _recording() -> Json:
    told = operation(
        "history", "getRecording", "A call's recording", "Problem", problems=("404", "503"),
        text="Ogg Opus, the caller left and the model right, both in the phone's time. `Range` "
        "gives a part of it.",
    )  # fmt: skip
    told["responses"]["200"] = binary("audio/ogg", "All of it.")
    told["responses"]["206"] = binary("audio/ogg", "The part that was asked for.")
    told["responses"]["416"] = {"description": "There is no such part."}
    return told
