"""Which migrations a database has and which it still needs, looked at without touching it; and applying them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from remanence.errors import InvalidConfig, NotFound
from remanence.stores.migrations import Migration, migrations

__all__ = ["SchemaState", "migrate", "schema_state"]

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")


class SchemaState(msgspec.Struct, frozen=True):
    """`current` is the newest migration the database has (0: none), `known` the newest this release has."""

    current: int
    known: int
    pending: tuple[str, ...] = ()


async def schema_state(url: str) -> SchemaState:
    """The schema of `sqlite:///PATH` or `postgresql://...` as it is.

    Raises NotFound when there is no such file, StoreError when a newer release has migrated it or it cannot be read.
    """
    if url.startswith(_SQLITE):
        from remanence.stores.sqlite.schema import waiting

        path = url.removeprefix(_SQLITE)
        if not path or path == ":memory:":
            return _state("sqlite", ())
        if not await asyncio.to_thread(Path(path).exists):
            raise NotFound(f"There is no database {path}. `remanence db migrate` makes it.", param="database")
        return _state("sqlite", await waiting(path))
    if url.startswith(_POSTGRES):
        from remanence.stores.postgres.schema import waiting

        return _state("postgres", await waiting(url))
    raise _unknown(url)


async def migrate(url: str) -> tuple[str, ...]:
    """Make the database when it is a missing file, and apply what is pending; returns the names of those applied."""
    if url.startswith(_SQLITE):
        from remanence.stores.sqlite.schema import migrate as migrate_file

        return _names(await migrate_file(url.removeprefix(_SQLITE)))
    if url.startswith(_POSTGRES):
        from remanence.stores.postgres.schema import migrate as migrate_server

        return _names(await migrate_server(url))
    raise _unknown(url)


def _state(dialect: str, pending: tuple[Migration, ...]) -> SchemaState:
    known = migrations(dialect)
    return SchemaState(known[-1].number - len(pending), known[-1].number, _names(pending))


def _names(found: tuple[Migration, ...]) -> tuple[str, ...]:
    return tuple(f"{one.number:04d}_{one.name}" for one in found)


def _unknown(url: str) -> InvalidConfig:
    return InvalidConfig(
        f"{url.split('@')[-1]!r} is not a database this release knows. Use sqlite:///PATH or postgresql://HOST/NAME."
    )
