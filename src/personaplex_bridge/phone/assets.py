"""The page's files, as they are in the package: read once, at start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from aiohttp import hdrs, web

CONTENT_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, and the tag by which a browser tells whether the one it has is the same."""

    content: bytes = field(repr=False)
    content_type: str
    etag: str

    def answer(self, request: web.Request) -> web.Response:
        """The file, or 304 if the browser has it already."""
        headers = {hdrs.ETAG: f'"{self.etag}"'}
        if any(tag.value in (self.etag, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=self.content, content_type=self.content_type, charset="utf-8", headers=headers
        )


def load_assets(package: str, folder: str) -> Mapping[str, Asset]:
    """The files of a folder in the package, by name."""
    files = resources.files(package).joinpath(folder).iterdir()
    return {file.name: as_asset(file.name, file.read_bytes()) for file in files if file.is_file()}


def as_asset(name: str, content: bytes) -> Asset:
    """A file; its name tells what it is, by one of the endings in `CONTENT_TYPES`."""
    content_type = CONTENT_TYPES[name[name.rindex(".") :]]
    return Asset(content, content_type, hashlib.sha256(content).hexdigest()[:32])
