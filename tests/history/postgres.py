"""A PostgreSQL server of the tests' own: from the distribution's packages, on a socket in a folder.

It refuses to run as root, who may be the one who runs the tests: then it runs as somebody else.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

START_LIMIT_S = 60.0


class PostgresServer:
    """Start it, kill it, start it again. What was written stays. `remove` it at the end."""

    def __init__(self) -> None:
        self._bin = _programs()
        self._user = _somebody()
        # Not pytest's folder, which is closed to others; and a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(self.folder, self._user)
        self._run("initdb", "-A", "trust", "-U", "bridge", "-N", "--no-locale", "-E", "UTF8")

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def url(self, database: str) -> str:
        return f"postgresql://bridge@/{database}?host={self.folder}"

    def start(self) -> None:
        """Return once it answers."""
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", str(self.folder)]
        self._process = subprocess.Popen(
            self._command("postgres", *options), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        give_up_s = time.monotonic() + START_LIMIT_S
        while not self._answers():
            assert time.monotonic() < give_up_s, "PostgreSQL doesn't start"
            time.sleep(0.02)

    def stop(self) -> None:
        """At once, connections or not: without a checkpoint, as after a crash."""
        if self._process is not None:
            self._run("pg_ctl", "stop", "-m", "immediate", "-w")
            self._process.wait()
            self._process = None

    def new_database(self, name: str) -> str:
        """Its URL."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}"')
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> str:
        """The answer, as psql prints it."""
        psql = [str(self._bin / "psql"), "-h", str(self.folder), "-U", "bridge", "-Atqc", statement]
        done = subprocess.run([*psql, database], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "PostgreSQL has ended"
        ready = [str(self._bin / "pg_isready"), "-q", "-h", str(self.folder), "-U", "bridge"]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(self._command(program, *arguments), check=True, capture_output=True, cwd="/")

    def _command(self, program: str, *arguments: str) -> list[str]:
        whole = [str(self._bin / program), "-D", str(self.folder / "data"), *arguments]
        return ["runuser", "-u", self._user, "--", *whole] if self._user else whole


def _programs() -> Path:
    """Where they are: Debian and Homebrew have a folder for each version, others the PATH."""
    places = ("usr/lib/postgresql/*", "opt/homebrew/opt/postgresql@*", "usr/local/opt/postgresql@*")
    folders = [path for place in places for path in sorted(Path("/").glob(f"{place}/bin/initdb"))]
    found = str(folders[-1]) if folders else shutil.which("initdb")
    assert found, "PostgreSQL isn't installed: ./scripts/test does that"
    return Path(found).parent


def _somebody() -> str:
    """Whom to run it as, if we are root."""
    if os.getuid() != 0:
        return ""
    users = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"
