"""Numbered migrations: the files `schema/<dialect>/NNNN_name.sql`, applied in order, each in a transaction of its own.

A migration that was published is never changed; the database remembers the digest of what it applied, and a difference
is refused, as is a database that a newer release has migrated: both would otherwise be found out in mid-write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from remanence.content import digest_of
from remanence.errors import StoreError

__all__ = ["Applied", "Migration", "migrations", "pending"]

_FOLDER = Path(__file__).with_name("schema")
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class Migration(msgspec.Struct, frozen=True):
    """One file. `digest` is over its text, 64 hexadecimal digits."""

    number: int
    name: str
    sql: str
    digest: str


class Applied(msgspec.Struct, frozen=True):
    """What a database remembers of a migration."""

    number: int
    name: str
    digest: str


def migrations(dialect: str) -> tuple[Migration, ...]:
    """Every migration of a dialect (`sqlite` or `postgres`), in order."""
    found: list[Migration] = []
    for file in _FOLDER.joinpath(dialect).iterdir():
        match = _NAME.fullmatch(file.name)
        if match is not None:
            sql = file.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), match[2], sql, digest_of(sql.encode())))
    return tuple(sorted(found, key=lambda migration: migration.number))


def pending(known: Sequence[Migration], applied: Iterable[Applied], *, where: str) -> tuple[Migration, ...]:
    """The migrations that `where` still needs. Raises StoreError for a database this release must not touch."""
    done = {one.number: one for one in applied}
    newest = known[-1].number if known else 0
    if any(number > newest for number in done):
        raise StoreError(
            f"The database {where} has schema {max(done)}, and this release knows schemas up to {newest}: a newer "
            "release has migrated it. Nothing was changed; open it with that release, or a newer one."
        )
    for migration in known:
        before = done.get(migration.number)
        if before is not None and before.digest != migration.digest:
            raise StoreError(
                f"The database {where} was given migration {before.number} ({before.name}) in another wording than "
                "this release has. Nothing was changed; open it with the release that made it."
            )
    return tuple(migration for migration in known if migration.number not in done)
