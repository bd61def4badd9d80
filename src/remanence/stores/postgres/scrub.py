"""What deleted and replaced rows leave in PostgreSQL's files, and how it goes: the tables are written anew.

A row that is deleted stays in its page until the page is needed, and a page that VACUUM compacts keeps old bytes in the
gap. Only VACUUM FULL writes a new file without them (the planner's statistics quote no column that holds what was said:
`schema/postgres/0006_nothing_quoted.sql`). It needs the table for itself while it works and as much room as
the table takes; erasures are rare. The planner's table itself is written anew where we may, as the owner of the
database, and a checkpoint is asked for, so that what is searched on the disk is what the server has in memory. What the
server's write-ahead log, its replicas and its backups hold is beyond our reach: they forget when they are recycled.

A table that is written anew keeps every row that some transaction could still see. So those that began before, whoever
they are of, are waited for first; also those of other databases on the server that write, because every look taken
while they run is as old as they are, and what a prepared transaction or a standby of the server still needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from remanence.stores.postgres.connect import SCHEMA, Connection, connect, hang_up
from remanence.stores.postgres.errors import DRIVER_ERRORS, explain
from remanence.stores.refusals import OLDER_LOOK_S, OLDER_S_MAX, still_seen

__all__ = ["rewrite_tables", "table_files"]

_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY c.relname
"""
_MAY_CHECKPOINT = """
SELECT rolsuper OR EXISTS (
    SELECT FROM pg_roles r WHERE r.rolname = 'pg_checkpoint' AND pg_has_role(current_user, r.oid, 'USAGE'))
FROM pg_roles WHERE rolname = current_user
"""
_OLDER = """
WITH seeing AS (
    SELECT format('process %s of the server (%s)', pid, coalesce(nullif(application_name, ''), 'no name')) AS who,
        xact_start AS since, backend_xid AS writes,
        CASE WHEN datname IS NULL OR datname = current_database() THEN backend_xmin END AS looks
    FROM pg_stat_activity WHERE pid <> pg_backend_pid()
    UNION ALL SELECT format('the prepared transaction %s', gid), prepared, transaction, NULL FROM pg_prepared_xacts
    UNION ALL SELECT format('the replication slot %s', slot_name), NULL, NULL, xmin FROM pg_replication_slots
)
SELECT who, since FROM seeing WHERE greatest(age(writes), age(looks)) > age($1::text::xid) ORDER BY since LIMIT 1
"""
_FOLDER = """
SELECT current_setting('data_directory', true) || '/base/' || oid FROM pg_database WHERE datname = current_database()
"""


async def rewrite_tables(url: str) -> None:
    """Rewrite every table of ours. Raises StoreError; the tables done by then stay rewritten."""
    connection = await connect(url, patient=True)
    try:
        await _wait_for_older(connection)
        for row in await connection.fetch(_TABLES, SCHEMA):
            await connection.execute(f'VACUUM (FULL) {SCHEMA}."{row["relname"]}"')
        await connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")  # a warning, unless the database is ours
        if await connection.fetchval(_MAY_CHECKPOINT):
            await connection.execute("CHECKPOINT")
    except DRIVER_ERRORS as error:
        raise explain(error, "rewriting the tables") from error
    finally:
        await hang_up(connection)


async def _wait_for_older(connection: Connection) -> None:
    """Wait until no transaction can see what is there no more. Raises StoreUnavailable when one goes on and on."""
    now = await connection.fetchval("SELECT pg_current_xact_id()::xid::text")
    looks = int(OLDER_S_MAX / OLDER_LOOK_S)
    while (older := await connection.fetchrow(_OLDER, now)) is not None:
        looks -= 1
        if not looks:
            since = f", since {older['since']}" if older["since"] else ""  # of another role it is not told
            raise still_seen(f"{older['who']}{since}")
        await asyncio.sleep(OLDER_LOOK_S)


async def table_files(connection: Connection) -> Sequence[Path]:
    """Every file of the database, none when this process cannot see them."""
    folder = await connection.fetchval(_FOLDER)
    return await asyncio.to_thread(_readable, Path(folder)) if folder else ()


def _readable(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []  # on another machine, or not ours to read
