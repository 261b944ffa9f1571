"""Fetches the browser libraries of `vendored.json`: see scripts/vendor.

npm brings the package; what is in it must be what `integrity` says (a sha512, as in npm's own lock
files), so it doesn't matter from where npm got it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[2] / "src" / "personaplex_bridge" / "vendor"
MANIFEST = VENDOR / "vendored.json"

FETCH_TIMEOUT_S = 300
MAX_FILE_BYTES = 4 * 1024 * 1024

Library = dict[str, Any]


class VendorError(Exception):
    """A library can't be had; the text says why."""


class WrongPackage(Exception):
    """What npm has is not what `vendored.json` says; the text says how."""


def main() -> int:
    """0: done; 1: what npm has differs; 2: something can't be fetched."""
    options = _arguments()
    try:
        manifest: dict[str, Library] = json.loads(MANIFEST.read_text("utf-8"))
        if options.update:
            _take_versions(manifest, options.update)
        wanted = {name: _fetch(library) for name, library in manifest.items()}
        if options.check:
            return _compare(wanted)
        _write(manifest, wanted)
    except (VendorError, WrongPackage) as error:
        print(f"vendor: {error}", file=sys.stderr)
        return 1 if isinstance(error, WrongPackage) else 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/vendor",
        description="Fetch the pages' browser libraries from npm's registry.",
        epilog="exit status: 0 done, 1 npm has something else, 2 something can't be fetched",
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--check", action="store_true", help="say whether the committed files are npm's; no changes"
    )
    either.add_argument(
        "--update",
        nargs="+",
        metavar="NAME@VERSION",
        help="take another version of a library that vendored.json has",
    )
    return parser.parse_args()


def _take_versions(manifest: dict[str, Library], wanted: list[str]) -> None:
    libraries = {library["package"]: library for library in manifest.values()}
    for each in wanted:
        package, at, version = each.rpartition("@")
        if not at or package not in libraries:
            raise VendorError(f"{each!r}: NAME@VERSION, with one of {', '.join(libraries)}")
        libraries[package].update(version=version, integrity=None)


def _fetch(library: Library) -> dict[str, bytes]:
    """The library's files. An `integrity` that isn't known yet is filled in."""
    named = f"{library['package']}@{library['version']}"
    print(f"vendor: {named}")
    archive = _packed(named)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if library["integrity"] not in (None, integrity):
        raise WrongPackage(f"{named} is {integrity}, not {library['integrity']} (vendored.json)")
    library["integrity"] = integrity
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        with tarfile.open(fileobj=file) as packed:
            _check_licence(library, json.loads(_read(packed, "package.json")))
            return {
                name: _read(packed, origin["from"]) for name, origin in library["files"].items()
            }


def _packed(named: str) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise VendorError("npm is missing: apt-get install npm, or brew install node")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            npm,
            "pack",
            "--loglevel=error",
            named,
            "--ignore-scripts",
            "--pack-destination",
            folder,
        ]
        try:
            ran = subprocess.run(
                command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise VendorError(f"npm has not packed {named} in {FETCH_TIMEOUT_S} s") from None
        packed = list(Path(folder).glob("*.tgz"))
        if ran.returncode or len(packed) != 1:
            raise VendorError(f"npm can't pack {named} (status {ran.returncode}):\n{ran.stderr}")
        return packed[0].read_bytes()


def _check_licence(library: Library, package: dict[str, Any]) -> None:
    if package.get("license") != library["licence"]:
        raise WrongPackage(
            f"{library['package']} is under {package.get('license')!r} now, not "
            f"{library['licence']!r}: read it, then change vendored.json"
        )


def _read(packed: tarfile.TarFile, path: str) -> bytes:
    """A file of the package: npm puts all of them below `package/`."""
    try:
        member = packed.getmember(f"package/{path}")
    except KeyError:
        raise WrongPackage(f"there is no {path} in the package") from None
    file = packed.extractfile(member)
    if file is None or member.size > MAX_FILE_BYTES:
        raise WrongPackage(f"{path} is no file of at most {MAX_FILE_BYTES} bytes")
    return file.read()


def _compare(wanted: dict[str, dict[str, bytes]]) -> int:
    differing = []
    for library, files in wanted.items():
        for name, content in files.items():
            path = VENDOR / library / name
            if not path.exists() or path.read_bytes() != content:
                differing.append(f"{library}/{name}")
    for each in differing:
        print(f"vendor: {each} is not what npm has", file=sys.stderr)
    if not differing:
        print(f"vendor: all {sum(map(len, wanted.values()))} files are what npm has")
    return 1 if differing else 0


def _write(manifest: dict[str, Library], wanted: dict[str, dict[str, bytes]]) -> None:
    for library, files in wanted.items():
        folder = VENDOR / library
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            manifest[library]["files"][name]["sha256"] = digest
            print(f"vendor: {library}/{name}: {len(content)} bytes")
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
