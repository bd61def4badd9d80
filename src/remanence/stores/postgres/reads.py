"""Reading journals, and laying exported ones down: through forks, undecoded, whole."""

from __future__ import annotations

from collections.abc import Sequence

from remanence.errors import InvalidInput
from remanence.events import Recorded
from remanence.ports import Budget, Fork, Loaded, RawRecord, Summary
from remanence.stores.bound_snapshots import unbound
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.budgets import SET_BUDGET
from remanence.stores.postgres.careful import BLOB_GATE
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.connect import Row as Fields
from remanence.stores.postgres.errors import DRIVER_ERRORS, is_damage
from remanence.stores.postgres.journal import INSERT_RECORDS, NO_END, fetch, pack, runs
from remanence.stores.postgres.known import Known, KnownSessions
from remanence.stores.postgres.rows import SESSION, can_name, chain, fork_of, head_of, minute_of, summary_of
from remanence.stores.postgres.statements import INSERT_BLOBS, INSERT_USES, summary_values
from remanence.stores.refusals import bad_fork, no_session, session_exists
from remanence.stores.rows import RESTED, Row, blobs_named, raw_record, recorded, row_of_raw, standing_freeze

__all__ = ["Journals", "load_in", "read_in"]

RESTORE_RECORDS = 2_000
RESTORE_BYTES = 8 << 20
"""How much of a journal that is restored gathers in memory before it is laid down."""

_SESSION = f"SELECT {SESSION} FROM sessions s LEFT JOIN sessions source ON source.sid = s.fork_sid WHERE s.id = $1"
# A snapshot is taken at the end of a write, whose records share a row.
_STANDS_AT = (
    "(SELECT substring(r.digests FROM octet_length(r.digests) - 31) FROM records r "
    "WHERE r.sid = snapshots.sid AND r.position = snapshots.position) AS digest"
)
_LOAD = f"""
SELECT {SESSION}, coalesce(n.position, 0) AS snapshot_position, n.state AS snapshot, n.digest AS snapshot_digest
FROM sessions s LEFT JOIN sessions source ON source.sid = s.fork_sid
LEFT JOIN LATERAL (
    SELECT position, state, {_STANDS_AT} FROM snapshots
    WHERE sid = s.sid AND position <= $2 ORDER BY position DESC LIMIT 1
) n ON true WHERE s.id = $1
"""
_OLDER = f"""
SELECT n.position, n.state, n.digest
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS g(sid, low, high), LATERAL (
    SELECT position, state, {_STANDS_AT} FROM snapshots
    WHERE sid = g.sid AND position > g.low AND position <= g.high ORDER BY position DESC LIMIT 1
) n ORDER BY n.position DESC LIMIT 1
"""
_SNAPSHOTS = f"""
SELECT position, state, {_STANDS_AT} FROM snapshots WHERE sid = $1 AND position > $2 ORDER BY position LIMIT $3
"""


class Journals:
    """What reads journals."""

    def __init__(self, access: Access, known: KnownSessions) -> None:
        self._access = access
        self._known = known

    async def load(self, session: str, *, upto: int | None = None) -> Loaded:
        last = NO_END if upto is None else upto
        async with self._access.connection("loading a session") as connection:
            try:
                found, loaded = await load_in(connection, session, last)
            except DRIVER_ERRORS as error:
                if not is_damage(error):
                    raise
                found, loaded = await load_in(connection, session, last, cached=False)
        self._known.learn(Known(head_of(found), loaded.summary))
        return loaded

    async def read(self, session: str, *, after: int, limit: int | None) -> Sequence[Recorded]:
        async with self._access.connection("reading a session") as connection:
            found = await _find(connection, session)
            asked = NO_END if limit is None else limit
            records = await read_in(connection, found, after=max(0, after), upto=NO_END, limit=asked)
        self._known.learn(Known(head_of(found), summary_of(found)))
        return records

    async def raw(self, session: str, *, after: int, limit: int) -> Sequence[RawRecord]:
        async with self._access.connection("reading a session") as connection:
            found = await _find(connection, session)
            stored = await fetch(connection, found["sid"], after=max(0, after), upto=NO_END, limit=limit)
        return [raw_record(*one) for one in stored]

    async def snapshots(self, session: str, *, after: int, limit: int) -> list[tuple[int, bytes]]:
        async with self._access.connection("reading snapshots") as connection:
            found = await _find(connection, session)
            rows = await connection.fetch(_SNAPSHOTS, found["sid"], after, limit)
        return [(at, unbound(kept, digest, session, at) or b"") for at, kept, digest in rows]

    async def clear_snapshots(self) -> None:
        """Forget them all. The table gets a file of its own again, and no page of the old one is read for that."""
        async with self._access.connection("dropping snapshots") as connection:
            await connection.execute("TRUNCATE snapshots")

    async def drop_snapshots(self, session: str, positions: Sequence[int]) -> None:
        async with self._access.connection("dropping snapshots") as connection:
            found = await _find(connection, session)
            await connection.execute(
                "DELETE FROM snapshots WHERE sid = $1 AND position = ANY ($2::bigint[])", found["sid"], list(positions)
            )

    async def restore(
        self,
        session: str,
        rows: Sequence[RawRecord],
        summary: Summary,
        fork: Fork | None,
        budgets: Sequence[Budget],
    ) -> None:
        if not rows:
            raise InvalidInput(f"There is no record to restore for session {session!r}. Nothing was written.")
        async with self._access.transaction("restoring a session") as connection:
            source = None if fork is None else await _find(connection, fork.source)
            if fork is not None and source is not None and not 1 <= fork.position <= source["head"]:
                raise bad_fork(fork, source["head"])
            await connection.execute(f"SELECT pg_advisory_xact_lock_shared({BLOB_GATE})")
            sid = await _lay_session(connection, session, rows, summary)
            for one in budgets:
                await connection.execute(SET_BUDGET, one.scope, one.unit, one.limit, rows[-1].at, one.spent)
            if fork is not None and source is not None:
                await connection.execute(
                    "UPDATE sessions SET fork_sid = $2, fork_position = $3 WHERE sid = $1",
                    sid,
                    source["sid"],
                    fork.position,
                )
            await _lay_records(connection, sid, rows)
        self._known.forget(session)

    async def prune_keys(self, before: int) -> int:
        """Forget idempotency keys used before a moment. Returns how many."""
        async with self._access.connection("forgetting idempotency keys") as connection:
            done = await connection.execute("DELETE FROM idempotency_keys WHERE at < $1", before)
        return int(done.rpartition(" ")[2])


async def load_in(connection: Connection, session: str, last: int, *, cached: bool = True) -> tuple[Fields, Loaded]:
    """The row of a session, and what its state at a position is folded from. Raises NotFound.

    Not `cached`: without any snapshot. What lies under a damaged page of theirs is in the records as well.
    """
    if not cached:
        found = await _find(connection, session)
        records = await read_in(connection, found, after=0, upto=last, limit=NO_END)
        return found, Loaded(None, 0, records, summary_of(found), fork_of(found))
    found = await _find(connection, session, _LOAD, last)
    after: int = found["snapshot_position"]
    kept: bytes | None = found["snapshot"]
    digest: bytes | None = found["snapshot_digest"]
    if kept is None and found["fork_sid"] is not None:
        after, kept, digest = await _inherited(connection, found["sid"], last)
    state = unbound(kept, digest, session, after)
    after = after if state is not None else 0
    records = await read_in(connection, found, after=after, upto=last, limit=NO_END)
    return found, Loaded(state, after, records, summary_of(found), fork_of(found))


async def _find(connection: Connection, session: str, statement: str = _SESSION, *more: object) -> Fields:
    found = await connection.fetchrow(statement, session, *more) if can_name(session) else None
    if found is None:
        raise no_session(session)
    return found


async def _inherited(connection: Connection, sid: int, upto: int) -> tuple[int, bytes | None, bytes | None]:
    """The newest snapshot in a fork's past: its position, what is kept, the digest of the record it stands at."""
    segments = await chain(connection, sid, after=0, upto=upto)
    found = await connection.fetchrow(_OLDER, *zip(*segments, strict=True)) if segments else None
    return (0, None, None) if found is None else (found[0], found[1], found[2])


async def read_in(connection: Connection, found: Fields, *, after: int, upto: int, limit: int) -> tuple[Recorded, ...]:
    """Records of a session by its row, through the forks they were inherited from."""
    session: str = found["id"]
    sid: int = found["sid"]
    if found["fork_sid"] is None or after >= found["fork_position"]:
        segments = [(sid, after, upto)]
    else:
        segments = await chain(connection, sid, after=after, upto=upto)
    records: list[Recorded] = []
    for owner, low, high in segments:
        if limit > len(records):
            stored = await fetch(connection, owner, after=low, upto=high, limit=limit - len(records))
            records += [recorded(session, *one) for one in stored]
    return tuple(records)


async def _lay_session(connection: Connection, session: str, rows: Sequence[RawRecord], summary: Summary) -> int:
    latest = max(row.at for row in rows)
    sid = await connection.fetchval(
        """
        INSERT INTO sessions (
            id, head, digest, epoch, frozen, opened_at, updated_at, updated_minute, project, agent, version, user_name,
            status, waiting_on, title, turns, usd_micros, tokens, needs, wake_at
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
        ON CONFLICT (id) DO NOTHING RETURNING sid
        """,
        session,
        rows[-1].position,
        rows[-1].digest,
        max(row.epoch for row in rows),
        standing_freeze(rows),
        rows[0].at,
        latest,
        minute_of(latest),
        *summary_values(summary),
        rows[0].at if summary.status in RESTED else None,
    )
    if sid is None:
        raise session_exists(session)
    return sid


async def _lay_records(connection: Connection, sid: int, raws: Sequence[RawRecord]) -> None:
    """Lay records down in pieces: `raws` may be read from a file as it is gone through, and be larger than memory."""
    piece: list[RawRecord] = []
    size = 0
    for raw in raws:
        piece.append(raw)
        size += len(raw.payload)
        if len(piece) == RESTORE_RECORDS or size > RESTORE_BYTES:
            await _lay_piece(connection, sid, piece)
            piece, size = [], 0
    if piece:
        await _lay_piece(connection, sid, piece)


async def _lay_piece(connection: Connection, sid: int, raws: Sequence[RawRecord]) -> None:
    rows: list[Row] = []
    blobs: dict[bytes, bytes] = {}
    uses: list[tuple[int, int, bytes]] = []
    for raw in raws:
        row, content = row_of_raw(raw)
        rows.append(row)
        if content is not None and row.payload_digest is not None:
            blobs[row.payload_digest] = content
            uses.append((sid, row.position, row.payload_digest))
        uses += [(sid, row.position, bytes.fromhex(name)) for name in blobs_named(raw.payload)]
    if blobs:
        await connection.execute(INSERT_BLOBS, list(blobs), list(blobs.values()))
    if uses:
        await connection.execute(INSERT_USES, *zip(*uses, strict=True))
    if rows:
        packed = [(sid, *pack(run)) for run in runs(rows)]
        await connection.execute(INSERT_RECORDS, *zip(*packed, strict=True))
