"""Stored rows of the journal: the records of one write in one row, packed and unpacked (see `0001_journal.sql`)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.connect import Row as Fields
from remanence.stores.rows import Row

__all__ = [
    "INSERT_RECORDS",
    "NO_END",
    "Packed",
    "Stored",
    "digest_at",
    "fetch",
    "first_rows",
    "pack",
    "replace",
    "row_at",
    "runs",
    "sizes_of",
    "unpack",
]

NO_END = (1 << 63) - 1
"""A position after every other."""
AS_WRITTEN = bytes(32)
RUN_MAX = 100
"""Records in one row, when many follow each other in an import."""

Stored = tuple[Row, bytes | None]
"""A record, and the blob of a payload that was spilled."""


class Packed(NamedTuple):
    """The columns of one row, without the session."""

    position: int
    at: int
    epoch: int
    actor: str
    payloads: bytes
    sizes: bytes
    digests: bytes
    originals: bytes


def pack(rows: Sequence[Row]) -> Packed:
    """Consecutive records of one write as one row."""
    last = rows[-1]
    payloads = [row.payload or b"" for row in rows]
    written = [row.payload_digest for row in rows]
    originals = b""
    if written.count(None) < len(written):
        originals = b"".join([digest or AS_WRITTEN for digest in written])
    return Packed(
        last.position,
        last.at,
        last.epoch,
        last.actor,
        b"".join(payloads),
        sizes_of(payloads),
        b"".join([row.digest for row in rows]),
        originals,
    )


def sizes_of(payloads: Sequence[bytes]) -> bytes:
    """The column `sizes`."""
    return b"".join([len(payload).to_bytes(4, "big") for payload in payloads])


def unpack(packed: Packed) -> list[Row]:
    """The records of one row. Bytes that somebody cut short or added give records that no digest fits."""
    position, at, epoch, actor, payloads, packed_sizes, digests, packed_originals = packed
    count = len(packed_sizes) // 4
    sizes = struct.unpack_from(f">{count}I", packed_sizes)
    rows: list[Row] = []
    start = 0
    for index, size in enumerate(sizes):
        payload: bytes | None = payloads[start : start + size]
        start += size
        original = None
        if packed_originals:
            original = packed_originals[32 * index : 32 * index + 32]
            original = None if original == AS_WRITTEN else original
            payload = None if original is not None and not size else payload
        digest = digests[32 * index : 32 * index + 32]
        rows.append(Row(position - count + 1 + index, at, epoch, actor, payload, digest, original))
    lengths = (start, 4 * count, 32 * count, 32 * count if packed_originals else 0)
    if rows and lengths != (len(payloads), len(packed_sizes), len(digests), len(packed_originals)):
        rows[-1] = rows[-1]._replace(digest=b"")
    return rows


def runs(rows: Iterable[Row]) -> list[list[Row]]:
    """Records of an import, gathered as far as they can share a row."""
    found: list[list[Row]] = []
    for row in rows:
        last = found[-1][-1] if found else None
        follows = last is not None and row[:4] == (last.position + 1, *last[1:4]) and len(found[-1]) < RUN_MAX
        if follows:
            found[-1].append(row)
        else:
            found.append([row])
    return found


_COLUMNS = "position, at, epoch, actor, payloads, sizes, digests, originals"
_FETCH = (
    f"SELECT {_COLUMNS} FROM records WHERE sid = $1 AND position > $2 AND position <= coalesce("
    "(SELECT position FROM records WHERE sid = $1 AND position >= $3 ORDER BY position LIMIT 1), $4) "
    "ORDER BY position LIMIT $5"
)
_ROW_AT = f"SELECT {_COLUMNS} FROM records WHERE sid = $1 AND position >= $2 ORDER BY position LIMIT 1"
_FIRST = (
    f"SELECT wanted.sid, found.* FROM unnest($1::bigint[], $2::bigint[]) AS wanted (sid, low) CROSS JOIN LATERAL ("
    f"SELECT {_COLUMNS} FROM records WHERE records.sid = wanted.sid AND position > wanted.low "
    "ORDER BY position LIMIT $3) AS found ORDER BY wanted.sid, found.position"
)
INSERT_RECORDS = (
    f"INSERT INTO records (sid, {_COLUMNS}) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], "
    "$4::integer[], $5::text[], $6::bytea[], $7::bytea[], $8::bytea[], $9::bytea[])"
)


async def fetch(connection: Connection, sid: int, *, after: int, upto: int, limit: int) -> list[Stored]:
    """Records stored under `sid` with positions over `after`, at most `upto`; the first `limit`.

    A row may hold many records, so the rows are bounded by position: up to the one that holds, or follows, the last
    record wanted. Where records are missing there may be fewer than `limit`, though never none while any are left.
    """
    return await _with_blobs(connection, await _rows(connection, sid, after=after, upto=upto, limit=limit))


async def _rows(connection: Connection, sid: int, *, after: int, upto: int, limit: int) -> list[Row]:
    rows: list[Row] = []
    for fields in await connection.fetch(_FETCH, sid, after, min(upto, after + limit), NO_END, limit):
        rows += [row for row in unpack(Packed(*fields)) if after < row.position <= upto]
    return rows[:limit]


async def erased_among(connection: Connection, sid: int, *, after: int, upto: int) -> set[int]:
    """The positions of the records stored under `sid`, over `after` and at most `upto`, of which a skeleton is left."""
    rows = await _rows(connection, sid, after=after, upto=upto, limit=upto - after)
    return {row.position for row in rows if row.payload is not None and row.payload_digest is not None}


async def first_rows(connection: Connection, lows: Mapping[int, int], limit: int) -> dict[int, list[Row]]:
    """The first records stored under each of these `sid`, past a position: about `limit`, in one question for all."""
    found: dict[int, list[Row]] = {sid: [] for sid in lows}
    for sid, *packed in await connection.fetch(_FIRST, list(lows), list(lows.values()), limit):
        found[sid] += unpack(Packed(*packed))
    return {sid: rows[:limit] for sid, rows in found.items()}


async def row_at(connection: Connection, sid: int, position: int) -> Stored | None:
    """The record stored under `sid` at a position, or None."""
    found = await _packed_at(connection, sid, position)
    rows = [] if found is None else [row for row in unpack(found) if row.position == position]
    return (await _with_blobs(connection, rows))[0] if rows else None


async def digest_at(connection: Connection, sid: int, position: int) -> bytes | None:
    """The digest of the record stored under `sid` at a position, or None."""
    found = await _packed_at(connection, sid, position)
    rows = [] if found is None else unpack(found)
    return next((row.digest for row in rows if row.position == position), None)


async def replace(connection: Connection, sid: int, position: int, row: Row) -> None:
    """Put another payload in the place of the record at a position. Under another actor it gets a row of its own."""
    found = await _packed_at(connection, sid, position)
    if found is None:
        return
    rows = [row if before.position == position else before for before in unpack(found)]
    if row.actor != found.actor:
        await connection.execute("DELETE FROM records WHERE sid = $1 AND position = $2", sid, found.position)
        parts = [(sid, *pack(part)) for part in runs(rows)]
        await connection.execute(INSERT_RECORDS, *zip(*parts, strict=True))
        return
    packed = pack(rows)
    await connection.execute(
        "UPDATE records SET payloads = $3, sizes = $4, originals = $5 WHERE sid = $1 AND position = $2",
        sid,
        packed.position,
        packed.payloads,
        packed.sizes,
        packed.originals,
    )


async def _packed_at(connection: Connection, sid: int, position: int) -> Packed | None:
    found: Fields | None = await connection.fetchrow(_ROW_AT, sid, position)
    return None if found is None else Packed(*found)


async def _with_blobs(connection: Connection, rows: Sequence[Row]) -> list[Stored]:
    wanted = [row.payload_digest for row in rows if row.payload is None]
    contents: dict[bytes, bytes] = {}
    if wanted:
        found = await connection.fetch("SELECT digest, content FROM blobs WHERE digest = ANY ($1::bytea[])", wanted)
        contents = {fields["digest"]: fields["content"] for fields in found}
    return [(row, contents.get(row.payload_digest or b"") if row.payload is None else None) for row in rows]
