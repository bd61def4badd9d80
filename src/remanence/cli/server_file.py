"""Where the server of a database tells the command line that it runs: the file `server.json`.

`serve` and `dev` write it beside a SQLite database, and into the project's folder `.remanence` for PostgreSQL: the
address, the process, and a key that was made for this run. It is readable by its owner alone, because who can read it
may do everything: the same that who can read the database may do anyway.

It is removed when the server ends in order. One that a killed server left behind is noticed by its process, which is
gone, or by nobody answering, and is removed by whoever notices.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from remanence.settings import Configuration

__all__ = ["FILE_NAME", "Announced", "announced", "announcing", "database_digest", "place_of", "withdraw"]

FILE_NAME = "server.json"


class Announced(msgspec.Struct, frozen=True):
    """A server that runs, or ran. `database` is a digest: a URL may hold a password."""

    url: str
    pid: int
    key: str
    database: str


def place_of(configuration: Configuration) -> Path:
    """Where the file lies for these settings."""
    url = configuration.settings.database
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///")).parent / FILE_NAME
    return configuration.root / ".remanence" / FILE_NAME


def database_digest(configuration: Configuration) -> str:
    """Which database, so that a file that another one's server left is not taken for ours."""
    url = configuration.settings.database
    if url.startswith("sqlite:///"):
        url = str(Path(url.removeprefix("sqlite:///")).absolute())
    return hashlib.sha256(url.encode()).hexdigest()


@contextmanager
def announcing(configuration: Configuration, url: str, key: str) -> Generator[None]:
    """Say meanwhile that a server runs at `url`. Where no file can be written, the command line uses the database."""
    place = place_of(configuration)
    said = Announced(url, os.getpid(), key, database_digest(configuration))
    with contextlib.suppress(OSError):  # a read-only folder: nothing depends on it
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{FILE_NAME}.{os.getpid()}")
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            file.write(msgspec.json.encode(said))
        partial.replace(place)
    try:
        yield
    finally:
        withdraw(place, said)


def announced(configuration: Configuration) -> Announced | None:
    """The server that says it runs for this database and whose process lives. What a dead one left is removed."""
    place = place_of(configuration)
    try:
        if os.stat(place).st_uid != os.getuid():
            return None  # whoever wrote it could have us speak to anything
        said = msgspec.json.decode(place.read_bytes(), type=Announced)
    except (OSError, msgspec.MsgspecError):
        return None
    if said.database != database_digest(configuration):
        return None
    if not _lives(said.pid):
        withdraw(place, said)
        return None
    return said


def withdraw(place: Path, said: Announced) -> None:
    """Remove the file, unless another server has written its own meanwhile."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        if msgspec.json.decode(place.read_bytes(), type=Announced) == said:
            place.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
