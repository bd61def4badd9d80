"""A group of plain appends as the arguments of `append_group`: one array per column, one entry per write.

A group of one goes to `append_one`, which has the same rules and takes values where the other takes arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remanence.ports import Write
from remanence.stores.bound_snapshots import bound
from remanence.stores.postgres.journal import sizes_of
from remanence.stores.postgres.known import Known, Pending, same_identity
from remanence.stores.postgres.rows import effect_position
from remanence.stores.postgres.statements import REPLACED, entry_values
from remanence.stores.rows import Row, extend

__all__ = ["STATEMENTS", "arguments", "entry_arguments", "is_plain", "makes_due"]

LEASED, RELEASES, WAKES, EFFECTS, EXPECTS, CHARGES, UNLESS_HELD = 1, 2, 4, 8, 16, 32, 64

_TYPES = (
    # one entry per write
    *("bigint[]", "bigint[]", "integer[]", "integer[]", "bigint[]", "integer[]", "text[]"),
    *("text[]", "bigint[]", "bigint[]", "text[]", "text[]", "integer[]", "bigint[]", "bigint[]", "bytea[]"),
    *("bytea[]", "bytea[]", "bytea[]"),
    # the whole group: whether any starts an effect, the scopes of its charges
    *("boolean", "text[]"),
)
_TYPES_OF_ONE = (*(kind.removesuffix("[]") for kind in _TYPES[:-1]), _TYPES[-1])
_ENTRY = ("bigint[]", "text[]", "text[]", "text[]", "bigint[]", "bigint[]", "bytea[]")


def _numbered(kinds: Sequence[str], after: int = 0) -> str:
    return ", ".join(f"${n}::{kind}" for n, kind in enumerate(kinds, start=after + 1))


def _statement(*, one: bool, keeps: bool, trails: bool) -> str:
    """Append a group; with the entries of those writes that went down; and what trails behind them, if all did."""
    name, types = ("append_one", _TYPES_OF_ONE) if one else ("append_group", _TYPES)
    group = f"SELECT {name}({_numbered(types)}) AS done"
    behind = f"{name}({_numbered(types, len(types) + keeps * len(_ENTRY))})"
    found = f"done, done IS NULL, CASE WHEN done IS NULL THEN {behind} END" if trails else "done"
    if not keeps:
        return f"SELECT {found} FROM ({group} OFFSET 0) AS moved" if trails else group
    return f"""
    WITH moved AS MATERIALIZED ({group}), kept AS (
        INSERT INTO registry AS r (kind, project, id, at, updated_at, body, revision)
        SELECT e.kind, e.project, e.id, e.at, e.updated_at, e.body, 1
        FROM moved, unnest({_numbered(_ENTRY, len(_TYPES))}) AS e (sid, kind, project, id, at, updated_at, body)
        WHERE moved.done IS NULL OR e.sid = ANY (moved.done)
        {REPLACED}
    ) SELECT {found} FROM moved"""


_EITHER = (False, True)
STATEMENTS = {
    (one, keeps, trails): _statement(one=one, keeps=keeps, trails=trails)
    for one in _EITHER
    for keeps in _EITHER
    for trails in _EITHER
}
"""By whether it is a group of one, whether writes of it have entries, and whether anything trails. Each answers one
row: the sessions that moved (null: all), then whether what trails was sent, and of those the sessions that moved."""


def is_plain(pending: Pending, known: Known) -> bool:
    """Whether a write only appends to a session that is as this process believes it to be."""
    write = pending.write
    return (
        write.key is None
        and not pending.drafted.special
        and not pending.blobs
        and not pending.doubts
        and not (write.charges and known.counted)
        and not write.limits
        and (write.expect is None or write.expect == known.head.head)
        and (write.follows is None or write.follows == known.head.digest)
        and (write.summary is None or same_identity(write.summary, known.summary))
        and not pending.drafted.opens
        and write.snapshot != b""
    )


def entry_arguments(batch: Sequence[tuple[Pending, Known]]) -> list[Any] | None:
    """What the entries add to the arguments; None when no write of the batch has an entry."""
    found = {
        (entry.kind, entry.id): (known.head.id, *entry_values(entry))
        for pending, known in batch
        for entry in pending.write.entries
    }
    # In one order, as everybody locks them who writes several at once.
    return [list(column) for column in zip(*(found[where] for where in sorted(found)), strict=True)] if found else None


def makes_due(write: Write) -> bool:
    """Whether this write leaves its session due at once, so that somebody may be waiting for it."""
    release = write.release
    wakes = write.wake and not write.wake_unless  # one that is held here is told; a poll finds the rest
    return wakes or (release is not None and release.wake_at is not None and release.wake_at <= write.at)


def arguments(batch: Sequence[tuple[Pending, Known]], *, one: bool) -> list[Any]:
    """What to call `append_group` with, or `append_one`. Moves each head past its write and leaves the rows in the
    `Pending`."""
    writes: list[tuple[Any, ...]] = []
    scopes: set[str] = set()
    gated = False
    for pending, known in batch:
        write, head = pending.write, known.head
        before = head.head
        rows = pending.rows = extend(head, pending.drafted)
        payloads = pending.drafted.payloads  # none of which is large: that would not be plain
        terms = (head.id, before, len(rows), _flags(write), write.at, rows[0].epoch, write.actor, *_terms(write, rows))
        digests = b"".join([row.digest for row in rows])
        writes.append((*terms, b"".join(payloads), sizes_of(payloads), digests))
        gated = gated or write.effects or write.unless_frozen
        for charge in write.charges:
            scopes.update(charge.scopes)
    if one:
        return [*writes[0], gated, list(scopes) if scopes else None]
    # A column nobody has anything to say in is sent as null, which `unnest` fills up: arrays are what costs.
    columns = [None if column.count(None) == len(writes) else column for column in zip(*writes, strict=True)]
    return [*columns, gated, list(scopes) if scopes else None]


def _flags(write: Write) -> int:
    flags = 0 if write.lease is None else LEASED
    if write.release is not None:
        flags |= RELEASES
    if write.wake:
        flags |= WAKES
    if write.wake_unless and write.lease is None:
        flags |= UNLESS_HELD
    if write.effects or write.unless_frozen:
        flags |= EFFECTS  # a session that is frozen itself goes the careful way
    if write.expect is not None:
        flags |= EXPECTS
    if write.charges:
        flags |= CHARGES
    return flags


def _terms(write: Write, rows: Sequence[Row]) -> tuple[Any, ...]:
    """Worker, wake-up after release, effect, then what the summary says and the snapshot: null leaves as is."""
    lease, release, summary = write.lease, write.release, write.summary
    worker = (write.wake_unless or None) if lease is None else lease.worker
    wake_at = None if release is None else release.wake_at
    effect = effect_position(write, rows)
    snapshot = None if write.snapshot is None else bound(write.snapshot, rows[-1].digest)
    if summary is None:
        return worker, wake_at, effect, None, None, None, None, None, snapshot
    said = (summary.status, summary.waiting_on, summary.turns, summary.usd_micros, summary.tokens)
    return worker, wake_at, effect, *said, snapshot
