"""What screens ask of PostgreSQL besides lists: see `ports.Screens` and `0004_screens.sql`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from remanence.core.words import scope_words
from remanence.errors import StoreCorrupt
from remanence.ports import Cursor
from remanence.screens import SCREENS, Hit, Overview, Question, Search, Seen, Tag, VersionUse
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.asked import answer
from remanence.stores.postgres.careful import SHARE_PROJECTIONS, SHUT_PROJECTIONS
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.connect import Row as Fields
from remanence.stores.postgres.journal import erased_among
from remanence.stores.postgres.rows import minute_of
from remanence.stores.postgres.sums import counted_tags, overview, search_in, version_uses
from remanence.stores.postgres.views import ALL_BEHIND, CAUGHT_UP, MOVE_CURSOR

__all__ = ["PostgresScreens"]

# Nobody writes to the session between this look and the commit: a record that is being redacted is seen as it will be.
_LOCK = "SELECT sid, head, project, agent, user_name, status FROM sessions WHERE id = $1 FOR NO KEY UPDATE"
_ADD_WORDS = (
    "INSERT INTO search_words SELECT $1, w.position, array_to_tsvector(string_to_array(w.words, ' ')) "
    "FROM unnest($2::bigint[], $3::text[]) AS w(position, words)"
)
_ADD_TAGS = "INSERT INTO search_tags SELECT $1, w.key, w.value FROM unnest($2::text[], $3::text[]) AS w(key, value)"
_SETTLED = "DELETE FROM search_doubts WHERE sid = $1 AND call = ANY ($2::text[])"
_ADD_DOUBTS = "INSERT INTO search_doubts SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING"
_ADD_TURNS = """
INSERT INTO turn_minutes AS m
SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
ON CONFLICT (project, minute) DO UPDATE SET completed = m.completed + excluded.completed,
    failed = m.failed + excluded.failed, cancelled = m.cancelled + excluded.cancelled
"""
_EMPTIED = ("search_words", "search_tags", "search_doubts", "turn_minutes")


class PostgresScreens:
    """Words, tags, doubts and minutes."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def record(self, cursor: Cursor, seen: Seen) -> None:
        async with self._access.transaction("recording what screens ask") as connection:
            # What is lost with the server's memory is read again from the journal: no need to wait for the disk.
            await connection.execute(f"SET LOCAL synchronous_commit TO off; {SHARE_PROJECTIONS}")
            found = await connection.fetchrow(_LOCK, cursor.session)
            moved = await connection.fetchval(MOVE_CURSOR, SCREENS, cursor.session, cursor.position, cursor.head)
            if found is None or moved is None:
                return
            sid: int = found["sid"]
            gone = seen.deleted or found["status"] == "deleted"
            kept = await _not_redacted(connection, sid, cursor, found["head"], seen)
            if gone:
                await connection.execute("DELETE FROM search_words WHERE sid = $1", sid)
            else:
                await _record_words(connection, found, kept)
            if seen.tags is not None or gone:
                await connection.execute("DELETE FROM search_tags WHERE sid = $1", sid)
                tags = {} if gone else kept.tags or {}
                await connection.execute(_ADD_TAGS, sid, list(tags), list(tags.values()))
            if seen.settled:
                await connection.execute(_SETTLED, sid, list(seen.settled))
            if seen.lost:
                await connection.execute(_ADD_DOUBTS, sid, list(seen.lost))
            await _record_turns(connection, found["project"], seen)
            await connection.execute(CAUGHT_UP, sid)

    async def ask(self, *questions: Question) -> list[Any]:
        try:
            return await self._ask(questions, cached=True)
        except StoreCorrupt:
            return await self._ask(questions, cached=False)  # perhaps only the snapshots are

    async def _ask(self, questions: Sequence[Question], *, cached: bool) -> list[Any]:
        async with self._access.transaction("answering a page", isolation="repeatable_read") as connection:
            return [await answer(connection, question, cached=cached) for question in questions]

    async def search(self, search: Search) -> Sequence[Hit]:
        async with self._access.connection("searching sessions") as connection:
            return await search_in(connection, search)

    async def tags(self, project: str, *, limit: int) -> Sequence[Tag]:
        async with self._access.connection("counting tags") as connection:
            return await counted_tags(connection, project, limit)

    async def overview(self, project: str, *, since: int) -> Overview:
        async with self._access.connection("counting sessions") as connection:
            return await overview(connection, project, since)

    async def versions(self, project: str, agent: str) -> Sequence[VersionUse]:
        async with self._access.connection("counting versions") as connection:
            return await version_uses(connection, project, agent)

    async def clear(self) -> None:
        async with self._access.transaction("emptying what screens ask") as connection:
            await connection.execute(SHUT_PROJECTIONS)
            await connection.execute(f"TRUNCATE {', '.join(_EMPTIED)}")
            await connection.execute("DELETE FROM cursors WHERE projection = $1", SCREENS)
            await connection.execute(ALL_BEHIND)


# --- adding -----------------------------------------------------------------------------------------------------------


async def _not_redacted(connection: Connection, sid: int, cursor: Cursor, head: int, seen: Seen) -> Seen:
    """What was seen, without what was redacted after it was read: then something was written since."""
    if head == cursor.head:
        return seen
    gone = await erased_among(connection, sid, after=cursor.position, upto=cursor.head)
    words = tuple(one for one in seen.words if one[0] not in gone)
    return replace(seen, words=words, tags={} if seen.tagged_at in gone else seen.tags)


async def _record_words(connection: Connection, session: Fields, seen: Seen) -> None:
    scopes = scope_words(session["project"], session["agent"], session["user_name"])
    texts = [" ".join((*scopes, *words)) for _, words in seen.words]
    if texts:
        await connection.execute(_ADD_WORDS, session["sid"], [position for position, _ in seen.words], texts)


async def _record_turns(connection: Connection, project: str, seen: Seen) -> None:
    counted = Counter((minute_of(at), end) for at, end in seen.turns)
    minutes = sorted({minute for minute, _ in counted})
    ends = [[counted[minute, end] for minute in minutes] for end in ("completed", "failed", "cancelled")]
    if minutes:
        await connection.execute(_ADD_TURNS, project, minutes, *ends)
