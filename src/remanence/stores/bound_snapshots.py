"""Snapshots as they lie in a database: each bound to the record it stands at.

A digest over the snapshot and over the digest of that record goes before it. So a snapshot that was flipped, edited or
cut, that belongs to another session or position, or to a journal that went on otherwise since (a table that was put
back by itself from a backup) is not believed by whoever loads it: the records are folded instead, and the log says so.
It says nothing about who wrote it. Whoever can write both tables can make another one that fits.

Those of older releases are bound to nothing, and stay good.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import structlog

__all__ = ["bound", "unbound"]

log = structlog.get_logger("remanence.store")

_BOUND: Final = b"\xc2"
"""What a bound snapshot begins with: as MessagePack it would be `false`, and no state is."""
_DIGEST_BYTES: Final = 16


def bound(snapshot: bytes, digest: bytes) -> bytes:
    """A snapshot as it is kept beside the record with this digest."""
    return _BOUND + _digest(snapshot, digest) + snapshot


def unbound(kept: bytes | None, digest: bytes | None, session: str, position: int) -> bytes | None:
    """The snapshot; None when it is none of the record with this digest. Without the digest, it cannot be told."""
    if kept is None or not kept.startswith(_BOUND):
        return kept
    snapshot = kept[1 + _DIGEST_BYTES :]
    if digest is None or kept[1 : 1 + _DIGEST_BYTES] == _digest(snapshot, digest):
        return snapshot
    log.warning(
        "a snapshot is not what was written at its record, and is not believed; `sessions verify --mend` drops it",
        session=session,
        position=position,
    )
    return None


def _digest(snapshot: bytes, digest: bytes) -> bytes:
    return blake2b(snapshot, digest_size=_DIGEST_BYTES, key=digest).digest()
