"""A SQLite file that can only be read: on a read-only file system, or without the permission to write it.

A file in WAL mode is read together with its log and the index of that (`-wal`, `-shm`), which SQLite makes where they
are missing. Where they cannot be made there are two cases. Without a log the file is whole, and nobody changes it: it
is read as it lies (`immutable`). With a log but without its index it cannot be read in place, and a copy can.

A disk that is full is such a place, too, while nobody has the file open: there is no room for the index of its log.
The file is read as it lies then, if its log holds nothing, and each read looks afterwards whether it is as it was.

What may be looked at is asked for by name, never by opening the file: a process that closes any descriptor of a file
gives up all its locks on it.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from remanence.errors import StoreReadOnly
from remanence.stores.sqlite.connect import LOCK_TIMEOUT_S, Location, has_log, looks_of

__all__ = ["located", "on_a_full_disk", "read_only", "refused"]

_FULL = "there is no space left on its disk"
_EFFECTIVE = os.access in os.supports_effective_ids


def read_only(path: str) -> str:
    """Why the database at `path` can only be read; empty when it can be written, or is not there."""
    file = Path(path)
    if not file.exists():
        return ""
    folder = file.resolve().parent
    if not _writable(file):
        what = "the file"
    elif not _writable(folder) and not all(_writable(log) for log in _logs(path)):
        what = "its folder"
    else:
        return ""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return "it is on a read-only file system"
    return f"there is no permission to write {what}"


def located(
    path: str, ephemeral: bool = False, bytes_max: int | None = None, lock_timeout_s: float = LOCK_TIMEOUT_S
) -> Location:
    """The file as it can be used here, wherever this process goes: connections are opened later, too."""
    path = str(Path(path).absolute())
    why = read_only(path)
    return Location(path, ephemeral, bytes_max, lock_timeout_s, why, bool(why) and _lies_whole(path))


def on_a_full_disk(location: Location) -> Location | None:
    """The file as it can still be read where there is no room beside it; None when its log would be needed for that."""
    if has_log(location.path):
        return None
    seen = looks_of(location.path)
    return msgspec.structs.replace(location, read_only=_FULL, whole=True, seen=seen)


def _lies_whole(path: str) -> bool:
    """Whether the file is all there is of the database, and its log cannot come into being."""
    log, _ = _logs(path)
    return not (log.exists() and log.stat().st_size) and not _writable(log.parent)


def _logs(path: str) -> tuple[Path, Path]:
    lies = Path(path).resolve()  # SQLite keeps them where the file is, not where a link to it is
    return Path(f"{lies}-wal"), Path(f"{lies}-shm")


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=_EFFECTIVE)


def refused(path: str, why: str) -> StoreReadOnly:
    """What whoever wants to write is told."""
    mend = "Make room and try again."
    if why != _FULL:
        mend = "Work where it can be written, or copy it first: remanence db backup FILE."
    return StoreReadOnly(
        f"The database {path} can only be read here: {why}. Nothing of this was kept; what is in the database is as it "
        f"was. {mend}"
    )
