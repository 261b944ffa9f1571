"""Checking requests against an OpenAPI 3.1 document, with the `jsonschema` package.

Beside the stand-in's own rules, which are written by hand: two readings of one contract.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from personaplex_bridge.errors import ConfigError, WrongValue
from personaplex_bridge.simulator.runpod.problems import invalid


class Document:
    """An OpenAPI document. `checked` counts the requests of each operation."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.checked: dict[str, int] = {}
        self._paths = [
            (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), item)
            for path, item in document["paths"].items()
        ]

    @classmethod
    def read(cls, path: Path) -> Document:
        """The document in a file.

        Raises:
            ConfigError: no such file, or `jsonschema` is not installed.
        """
        try:
            import jsonschema  # noqa: F401
        except ImportError as error:
            missing = WrongValue("openapi", str(path), "needs: pip install jsonschema")
            raise ConfigError(missing) from error
        try:
            return cls(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(WrongValue("openapi", str(path), "an OpenAPI document")) from error

    async def check(self, request: web.Request) -> None:
        """Check path, method, query, headers and body.

        Raises:
            Problem: 422, with every violation.
        """
        items = [item for path, item in self._paths if path.fullmatch(request.path)]
        item: Mapping[str, Any] = items[0] if items else {}
        operation = item.get(request.method.lower())
        if operation is None:
            raise invalid([f"{request.method} {request.path} is no operation of the document"])
        wrong = self._parameters(request, operation) + await self._body(request, operation)
        if wrong:
            raise invalid([f"openapi: {violation}" for violation in wrong])
        name = operation["operationId"]
        self.checked[name] = self.checked.get(name, 0) + 1

    def _parameters(self, request: web.Request, operation: Mapping[str, Any]) -> list[str]:
        known = [self._resolved(parameter) for parameter in operation.get("parameters", [])]
        in_query = {
            known_one["name"]: known_one for known_one in known if known_one["in"] == "query"
        }
        wrong = [f"unknown query parameter {name}" for name in request.query.keys() - in_query]
        for name, parameter in in_query.items():
            if name in request.query:
                value = _typed(request.query[name], self._resolved(parameter["schema"]))
                wrong += self._violations(parameter["schema"], value, name)
            elif parameter.get("required"):
                wrong.append(f"missing query parameter {name}")
        return wrong

    async def _body(self, request: web.Request, operation: Mapping[str, Any]) -> list[str]:
        described = operation.get("requestBody")
        text = await request.text()
        if described is None:
            return ["a body where none belongs"] if text else []
        try:
            body = json.loads(text)
        except ValueError:
            return ["the body is no JSON"]
        schema = described["content"][request.content_type]["schema"]
        return self._violations(schema, body, "$")

    def _violations(self, schema: Mapping[str, Any], value: Any, at: str) -> list[str]:
        from jsonschema import Draft202012Validator

        # The schema's references (#/components/...) are resolved within the whole document.
        whole = {**self._document, **schema}
        errors = Draft202012Validator(whole).iter_errors(value)
        return [f"{at}{error.json_path.removeprefix('$')}: {error.message}" for error in errors]

    def _resolved(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in item:
            return item
        found: Any = self._document
        for part in item["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return self._resolved(found)


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """A query's text as the value that its schema speaks of."""
    match schema.get("type"):
        case "integer":
            return int(text) if re.fullmatch(r"-?\d+", text) else text
        case "boolean":
            return {"true": True, "false": False}.get(text, text)
        case "array":
            return text.split(",")
        case _:
            return text
