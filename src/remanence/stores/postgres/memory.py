"""The index of long-term memory on PostgreSQL: see `ports.Memories`. Changes are here, questions in the reads.

Numbers of sessions and documents are given one after the other within a place, so whoever adds to a place holds its row
until the end of the transaction; places are locked in the order of their names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from remanence.core.memory.entries import chunk_of, without
from remanence.core.memory.laying import Chunk, PlaceCount, SessionCount, endings, lay
from remanence.core.memory.words import indexed, name_words
from remanence.ports import Cursor
from remanence.recollections import (
    Close,
    Keep,
    Memory,
    MemoryChange,
    MemoryHit,
    MemoryListing,
    MemoryQuery,
    MemoryRemoval,
    MemorySelector,
    MemoryStats,
    Place,
)
from remanence.stores.memory_rows import FIELDS, INDEX_TABLES, removed_of, row_of, sources, standing
from remanence.stores.postgres import memory_reads as reads
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.careful import SHARE_PROJECTIONS, SHUT_PROJECTIONS
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.journal import erased_among
from remanence.stores.postgres.views import ALL_BEHIND, CAUGHT_UP, MOVE_CURSOR

__all__ = ["MEMORY", "PostgresMemories"]

MEMORY = "memory"
"""The name of the projection whose cursors `apply` moves."""

_INTEGERS = {"version": "int", "asks": "smallint"} | dict.fromkeys(
    ("place", "document", "position", "recorded_at", "closed_at", "valid_from", "valid_to", "ended_at", "expires_at"),
    "bigint",
)
_ARRAYS = [_INTEGERS.get(field, "text") for field in FIELDS]
COPY_FROM = 50
"""So many memories come faster by a copy of their own; fewer go along with their words."""


def _unnest(types: Sequence[str], first: int) -> str:
    return f"unnest({', '.join(f'${first + at}::{type_}[]' for at, type_ in enumerate(types))})"


_F = len(FIELDS)
# One statement, because each is a way to the server and back, and the tables do not read each other.
_LAY_DOWN = f"""
WITH added AS (INSERT INTO memories ({", ".join(FIELDS)}) SELECT * FROM {_unnest(_ARRAYS, 1)}),
words AS (
    INSERT INTO memory_words AS w (place, word, chunk, entries)
    SELECT * FROM {_unnest(("bigint", "text", "bigint", "bytea"), _F + 1)}
    ON CONFLICT (place, word, chunk) DO UPDATE SET entries = w.entries || excluded.entries
),
names AS (
    INSERT INTO memory_names AS n (place, name, memories)
    SELECT * FROM {_unnest(("bigint", "text", "bigint"), _F + 5)}
    ON CONFLICT (place, name) DO UPDATE SET memories = n.memories + excluded.memories
),
sessions AS (
    INSERT INTO memory_sessions (place, session, no, ordinal)
    SELECT * FROM {_unnest(("bigint", "text", "bigint", "bigint"), _F + 8)}
    ON CONFLICT (place, session) DO UPDATE SET no = excluded.no, ordinal = excluded.ordinal
),
subjects AS (
    INSERT INTO memory_subjects (project, subject, place, document)
    SELECT * FROM {_unnest(("text", "text", "bigint", "bigint"), _F + 12)} ON CONFLICT DO NOTHING
)
UPDATE memory_places p SET sessions = c.sessions, memories = c.memories, words = c.words
FROM {_unnest(("bigint", "bigint", "bigint", "bigint"), _F + 16)} AS c (place, sessions, memories, words)
WHERE p.place = c.place
"""
_LOOK = """
SELECT 'version' AS what, project, id AS name, version::bigint AS no, 0::bigint AS ordinal
FROM memories JOIN unnest($1::text[], $2::text[]) AS w (project, id) USING (project, id)
UNION ALL SELECT 'closing', project, id, 0, 0
FROM memory_closings JOIN unnest($1::text[], $2::text[]) AS w (project, id) USING (project, id)
UNION ALL SELECT place::text, '', session, no, ordinal
FROM memory_sessions JOIN unnest($3::bigint[], $4::text[]) AS w (place, session) USING (place, session)
"""
_ADD_PLACES = """
INSERT INTO memory_places (project, store, scope) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
ON CONFLICT DO NOTHING
"""
_LOCK_PLACES = """
SELECT p.project, p.store, p.scope, p.place, p.sessions, p.memories, p.words
FROM memory_places p JOIN unnest($1::text[], $2::text[], $3::text[]) AS w (project, store, scope)
    USING (project, store, scope)
WHERE cardinality($1::text[]) = (
    SELECT count(*) FROM memory_places JOIN unnest($1::text[], $2::text[], $3::text[]) AS w (project, store, scope)
        USING (project, store, scope)
)
ORDER BY p.project, p.store, p.scope FOR UPDATE OF p
"""
"""All of them or none: whoever holds one and waits to add another could wait for somebody who waits for the one."""
# Nobody writes to these sessions between this look and the commit: what is being erased is seen as it will be, and
# whoever removes the memories of a record afterwards finds what was laid down before.
_LOCK_SOURCES = "SELECT sid, id, head FROM sessions WHERE id = ANY ($1::text[]) ORDER BY sid FOR NO KEY UPDATE"
_LOCK_NAMES = "SELECT pg_advisory_xact_lock(hashtextextended(name, 2)) FROM unnest($1::text[]) AS w (name)"
# In the one order in which memories are closed and given vectors, too (`_settle`, `vectors`), so that nobody waits for
# somebody who waits for them; with the versions that stay, since those are settled anew.
_LOCK_MEMORIES = """
SELECT FROM memories m JOIN unnest($1::text[], $2::text[]) AS w (project, id) USING (project, id)
ORDER BY project COLLATE "C", id COLLATE "C", m.version FOR UPDATE OF m
"""
_ADD_CLOSINGS = """
INSERT INTO memory_closings (project, id, at, valid_to)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING
"""


class PostgresMemories:
    """Memories, and the words they are found by."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def apply(self, changes: Sequence[MemoryChange], cursor: Cursor | None = None) -> bool:
        async with self._access.transaction("indexing memories") as connection:
            sid = None
            if cursor is None:
                await connection.execute(SHARE_PROJECTIONS)
            else:
                # What is lost with the server's memory is indexed again from the journal.
                await connection.execute(f"SET LOCAL synchronous_commit TO off; {SHARE_PROJECTIONS}")
                sid = await connection.fetchval(MOVE_CURSOR, MEMORY, cursor.session, cursor.position, cursor.head)
                if sid is None:
                    return False
            if changes:
                await _change(connection, standing(changes, await _erased(connection, changes, cursor)))
            if sid is not None:
                await connection.execute(CAUGHT_UP, sid)
        return True

    async def search(self, query: MemoryQuery) -> Sequence[MemoryHit]:
        async with self._access.connection("searching memories") as connection:
            return await reads.search(connection, query)

    async def get(self, project: str, memory: str, version: int | None = None) -> Memory:
        async with self._access.connection("reading a memory") as connection:
            return await reads.get(connection, project, memory, version)

    async def history(self, project: str, memory: str) -> Sequence[Memory]:
        async with self._access.connection("reading a memory") as connection:
            return await reads.history(connection, project, memory)

    async def list(self, listing: MemoryListing) -> Sequence[Memory]:
        async with self._access.connection("listing memories") as connection:
            return await reads.listing(connection, listing)

    async def places(self, project: str) -> Sequence[Place]:
        async with self._access.connection("listing places of memories") as connection:
            return await reads.places(connection, project)

    async def remove(self, selector: MemorySelector) -> MemoryRemoval:
        async with self._access.transaction("removing memories") as connection:
            # The table of vectors first: whoever makes room for theirs shuts it before they look at the memories.
            await connection.execute(f"{SHARE_PROJECTIONS}; LOCK TABLE memory_vectors IN ROW EXCLUSIVE MODE")
            return await _remove(connection, selector)

    async def clear(self) -> None:
        async with self._access.transaction("clearing the memory index") as connection:
            await connection.execute(SHUT_PROJECTIONS)
            await connection.execute("UPDATE memory_index SET begun = begun + 1")
            await connection.execute("DELETE FROM cursors WHERE projection = $1", MEMORY)
            await connection.execute("INSERT INTO projections VALUES ($1) ON CONFLICT DO NOTHING", MEMORY)
            await connection.execute(ALL_BEHIND)
            await connection.execute(f"TRUNCATE {', '.join(INDEX_TABLES)}")

    async def begun(self) -> int:
        async with self._access.connection("looking at the index of the memory") as connection:
            return await reads.begun(connection)

    async def stats(self) -> MemoryStats:
        async with self._access.connection("counting memories") as connection:
            return await reads.stats(connection)


# --- keeping and closing ----------------------------------------------------------------------------------------------


async def _erased(
    connection: Connection, changes: Sequence[MemoryChange], cursor: Cursor | None
) -> dict[str, set[int]]:
    """What was erased of the records to keep, in whatever moment they were read."""
    kept, erased = sources(changes), dict[str, set[int]]()
    for sid, session, head in await connection.fetch(_LOCK_SOURCES, list(kept)) if kept else ():
        if cursor is None or head != cursor.head:
            first, last = kept[session]
            erased[session] = await erased_among(connection, sid, after=first - 1, upto=last)
    return erased


async def _change(connection: Connection, changes: Sequence[MemoryChange]) -> None:
    keeps = [change.memory for change in changes if isinstance(change, Keep)]
    places = await _places(connection, keeps)  # first: it locks out whoever else would add the same
    names = _names(changes)
    if names:
        await connection.execute(_LOCK_NAMES, names)
    settle: set[tuple[str, str]] = set()
    if keeps:
        found, settle, sessions = await _look(connection, keeps, places)
        kept = _unknown(keeps, found, settle)
        if kept:
            await _lay_down(connection, kept, places, sessions)
    closings = [change for change in changes if isinstance(change, Close)]
    if closings:
        rows = [(closing.project, closing.id, closing.at, closing.valid_to) for closing in closings]
        await connection.execute(_ADD_CLOSINGS, *_columns(rows, 4))
        settle.update((closing.project, closing.id) for closing in closings)
    for project, name in sorted(settle):
        await _settle(connection, project, name)


def _names(changes: Sequence[MemoryChange]) -> list[str]:
    """The memories that have versions: who changes one sees what others have done to it, and waits for it."""
    keeps = (change.memory for change in changes if isinstance(change, Keep))
    names = {f"{memory.project}\n{memory.id}" for memory in keeps if memory.kind != "episode"}
    return sorted(names | {f"{change.project}\n{change.id}" for change in changes if isinstance(change, Close)})


_Name = tuple[str, str]
_Where = tuple[int, str]


async def _look(
    connection: Connection, keeps: Sequence[Memory], places: dict[tuple[str, str, str], PlaceCount]
) -> tuple[dict[_Name, set[int]], set[_Name], dict[_Where, SessionCount]]:
    """What is there: versions of these memories, which of them were closed, and the numbers of their sessions."""
    found: dict[_Name, set[int]] = {(memory.project, memory.id): set() for memory in keeps}
    wanted = {
        (places[memory.project, memory.place.store, memory.place.scope].no, session)
        for memory in keeps
        for session in (memory.session, "")
    }
    closed: set[_Name] = set()
    sessions: dict[_Where, SessionCount] = {}
    for row in await connection.fetch(_LOOK, *_columns(found, 2), *_columns(sorted(wanted), 2)):
        what, project, name, no, ordinal = tuple(row)
        match what:
            case "version":
                found[project, name].add(no)
            case "closing":
                closed.add((project, name))
            case place:
                sessions[int(place), name] = SessionCount(no, ordinal)
    return found, closed, sessions


def _unknown(keeps: Sequence[Memory], found: dict[_Name, set[int]], settle: set[_Name]) -> list[Memory]:
    """The versions that are not there yet. Memories of which there is more than one version are added to `settle`."""
    kept: list[Memory] = []
    for memory in keeps:
        versions = found[memory.project, memory.id]
        if memory.version not in versions:
            versions.add(memory.version)
            kept.append(memory)
            if len(versions) > 1:
                settle.add((memory.project, memory.id))
    return kept


async def _lay_down(
    connection: Connection,
    kept: Sequence[Memory],
    places: dict[tuple[str, str, str], PlaceCount],
    sessions: dict[_Where, SessionCount],
) -> None:
    laid = lay(kept, places, sessions)
    rows = [row_of(*row) for row in laid.memories]
    if len(rows) >= COPY_FROM:
        await connection.copy_records_to_table("memories", records=rows, columns=list(FIELDS))
        rows = []
    await connection.execute(
        _LAY_DOWN,
        *_columns(rows, _F),
        *_columns(laid.words(), 4),
        *_columns([(*name, n) for name, n in laid.names.items()], 3),
        *_columns([(*where, count.no, count.ordinal) for where, count in sessions.items()], 4),
        *_columns([(m.project, about, place, at) for place, at, _, m in laid.memories for about in m.subjects], 4),
        *_columns([(count.no, count.sessions, count.memories, count.words) for count in places.values()], 4),
    )


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


async def _places(connection: Connection, keeps: Iterable[Memory]) -> dict[tuple[str, str, str], PlaceCount]:
    keys = sorted({(memory.project, memory.place.store, memory.place.scope) for memory in keeps})
    if not keys:
        return {}
    columns = _columns(keys, 3)
    rows = await connection.fetch(_LOCK_PLACES, *columns)
    if not rows:
        await connection.execute(_ADD_PLACES, *columns)
        rows = await connection.fetch(_LOCK_PLACES, *columns)
    return {tuple(row[:3]): PlaceCount(*row[3:]) for row in map(tuple, rows)}


async def _settle(connection: Connection, project: str, name: str) -> None:
    """Close what was superseded or closed, whatever came first."""
    versions = await reads.versions(connection, project, name)
    rows = await connection.fetch(
        "SELECT at, valid_to FROM memory_closings WHERE project = $1 AND id = $2", project, name
    )
    closings = [Close(project, name, row["at"], row["valid_to"]) for row in rows]
    for end in endings(versions, closings):
        await connection.execute(
            "UPDATE memories SET closed_at = $1, ended_at = $2 WHERE project = $3 AND id = $4 AND version = $5",
            *(end.closed_at, end.ended_at, project, name, end.version),
        )


# --- removing ---------------------------------------------------------------------------------------------------------


async def _remove(connection: Connection, selector: MemorySelector) -> MemoryRemoval:
    rows = await reads.selected(connection, selector)
    if not rows:
        return MemoryRemoval()
    places = sorted({place for place, _, _ in rows})
    await connection.execute(
        "SELECT FROM memory_places WHERE place = ANY ($1::bigint[]) ORDER BY project, store, scope FOR UPDATE", places
    )
    # Once more, now that nobody else can: who removed some of them meanwhile has counted them.
    rows = [row for row in await reads.selected(connection, selector) if row[0] in places]
    if not rows:
        return MemoryRemoval()
    names = sorted({(memory.project, memory.id) for _, _, memory in rows})
    await connection.execute(_LOCK_MEMORIES, *_columns(names, 2))
    counts: dict[str, int] = {"memory_words": await _remove_words(connection, rows)}
    for place, _document, memory in rows:
        await connection.execute(
            "UPDATE memory_places SET memories = memories - 1, words = words - $1 WHERE place = $2",
            indexed(memory.text).length,
            place,
        )
        await connection.execute(
            "UPDATE memory_names SET memories = memories - 1 WHERE place = $1 AND name = ANY ($2::text[])",
            place,
            list(name_words(memory.speaker)),
        )
    keys = _columns([(place, document) for place, document, _ in rows], 2)
    # The memories first: whoever keeps a vector of one holds on to it until the vector is there to be removed.
    for table in ("memories", "memory_subjects", "memory_vectors"):
        gone = await connection.execute(
            f"DELETE FROM {table} t USING unnest($1::bigint[], $2::bigint[]) AS w (place, document) "
            "WHERE t.place = w.place AND t.document = w.document",
            *keys,
        )
        counts[table] = _count(gone)
    counts["memory_names"] = _count(await connection.execute("DELETE FROM memory_names WHERE memories <= 0"))
    counts["memory_closings"] = 0
    for key in names:
        if await reads.versions(connection, *key):
            await _settle(connection, *key)
        else:
            gone = await connection.execute("DELETE FROM memory_closings WHERE project = $1 AND id = $2", *key)
            counts["memory_closings"] += _count(gone)
    removed = tuple(removed_of(memory) for _, _, memory in rows)
    return MemoryRemoval(removed, {table: count for table, count in counts.items() if count})


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])


async def _remove_words(connection: Connection, rows: Sequence[tuple[int, int, Memory]]) -> int:
    """Take documents out of their words' entries. Returns how many entries are gone."""
    gone: defaultdict[Chunk, set[int]] = defaultdict(set)
    for place, document, memory in rows:
        for word in indexed(memory.text).words:
            gone[place, word, chunk_of(document)].add(document)
    where = "WHERE place = $1 AND word = $2 AND chunk = $3"
    for chunk, documents in sorted(gone.items()):
        entries = await connection.fetchval(f"SELECT entries FROM memory_words {where} FOR UPDATE", *chunk)
        left = without(entries or b"", documents)
        if left:
            await connection.execute(f"UPDATE memory_words SET entries = $4 {where}", *chunk, left)
        else:
            await connection.execute(f"DELETE FROM memory_words {where}", *chunk)
    return sum(len(documents) for documents in gone.values())
