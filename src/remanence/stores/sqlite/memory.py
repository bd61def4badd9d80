"""The index of long-term memory on SQLite: see `ports.Memories`. What changes it is here, what asks it in the reads.

Words lie in plain tables, not in FTS5: their statistics are those of the places a question may read, the score is the
same as on PostgreSQL, and a row that is removed is overwritten in the file (`secure_delete`), which FTS5 can only do
since SQLite 3.42.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial

from remanence.core.memory.entries import chunk_of, without
from remanence.core.memory.laying import Chunk, Laid, PlaceCount, SessionCount, endings, lay
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
from remanence.stores.sqlite import memory_reads as reads
from remanence.stores.sqlite.changes import erased_among, follow, move_cursor
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.readers import Readers
from remanence.stores.sqlite.writer import Writer

__all__ = ["MEMORY", "SqliteMemories"]

MEMORY = "memory"
"""The name of the projection whose cursors `apply` moves."""

_HEAD = "SELECT s.id, h.head FROM sessions s JOIN heads h USING (id) WHERE s.name = ?"
_ADD = f"INSERT INTO memories ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))})"
# SQLite joins bytes as text; they stay the bytes they were.
_ADD_WORDS = (
    "INSERT INTO memory_words VALUES (?, ?, ?, ?) ON CONFLICT (place, word, chunk) "
    "DO UPDATE SET entries = CAST(entries || excluded.entries AS BLOB)"
)
_ADD_NAMES = (
    "INSERT INTO memory_names VALUES (?, ?, ?) ON CONFLICT (place, name) "
    "DO UPDATE SET memories = memories + excluded.memories"
)


_IDS_AT_ONCE = 500


class SqliteMemories:
    """Memories, and the words they are found by."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def apply(self, changes: Sequence[MemoryChange], cursor: Cursor | None = None) -> bool:
        return await self._writer.do(partial(_apply, changes=changes, cursor=cursor))

    async def search(self, query: MemoryQuery) -> Sequence[MemoryHit]:
        return await self._readers.run(partial(reads.search, query=query))

    async def get(self, project: str, memory: str, version: int | None = None) -> Memory:
        return await self._readers.run(partial(reads.get, project=project, memory=memory, version=version))

    async def history(self, project: str, memory: str) -> Sequence[Memory]:
        return await self._readers.run(partial(reads.history, project=project, memory=memory))

    async def list(self, listing: MemoryListing) -> Sequence[Memory]:
        return await self._readers.run(partial(reads.listing, asked=listing))

    async def places(self, project: str) -> Sequence[Place]:
        return await self._readers.run(partial(reads.places, project=project))

    async def remove(self, selector: MemorySelector) -> MemoryRemoval:
        return await self._writer.do(partial(_remove, selector=selector))

    async def clear(self) -> None:
        await self._writer.do(_clear)

    async def begun(self) -> int:
        return await self._readers.run(reads.begun, short=True)

    async def stats(self) -> MemoryStats:
        return await self._readers.run(reads.stats)


# --- keeping and closing ----------------------------------------------------------------------------------------------


def _apply(ledger: Ledger, changes: Sequence[MemoryChange], cursor: Cursor | None) -> bool:
    if cursor is not None and move_cursor(ledger, MEMORY, cursor) is None:
        return False
    if not changes:
        return True
    connection = ledger.connection
    changes = standing(changes, _erased(ledger, changes, cursor))
    kept, settle = _unknown(connection, changes)
    _lay_down(connection, kept)
    for change in changes:
        if isinstance(change, Close):
            connection.execute(
                "INSERT OR IGNORE INTO memory_closings VALUES (?, ?, ?, ?)",
                (change.project, change.id, change.at, change.valid_to),
            )
            settle.add((change.project, change.id))
    for project, name in sorted(settle):
        _settle(connection, project, name)
    return True


def _erased(ledger: Ledger, changes: Sequence[MemoryChange], cursor: Cursor | None) -> dict[str, set[int]]:
    """What was erased of the records to keep, in whatever moment they were read."""
    erased: dict[str, set[int]] = {}
    for session, (first, last) in sources(changes).items():
        found = ledger.connection.execute(_HEAD, (session,)).fetchone()
        if found is not None and (cursor is None or found[1] != cursor.head):
            erased[session] = erased_among(ledger, found[0], first - 1, last)
    return erased


def _unknown(
    connection: sqlite3.Connection, changes: Sequence[MemoryChange]
) -> tuple[list[Memory], set[tuple[str, str]]]:
    """The versions that are not there yet, and the memories of which more is there than one version."""
    keeps = [change.memory for change in changes if isinstance(change, Keep)]
    found: dict[tuple[str, str], set[int]] = {(memory.project, memory.id): set() for memory in keeps}
    ids = sorted({memory.id for memory in keeps})
    settle: set[tuple[str, str]] = set()
    for start in range(0, len(ids), _IDS_AT_ONCE):
        some = ids[start : start + _IDS_AT_ONCE]
        where = f"WHERE project = ? AND id IN ({', '.join('?' * len(some))})"
        for project in {memory.project for memory in keeps}:
            rows = connection.execute(f"SELECT id, version FROM memories {where}", (project, *some))
            for name, version in rows:
                found.get((project, name), set()).add(version)
            rows = connection.execute(f"SELECT DISTINCT id FROM memory_closings {where}", (project, *some))
            settle.update((project, name) for (name,) in rows)
    kept: list[Memory] = []
    for memory in keeps:
        versions = found[memory.project, memory.id]
        if memory.version not in versions:
            versions.add(memory.version)
            kept.append(memory)
            if len(versions) > 1:
                settle.add((memory.project, memory.id))
    return kept, settle


def _lay_down(connection: sqlite3.Connection, kept: Sequence[Memory]) -> None:
    if not kept:
        return
    places = _places(connection, kept)
    sessions = _sessions(connection, kept, places)
    laid = lay(kept, places, sessions)
    connection.executemany(_ADD, [row_of(*row) for row in laid.memories])
    connection.executemany(_ADD_WORDS, laid.words())
    connection.executemany(_ADD_NAMES, [(*name, count) for name, count in laid.names.items()])
    connection.executemany(
        "INSERT OR REPLACE INTO memory_sessions VALUES (?, ?, ?, ?)",
        [(*where, count.no, count.ordinal) for where, count in sessions.items()],
    )
    connection.executemany(
        "UPDATE memory_places SET sessions = ?, memories = ?, words = ? WHERE place = ?",
        [(count.sessions, count.memories, count.words, count.no) for count in places.values()],
    )
    _name_subjects(connection, laid)


def _places(connection: sqlite3.Connection, kept: Iterable[Memory]) -> dict[tuple[str, str, str], PlaceCount]:
    places: dict[tuple[str, str, str], PlaceCount] = {}
    for memory in kept:
        key = memory.project, memory.place.store, memory.place.scope
        if key in places:
            continue
        connection.execute(
            "INSERT OR IGNORE INTO memory_places (project, store, scope, sessions, memories, words) "
            "VALUES (?, ?, ?, 0, 0, 0)",
            key,
        )
        row = connection.execute(
            "SELECT place, sessions, memories, words FROM memory_places WHERE project = ? AND store = ? AND scope = ?",
            key,
        ).fetchone()
        places[key] = PlaceCount(*row)
    return places


def _sessions(
    connection: sqlite3.Connection, kept: Iterable[Memory], places: dict[tuple[str, str, str], PlaceCount]
) -> dict[tuple[int, str], SessionCount]:
    wanted = {
        (places[memory.project, memory.place.store, memory.place.scope].no, session)
        for memory in kept
        for session in (memory.session, "")
    }
    found: dict[tuple[int, str], SessionCount] = {}
    for where in wanted:
        query = "SELECT no, ordinal FROM memory_sessions WHERE place = ? AND session = ?"
        row = connection.execute(query, where).fetchone()
        if row is not None:
            found[where] = SessionCount(*row)
    return found


def _name_subjects(connection: sqlite3.Connection, laid: Laid) -> None:
    rows = [
        (memory.project, subject, place, document)
        for place, document, _asks, memory in laid.memories
        for subject in memory.subjects
    ]
    connection.executemany("INSERT OR IGNORE INTO memory_subjects VALUES (?, ?, ?, ?)", rows)


def _settle(connection: sqlite3.Connection, project: str, name: str) -> None:
    """Close what was superseded or closed, whatever came first."""
    versions = reads.versions(connection, project, name)
    rows = connection.execute("SELECT at, valid_to FROM memory_closings WHERE project = ? AND id = ?", (project, name))
    closings = [Close(project, name, at, valid_to) for at, valid_to in rows]
    connection.executemany(
        "UPDATE memories SET closed_at = ?, ended_at = ? WHERE project = ? AND id = ? AND version = ?",
        [(end.closed_at, end.ended_at, project, name, end.version) for end in endings(versions, closings)],
    )


# --- removing ---------------------------------------------------------------------------------------------------------


def _remove(ledger: Ledger, selector: MemorySelector) -> MemoryRemoval:
    connection = ledger.connection
    rows = reads.selected(connection, selector)
    if not rows:
        return MemoryRemoval()
    ledger.erased = True
    counts: dict[str, int] = defaultdict(int)
    names = {(memory.project, memory.id) for _, _, memory in rows}
    counts["memory_words"] = _remove_words(connection, rows)
    for place, document, memory in rows:
        length = indexed(memory.text).length
        connection.execute(
            "UPDATE memory_places SET memories = memories - 1, words = words - ? WHERE place = ?", (length, place)
        )
        for name in name_words(memory.speaker):
            connection.execute(
                "UPDATE memory_names SET memories = memories - 1 WHERE place = ? AND name = ?", (place, name)
            )
        for subject in memory.subjects:
            counts["memory_subjects"] += connection.execute(
                "DELETE FROM memory_subjects WHERE project = ? AND subject = ? AND place = ? AND document = ?",
                (memory.project, subject, place, document),
            ).rowcount
        counts["memory_vectors"] += connection.execute(
            "DELETE FROM memory_vectors "
            "WHERE model IN (SELECT model FROM memory_models) AND place = ? AND document = ?",
            (place, document),
        ).rowcount
        counts["memories"] += connection.execute(
            "DELETE FROM memories WHERE place = ? AND document = ?", (place, document)
        ).rowcount
    counts["memory_names"] = connection.execute("DELETE FROM memory_names WHERE memories <= 0").rowcount
    for key in sorted(names):
        if reads.versions(connection, *key):
            _settle(connection, *key)
        else:
            counts["memory_closings"] += connection.execute(
                "DELETE FROM memory_closings WHERE project = ? AND id = ?", key
            ).rowcount
    removed = tuple(removed_of(memory) for _, _, memory in rows)
    return MemoryRemoval(removed, {table: count for table, count in counts.items() if count})


def _remove_words(connection: sqlite3.Connection, rows: Sequence[tuple[int, int, Memory]]) -> int:
    """Take documents out of their words' entries. Returns how many entries are gone."""
    gone: defaultdict[Chunk, set[int]] = defaultdict(set)
    for place, document, memory in rows:
        for word in indexed(memory.text).words:
            gone[place, word, chunk_of(document)].add(document)
    for chunk, documents in sorted(gone.items()):
        where = "WHERE place = ? AND word = ? AND chunk = ?"
        row = connection.execute(f"SELECT entries FROM memory_words {where}", chunk).fetchone()
        left = b"" if row is None else without(row[0], documents)
        if left:
            connection.execute(f"UPDATE memory_words SET entries = ? {where}", (left, *chunk))
        else:
            connection.execute(f"DELETE FROM memory_words {where}", chunk)
    return sum(len(documents) for documents in gone.values())


def _clear(ledger: Ledger) -> None:
    connection = ledger.connection
    ledger.erased = True
    for table in INDEX_TABLES:
        connection.execute(f"DELETE FROM {table}")
    connection.execute("UPDATE memory_index SET begun = begun + 1")
    connection.execute("DELETE FROM cursors WHERE projection = ?", (MEMORY,))
    connection.execute("DELETE FROM projections WHERE name = ?", (MEMORY,))
    follow(ledger, MEMORY)
