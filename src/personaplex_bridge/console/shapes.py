"""What the API's description is made of (OpenAPI 3.1): types, objects, operations, problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer", "minimum": 0}
NUMBER: Json = {"type": "number"}
FLAG: Json = {"type": "boolean"}
MOMENT: Json = {"type": "string", "format": "date-time"}

_USUAL = ("401", "403", "429")
"""What every operation may come to."""


def ref(name: str) -> Json:
    """One of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def content(name: str) -> Json:
    """JSON of one of the schemas."""
    return {"application/json": {"schema": ref(name)}}


def record(required: Json, optional: Json | None = None) -> Json:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: Json) -> Json:
    """A list."""
    return {"type": "array", "items": items}


def words(among: Sequence[str]) -> Json:
    """One of some texts."""
    return {"type": "string", "enum": list(among)}


def or_null(schema: Json) -> Json:
    """The same, or null."""
    return schema | {"type": [schema["type"], "null"]}


def says(schema: Json, text: str) -> Json:
    """The same, with what it means."""
    return schema | {"description": text}


def operation(
    tag: str,
    name: str,
    summary: str,
    schema: str,
    *,
    status: str = "200",
    problems: Sequence[str] = (),
    text: str = "",
) -> Json:
    """What a method of a path does. `problems` are statuses beside those that any may have."""
    answers: Json = {status: {"description": summary, "content": content(schema)}}
    answers |= {code: {"$ref": f"#/components/responses/{code}"} for code in (*_USUAL, *problems)}
    told: Json = {"tags": [tag], "operationId": name, "summary": summary, "responses": answers}
    return told | ({"description": text} if text else {})


def in_path(name: str, text: str, pattern: str = "") -> Json:
    """A part of a path that is asked for."""
    schema = {"type": "string", "minLength": 1} | ({"pattern": pattern} if pattern else {})
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def in_query(name: str, schema: Json) -> Json:
    """A parameter of a query, which may be left out."""
    text = schema.get("description", "")
    return {"name": name, "in": "query", "description": text, "schema": schema}


def binary(media_type: str, text: str) -> Json:
    """An answer that is no JSON."""
    return {"description": text, "content": {media_type: {}}}


_WHY = {
    "400": "Something asked for is wrong; the detail says what is allowed.",
    "401": "No token, or a wrong one.",
    "403": "Another site's page asks, or another machine without CONSOLE_TOKEN.",
    "404": "There is no such thing.",
    "409": "It can't be done as things are.",
    "413": "The body is longer than MAX_BODY_BYTES.",
    "415": "The body is no JSON.",
    "429": "Too many wrong tokens from this address; see Retry-After.",
    "503": "Not now, see Retry-After: the history's database is away, or too many ask already.",
}

PROBLEMS: Json = {
    code: {
        "description": text,
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }
    for code, text in _WHY.items()
}
"""The document's answers, by status."""
