"""Serves the libraries at /vendor/LIBRARY/FILE.

They are for anybody, as the console's own scripts are: there is nothing in them that npm's registry
doesn't have. A page that asks for the right version (`?v=1.6.32`) need never ask again; others ask
each time whether it has changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from aiohttp import hdrs, web

from personaplex_bridge.console.headers import Dresser
from personaplex_bridge.console.problems import Problem
from personaplex_bridge.phone.assets import Asset, as_asset

VENDOR_PATH = "/vendor"

_PACKAGE = "personaplex_bridge.vendor"
_FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Library:
    """One of them, with its files by name."""

    package: str
    version: str
    licence: str
    files: Mapping[str, Asset]


class Vendored:
    """The route."""

    def __init__(self) -> None:
        self._libraries = load_libraries()

    def add_to(self, app: web.Application) -> None:
        """Add the route to an application's, and the headers to its answers."""
        app.router.add_get(VENDOR_PATH + "/{library}/{name}", self.send)
        app.on_response_prepare.append(Dresser((f"{VENDOR_PATH}/",)).dress)

    async def send(self, request: web.Request) -> web.Response:
        """A file of a library's; 404 if there is none."""
        library = self._libraries.get(request.match_info["library"])
        name = request.match_info["name"]
        if library is None or name not in library.files:
            raise Problem(404, "there is no such file of a library")
        answer = library.files[name].answer(request)
        if request.query.get("v") == library.version:
            answer.headers[hdrs.CACHE_CONTROL] = _FOR_GOOD
        return answer


def load_libraries() -> Mapping[str, Library]:
    """All there are in the package, by the name of their folder."""
    folder = resources.files(_PACKAGE)
    manifest = json.loads(folder.joinpath("vendored.json").read_text("utf-8"))
    return {
        name: Library(
            entry["package"],
            entry["version"],
            entry["licence"],
            {
                file: as_asset(file, folder.joinpath(name, file).read_bytes())
                for file in entry["files"]
            },
        )
        for name, entry in manifest.items()
    }
