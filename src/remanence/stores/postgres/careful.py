"""The careful way to append: lock the rows, look, decide with the rules of `rows.py`, write. One transaction.

It takes every kind of write, and several sessions at once. Everything that may refuse a write is looked at before
anything is written, so that one refused write leaves the others of its group alone and nothing needs undoing. Locks are
taken in one order everywhere, so that nobody waits in a circle: the gate of the freezes, the gate of the blobs, rows of
sessions by `sid`, budgets by scope and unit, new sessions by id, idempotency keys.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from remanence.errors import RemanenceError
from remanence.events import GENESIS, Renames
from remanence.ports import Appended, Fork, Summary, Write
from remanence.stores.bound_snapshots import bound
from remanence.stores.postgres.budgets import Accounts
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.connect import Row as Fields
from remanence.stores.postgres.journal import INSERT_RECORDS, digest_at, fetch, pack, replace, row_at
from remanence.stores.postgres.known import Known, Pending
from remanence.stores.postgres.rows import HEAD, chain, head_of, summary_of
from remanence.stores.postgres.statements import (
    INSERT_BLOBS,
    INSERT_ENTRIES,
    INSERT_KEYS,
    INSERT_SESSIONS,
    INSERT_SNAPSHOTS,
    INSERT_USES,
    UPDATE_SESSIONS,
    entry_values,
    session_values,
)
from remanence.stores.refusals import (
    bad_fork,
    bad_redaction,
    content_missing,
    no_session,
    redacted_meanwhile,
    session_exists,
)
from remanence.stores.rows import (
    Head,
    Row,
    admit,
    blobs_named,
    check_key,
    erased,
    extend,
    holds_metadata,
    in_snapshots,
    is_redaction,
    opened_summary,
    recorded,
)

__all__ = ["BLOB_GATE", "FREEZE_GATE", "SHARE_PROJECTIONS", "SHUT_PROJECTIONS", "Outcome", "Raced", "append_carefully"]

FREEZE_GATE = 5927136210241
"""Advisory lock: shared by who starts an effect, exclusive for who sets a freeze. `append_group` knows it too."""
BLOB_GATE = 5927136210242
"""Advisory lock: shared by who writes a record that lies in a blob, exclusive for who erases blobs."""
PROJECTION_GATE = 5927136210243
"""Advisory lock: passed by who moves a cursor of a projection, or changes the index of the memory; shut by who begins
a projection anew. A table that is emptied is locked whole, and a session that somebody is about to take for read to its
end by every projection would not be marked."""
SHARE_PROJECTIONS = f"SELECT pg_advisory_xact_lock_shared({PROJECTION_GATE})"
SHUT_PROJECTIONS = f"SELECT pg_advisory_xact_lock({PROJECTION_GATE})"

Outcome = Known | Appended | RemanenceError
"""Journaled (the rows are in the `Pending`); answered by an idempotency key; refused."""


class Raced(Exception):
    """Somebody else created what we were about to, between our look and our write. Nothing was kept; look again."""


async def append_carefully(connection: Connection, group: Sequence[Pending]) -> list[Outcome]:
    """The outcome of each write, once all of them are durable. Raises Raced and the driver's errors."""
    careful = _Group(connection, group)
    async with connection.transaction():
        await careful.look()
        await careful.decide()
        await careful.write()
    return [careful.outcomes[id(pending)] for pending in group]


# Those of a session, and of the forks that share its record at a position, from there on.
_FORGET_SNAPSHOTS = """
WITH RECURSIVE heirs AS (
    SELECT $1::bigint AS sid
    UNION SELECT s.sid FROM heirs h JOIN sessions s ON s.fork_sid = h.sid WHERE s.fork_position >= $2
)
DELETE FROM snapshots n USING heirs h WHERE n.sid = h.sid AND n.position >= $2
"""


class _Erasure:
    """One record to redact, as it will be: the skeleton, and the digest of what it was."""

    def __init__(self, head: Head, row: Row, *, renamed: bool) -> None:
        self.head = head
        self.row = row
        self.renamed = renamed


class _Group:
    def __init__(self, connection: Connection, group: Sequence[Pending]) -> None:
        self._connection = connection
        self._group = group
        self._open = list(group)
        self._holds: Collection[str] = ()
        self._found: dict[str, tuple[Head, Summary]] = {}
        self._accounts = Accounts()
        self._admitted: list[tuple[Pending, Known]] = []
        self._forks: dict[str, tuple[int, Fork]] = {}
        self._erasures: list[_Erasure] = []
        self.outcomes: dict[int, Outcome] = {}

    # --- look ---------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Pass the gates, lock the sessions and the budgets, answer what is already done."""
        drafts = [pending.drafted for pending in self._group]
        if any(drafted.write.effects or drafted.write.unless_frozen for drafted in drafts):
            await self._connection.execute(f"SELECT pg_advisory_xact_lock_shared({FREEZE_GATE})")
            self._holds = [row[0] for row in await self._connection.fetch("SELECT scope FROM holds")]
        if any(drafted.redacts for drafted in drafts):
            await self._connection.execute(f"SELECT pg_advisory_xact_lock({BLOB_GATE})")
        elif any(pending.blobs for pending in self._group):
            await self._connection.execute(f"SELECT pg_advisory_xact_lock_shared({BLOB_GATE})")
        rows = await self._connection.fetch(
            f"SELECT {HEAD} FROM sessions s WHERE s.id = ANY ($1::text[]) ORDER BY s.sid FOR UPDATE",
            [name for pending in self._group for name in _needed(pending.write)],
        )
        self._found = {row["id"]: (head_of(row), summary_of(row)) for row in rows}
        await self._recognise_landed()
        await self._answer_keys()
        await self._accounts.lock(self._connection, [pending.write for pending in self._open])

    async def _recognise_landed(self) -> None:
        """Acknowledge the writes in doubt of which an attempt is there: its last record, digest and all."""
        for pending in [pending for pending in self._open if pending.doubts]:
            found = self._found.get(pending.write.session)
            for rows in pending.doubts if found is not None else ():
                if (
                    found is not None
                    and await digest_at(self._connection, found[0].id, rows[-1].position) == rows[-1].digest
                ):
                    pending.rows = rows
                    self._settle(pending, Known(*found))
                    break

    async def _answer_keys(self) -> None:
        keyed = {pending.write.key: pending for pending in self._open if pending.write.key is not None}
        if not keyed:
            return
        rows = await self._connection.fetch(
            "SELECT k.key, k.body_digest, k.first_position, k.last_position, s.sid, s.id "
            "FROM idempotency_keys k JOIN sessions s USING (sid) WHERE k.key = ANY ($1::text[])",
            list(keyed),
        )
        for row in rows:
            pending = keyed[row["key"]]
            try:
                check_key(pending.write, row["body_digest"])
                self._settle(pending, await self._replay(row))
            except RemanenceError as error:
                self._settle(pending, error)

    async def _replay(self, key: Any) -> Appended:
        first, last = key["first_position"], key["last_position"]
        stored = await fetch(self._connection, key["sid"], after=first - 1, upto=last, limit=last - first + 1)
        return Appended(tuple([recorded(key["id"], *one) for one in stored]), replayed=True)

    def _settle(self, pending: Pending, outcome: Outcome) -> None:
        self.outcomes[id(pending)] = outcome
        self._open.remove(pending)

    # --- decide -------------------------------------------------------------------------------------------------------

    async def decide(self) -> None:
        """Admit or refuse each write; nothing is written yet."""
        for pending in list(self._open):
            try:
                head, summary = await self._begin(pending)
                admit(head, _asked(pending), self._holds)
                renames = pending.write.renames
                erasures = [await self._erasure(head, position, renames) for position in pending.drafted.redacts]
                counted = self._accounts.charge(pending.write.charges)
            except RemanenceError as error:
                self._settle(pending, error)
                continue
            self._erasures += [erasure for erasure in erasures if erasure is not None]
            pending.rows = extend(head, pending.drafted)
            self._admitted.append((pending, Known(head, pending.write.summary or summary, counted=counted)))

    async def _begin(self, pending: Pending) -> tuple[Head, Summary]:
        """The row to write on: the one found, or that of the session this write opens."""
        write = pending.write
        found = self._found.get(write.session)
        if pending.drafted.opens != (found is None):
            raise no_session(write.session) if found is None else session_exists(write.session)
        if found is not None:
            return found
        if write.fork is None:
            summary = opened_summary(write)
            head = Head(id=0, session=write.session, head=0, digest=GENESIS)
        else:
            head, summary = await self._forked(pending, write.fork)
        head.agent, head.project, head.needs = summary.agent, summary.project, summary.needs
        return head, summary

    async def _forked(self, pending: Pending, fork: Fork) -> tuple[Head, Summary]:
        row = await self._connection.fetchrow(f"SELECT {HEAD} FROM sessions s WHERE s.id = $1", fork.source)
        if row is None:
            raise no_session(fork.source)
        if not 1 <= fork.position <= row["head"]:
            raise bad_fork(fork, row["head"])
        if pending.write.seen is not None and await self._redacted_since(row, pending.write.seen):
            raise redacted_meanwhile(fork.source)
        segments = await chain(self._connection, row["sid"], after=fork.position - 1, upto=fork.position)
        digest = await digest_at(self._connection, segments[0][0], fork.position)
        if digest is None:
            raise content_missing(fork.source, fork.position)
        self._forks[pending.write.session] = (row["sid"], fork)
        session = pending.write.session
        head = Head(id=0, session=session, head=fork.position, digest=digest, fork_position=fork.position)
        head.frozen = row["frozen"] if row["frozen"] <= fork.position else 0
        return head, opened_summary(pending.write, summary_of(row))

    async def _redacted_since(self, source: Fields, seen: int) -> bool:
        sid, head = source["sid"], source["head"]
        stored = await fetch(self._connection, sid, after=seen, upto=head, limit=head - seen) if head > seen else ()
        return any(is_redaction(row) for row, _ in stored)

    async def _erasure(self, head: Head, position: int, renames: Renames) -> _Erasure | None:
        stored = await row_at(self._connection, head.id, position)
        if stored is None:
            raise bad_redaction(head.session, position, await self._fork_of(head), head.head)
        left = erased(head.session, *stored, renames)
        return None if left is None else _Erasure(head, left, renamed=bool(renames))

    async def _fork_of(self, head: Head) -> Fork | None:
        source = await self._connection.fetchval(
            "SELECT source.id FROM sessions s JOIN sessions source ON source.sid = s.fork_sid WHERE s.sid = $1", head.id
        )
        return None if source is None else Fork(source, head.fork_position)

    # --- write --------------------------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Write what was admitted. Raises Raced when somebody else created a session or a key meanwhile."""
        opened = sorted([pair for pair in self._admitted if pair[1].head.id == 0], key=_session)
        moved = [pair for pair in self._admitted if pair[1].head.id != 0]
        if opened:
            await self._insert_sessions(opened)
        if moved:
            await self._update_sessions(moved)
        await self._insert_keys()
        await self._insert_records()
        await self._keep_entries()
        for erasure in self._erasures:
            await self._erase(erasure)
        await self._keep_snapshots()
        await self._accounts.limit(self._connection, [pending.write for pending, _ in self._admitted])
        await self._accounts.write(self._connection)
        for pending, known in self._admitted:
            self._settle(pending, known)

    async def _insert_sessions(self, opened: Sequence[tuple[Pending, Known]]) -> None:
        rows = [(*session_values(*pair), pair[0].write.at, *self._fork_values(pair[0])) for pair in opened]
        found = await self._connection.fetch(INSERT_SESSIONS, *zip(*rows, strict=True))
        if len(found) < len(opened):
            raise Raced
        sids = {row["id"]: row["sid"] for row in found}
        for _, known in opened:
            known.head.id = sids[known.head.session]

    def _fork_values(self, pending: Pending) -> tuple[int | None, int | None]:
        forked = self._forks.get(pending.write.session)
        return (None, None) if forked is None else (forked[0], forked[1].position)

    async def _update_sessions(self, moved: Iterable[tuple[Pending, Known]]) -> None:
        rows = [session_values(*pair) for pair in moved]
        await self._connection.execute(UPDATE_SESSIONS, *zip(*rows, strict=True))

    async def _insert_keys(self) -> None:
        keyed = sorted(
            (
                pending.write.key,
                pending.write.key_digest,
                known.head.id,
                pending.rows[0].position,
                pending.rows[-1].position,
                pending.write.at,
            )
            for pending, known in self._admitted
            if pending.write.key is not None
        )
        if keyed:
            done = await self._connection.fetch(INSERT_KEYS, *zip(*keyed, strict=True))
            if len(done) < len(keyed):
                raise Raced

    async def _insert_records(self) -> None:
        packed: list[tuple[Any, ...]] = []
        blobs: dict[bytes, bytes] = {}
        uses: list[tuple[int, int, bytes]] = []
        for pending, known in self._admitted:
            rows, sid = pending.rows, known.head.id
            packed.append((sid, *pack(rows)))
            if pending.blobs:
                for row, payload in zip(rows, pending.drafted.payloads, strict=True):
                    uses += [(sid, row.position, bytes.fromhex(name)) for name in blobs_named(payload)]
                    if row.payload_digest is not None:
                        blobs[row.payload_digest] = payload
                        uses.append((sid, row.position, row.payload_digest))
        if blobs:
            await self._connection.execute(INSERT_BLOBS, list(blobs), list(blobs.values()))
        if uses:
            await self._connection.execute(INSERT_USES, *zip(*uses, strict=True))
        if packed:
            await self._connection.execute(INSERT_RECORDS, *zip(*packed, strict=True))

    async def _keep_entries(self) -> None:
        entries = {(e.kind, e.id): entry_values(e) for pending, _ in self._admitted for e in pending.write.entries}
        if entries:
            values = [entries[where] for where in sorted(entries)]
            await self._connection.execute(INSERT_ENTRIES, *zip(*values, strict=True))

    async def _keep_snapshots(self) -> None:
        said = [(known.head, pending.write.snapshot) for pending, known in self._admitted]
        gone = [head.id for head, snapshot in said if snapshot == b""]
        if gone:
            await self._connection.execute("DELETE FROM snapshots WHERE sid = ANY ($1::bigint[])", gone)
        kept = [(head.id, head.head, bound(snapshot, head.digest)) for head, snapshot in said if snapshot]
        if kept:
            await self._connection.execute(INSERT_SNAPSHOTS, *zip(*kept, strict=True))

    async def _erase(self, erasure: _Erasure) -> None:
        sid, row = erasure.head.id, erasure.row
        await replace(self._connection, sid, row.position, row)
        await self._connection.execute("DELETE FROM search_words WHERE sid = $1 AND position = $2", sid, row.position)
        if holds_metadata(row.payload or b""):
            await self._connection.execute("DELETE FROM search_tags WHERE sid = $1", sid)
        if erasure.renamed or in_snapshots(row.payload or b""):
            await self._connection.execute(_FORGET_SNAPSHOTS, sid, row.position)
        freed = await self._connection.fetch(
            "DELETE FROM blob_uses WHERE sid = $1 AND position = $2 RETURNING digest",
            sid,
            row.position,
        )
        if freed:
            await self._connection.execute(
                "DELETE FROM blobs b WHERE b.digest = ANY ($1::bytea[]) "
                "AND NOT EXISTS (SELECT FROM blob_uses u WHERE u.digest = b.digest)",
                [row["digest"] for row in freed],
            )


def _needed(write: Write) -> tuple[str, ...]:
    """The sessions that must stay as they are: what is redacted in the source of a fork would stand in the fork."""
    return (write.session,) if write.seen is None or write.fork is None else (write.session, write.fork.source)


def _asked(pending: Pending) -> Write:
    """The write to admit: `expect=0` says that the session must be new, which it is, wherever its fork begins."""
    write = pending.write
    return msgspec.structs.replace(write, expect=None) if pending.drafted.opens and write.expect == 0 else write


def _session(pair: tuple[Pending, Known]) -> str:
    return pair[0].write.session
