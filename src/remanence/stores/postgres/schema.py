"""The schema of a PostgreSQL database: made, brought up to date, and recognised."""

from __future__ import annotations

from remanence.errors import InvalidConfig, RemanenceError
from remanence.stores.migrations import Applied, Migration, migrations, pending
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.connect import SCHEMA, Connection, connect, shown
from remanence.stores.postgres.errors import DRIVER_ERRORS, explain

__all__ = ["is_current", "migrate", "waiting"]

VERSION_MIN = 140_000

_STARTERS = 5927136210243
"""Advisory lock: one process at a time looks what is missing and makes it."""
_APPLIED = "SELECT number, name, digest FROM migrations"


async def is_current(access: Access, url: str) -> bool:
    """Whether nothing needs to be done, found out in one round trip. False too when it cannot be told: `migrate` can.

    Raises StoreError when a newer release has migrated it.
    """
    try:
        async with access.connection("looking at the schema") as connection:
            rows = await connection.fetch(_APPLIED)
    except (RemanenceError, ValueError):  # a URL that makes no sense is found out at the first connection
        return False
    return not pending(migrations("postgres"), [Applied(*row) for row in rows], where=shown(url))


async def waiting(url: str) -> tuple[Migration, ...]:
    """The migrations this database still needs. Raises StoreError when a newer release has migrated it."""
    connection = await connect(url)
    try:
        return await _waiting(connection, url)
    except DRIVER_ERRORS as error:
        raise explain(error, "looking at the schema") from error
    finally:
        await connection.close()


async def migrate(url: str) -> tuple[Migration, ...]:
    """Apply what is waiting, all of it or nothing. Several processes may do this at once. Returns those done."""
    connection = await connect(url, patient=True)
    try:
        async with connection.transaction():
            await _check_version(connection)
            await connection.execute(f"SELECT pg_advisory_xact_lock({_STARTERS})")
            todo = await _waiting(connection, url)
            if todo:
                if await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA) is None:
                    await connection.execute(f"CREATE SCHEMA {SCHEMA}")
                await connection.execute(
                    "CREATE TABLE IF NOT EXISTS migrations "
                    "(number integer PRIMARY KEY, name text NOT NULL, digest text NOT NULL)"
                )
            for migration in todo:
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO migrations VALUES ($1, $2, $3)", migration.number, migration.name, migration.digest
                )
            return todo
    except DRIVER_ERRORS as error:
        raise explain(error, "bringing the schema up to date") from error
    finally:
        await connection.close()


async def _check_version(connection: Connection) -> None:
    version = await connection.fetchval("SELECT current_setting('server_version_num')::integer")
    if version < VERSION_MIN:
        raise InvalidConfig(
            f"The server is PostgreSQL {version // 10_000}; {VERSION_MIN // 10_000} or newer is needed. Nothing was "
            "changed; use a newer server."
        )


async def _waiting(connection: Connection, url: str) -> tuple[Migration, ...]:
    there = await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.migrations")
    applied: list[Applied] = []
    if there is not None:
        applied = [Applied(*row) for row in await connection.fetch(_APPLIED)]
    return pending(migrations("postgres"), applied, where=shown(url))
