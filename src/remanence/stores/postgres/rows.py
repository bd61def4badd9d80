"""PostgreSQL rows as our values, and the few reads that more than one part of the backend needs."""

from __future__ import annotations

from collections.abc import Sequence

from remanence.events import CompactionBegun, ModelCalled, ToolStarted
from remanence.ports import Fork, SessionRow, Summary, Write
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.connect import Row as Fields
from remanence.stores.rows import Head, Row
from remanence.stores.unseen import as_shown, unseen

__all__ = [
    "can_name",
    "DUE",
    "HEAD",
    "SESSION",
    "UNSEEN",
    "Segment",
    "chain",
    "effect_position",
    "fork_of",
    "head_of",
    "minute_of",
    "session_of",
    "summary_of",
]

HEAD = (
    "s.sid, s.id, s.head, s.digest, s.epoch, s.worker, s.lease_until, s.wake_at, s.frozen, s.fork_sid, "
    "s.fork_position, s.updated_at, s.project, s.agent, s.version, s.user_name, s.status, s.waiting_on, s.title, "
    "s.turns, s.usd_micros, s.tokens, s.needs"
)
"""What a write must know of a session; the table is `sessions s`."""

SESSION = f"{HEAD}, s.opened_at, source.id AS source_id"
"""A session in a list; the tables are `sessions s LEFT JOIN sessions source ON source.sid = s.fork_sid`."""

UNSEEN = unseen("s", "s")
"""Whether a session has an input that no worker has looked at; the table is `sessions s`."""
DUE = f"sessions s WHERE s.wake_at IS NOT NULL AND {UNSEEN}"
"""The table and the condition of such sessions, by the index of what is due."""


def can_name(name: str) -> bool:
    """Whether anything can have this name. A text holds no NUL here, and a statement that is given one fails."""
    return "\0" not in name


def head_of(fields: Fields) -> Head:
    """What a write must know, from the columns `HEAD`."""
    return Head(
        id=fields["sid"],
        session=fields["id"],
        head=fields["head"],
        digest=fields["digest"],
        epoch=fields["epoch"],
        worker=fields["worker"],
        lease_until=fields["lease_until"],
        wake_at=fields["wake_at"],
        frozen=fields["frozen"],
        fork_position=fields["fork_position"] or 0,
        agent=fields["agent"],
        project=fields["project"],
        needs=fields["needs"],
        updated_at=fields["updated_at"],
    )


def summary_of(fields: Fields) -> Summary:
    """The summary, from the columns `HEAD`."""
    return Summary(
        agent=fields["agent"],
        version=fields["version"],
        project=fields["project"],
        user=fields["user_name"],
        status=fields["status"],
        waiting_on=fields["waiting_on"],
        title=fields["title"],
        turns=fields["turns"],
        usd_micros=fields["usd_micros"],
        tokens=fields["tokens"],
        needs=fields["needs"],
    )


def session_of(fields: Fields) -> SessionRow:
    """A session in a list, from the columns `SESSION`."""
    lease_until, wake_at, updated_at = fields["lease_until"], fields["wake_at"], fields["updated_at"]
    return SessionRow(
        session=fields["id"],
        head=fields["head"],
        epoch=fields["epoch"],
        opened_at=fields["opened_at"],
        updated_at=updated_at,
        lease_until=lease_until,
        wake_at=wake_at,
        summary=as_shown(summary_of(fields), wake_at=wake_at, updated_at=updated_at, lease_until=lease_until),
        fork=fork_of(fields),
    )


def fork_of(fields: Fields) -> Fork | None:
    """Where a session's past lies, from the columns `SESSION`."""
    source = fields["source_id"]
    return None if source is None else Fork(source, fields["fork_position"])


def minute_of(at: int) -> int:
    """The minute `at` lies in, counted from 1970."""
    return at // 60_000_000


def effect_position(write: Write, rows: Sequence[Row]) -> int | None:
    """The position of the last effect this write starts, or None when it starts none."""
    if not write.effects:
        return None
    for event, row in zip(reversed(write.events), reversed(rows), strict=True):
        if isinstance(event, ModelCalled | ToolStarted | CompactionBegun):
            return row.position
    return rows[-1].position


Segment = tuple[int, int, int]
"""Records of one session's past: the sid they are stored under, the position before the first, the last position."""


async def chain(connection: Connection, sid: int, *, after: int, upto: int) -> list[Segment]:
    """Where the records of a session with positions over `after` up to `upto` are stored, oldest first."""
    found = await connection.fetch(
        """
        WITH RECURSIVE past AS (
            SELECT s.sid, s.fork_sid, coalesce(s.fork_position, 0) AS low, $3::bigint AS high
            FROM sessions s WHERE s.sid = $1
            UNION ALL
            SELECT s.sid, s.fork_sid, coalesce(s.fork_position, 0), least(p.high, p.low)
            FROM past p JOIN sessions s ON s.sid = p.fork_sid WHERE p.low > $2
        )
        SELECT sid, greatest(low, $2), high FROM past WHERE high > greatest(low, $2) ORDER BY low
        """,
        sid,
        after,
        upto,
    )
    return [(row[0], row[1], row[2]) for row in found]
