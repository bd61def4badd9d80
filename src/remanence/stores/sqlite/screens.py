"""What screens ask of SQLite besides lists: see `ports.Screens` and `0003_screens.sql`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from remanence.core.words import scope_words
from remanence.ports import Cursor
from remanence.screens import SCREENS, Hit, Overview, Question, Search, Seen, Tag, VersionUse
from remanence.stores.sqlite.asked import answers
from remanence.stores.sqlite.changes import erased_among, move_cursor
from remanence.stores.sqlite.ledger import Ledger
from remanence.stores.sqlite.readers import Readers
from remanence.stores.sqlite.sums import counted_tags, overview, search_in, version_uses
from remanence.stores.sqlite.tables import MINUTE_US, Statement, place_of
from remanence.stores.sqlite.words import forget_session
from remanence.stores.sqlite.writer import Writer

__all__ = ["SqliteScreens"]

_ADD_WORDS = Statement("INSERT INTO search_words (rowid, words)", 2)
_ADD_TURN = """
INSERT INTO turn_minutes VALUES (?, ?, ?, ?, ?)
ON CONFLICT (project, minute) DO UPDATE SET completed = completed + excluded.completed,
    failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled
"""
_EMPTIED = ("search_words", "search_tags", "search_doubts", "turn_minutes")


class SqliteScreens:
    """Words, tags, doubts and minutes."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def record(self, cursor: Cursor, seen: Seen) -> None:
        await self._writer.do(partial(_record, cursor=cursor, seen=seen))

    async def ask(self, *questions: Question) -> list[Any]:
        return await self._readers.run(partial(answers, questions=questions))

    async def search(self, search: Search) -> Sequence[Hit]:
        return await self._readers.run(partial(search_in, search=search))

    async def tags(self, project: str, *, limit: int) -> Sequence[Tag]:
        return await self._readers.run(partial(counted_tags, project=project, limit=limit))

    async def overview(self, project: str, *, since: int) -> Overview:
        return await self._readers.run(partial(overview, project=project, since=since))

    async def versions(self, project: str, agent: str) -> Sequence[VersionUse]:
        return await self._readers.run(partial(version_uses, project=project, agent=agent))

    async def clear(self) -> None:
        await self._writer.do(_clear)


# --- adding -----------------------------------------------------------------------------------------------------------


def _record(ledger: Ledger, cursor: Cursor, seen: Seen) -> None:
    id_ = move_cursor(ledger, SCREENS, cursor)
    if id_ is None:
        return
    execute, executemany = ledger.connection.execute, ledger.connection.executemany
    project, agent, user, status = execute(
        "SELECT project, agent, user_name, status FROM summaries WHERE id = ?", (id_,)
    ).fetchone()
    gone = erased_among(ledger, id_, cursor.position, cursor.head)
    if status == "deleted" or seen.deleted:
        forget_session(ledger, id_)
    else:
        scopes = scope_words(project, agent, user)
        said = [(place_of(id_, at), " ".join((*scopes, *words))) for at, words in seen.words if at not in gone]
        _ADD_WORDS.run(ledger.connection, [value for row in said for value in row])
    erased = seen.tags is not None and seen.tagged_at in gone
    if seen.tags is not None or seen.deleted:
        execute("DELETE FROM search_tags WHERE id = ?", (id_,))
        tags = {} if seen.deleted or erased else seen.tags or {}
        executemany("INSERT INTO search_tags VALUES (?, ?, ?)", [(*tag, id_) for tag in tags.items()])
    executemany("DELETE FROM search_doubts WHERE id = ? AND call = ?", [(id_, call) for call in seen.settled])
    executemany("INSERT OR IGNORE INTO search_doubts VALUES (?, ?)", [(id_, call) for call in seen.lost])
    ends = [(project, at // MINUTE_US, *_counted(end)) for at, end in seen.turns]
    executemany(_ADD_TURN, ends)


def _counted(end: str) -> tuple[bool, bool, bool]:
    return end == "completed", end == "failed", end == "cancelled"


def _clear(ledger: Ledger) -> None:
    for table in _EMPTIED:
        ledger.connection.execute(f"DELETE FROM {table}")
    ledger.connection.execute("DELETE FROM cursors WHERE projection = ?", (SCREENS,))
    ledger.connection.execute("UPDATE heads SET behind = 1")
    ledger.forget()
