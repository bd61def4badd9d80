"""Snapshots: the state of a session between turns as bytes, so that a fold need not begin at the first record.

A snapshot is a cache. One that is missing, damaged, of another position or of an older shape is none at all, and the
journal is folded from its beginning.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.core.state import Session

__all__ = ["SNAPSHOT_EVERY_RECORDS", "decode_snapshot", "encode_snapshot"]

SNAPSHOT_EVERY_RECORDS = 100
"""So much is said between two snapshots, and so much is read to know a session again."""

_SNAPSHOTS = msgspec.msgpack.Decoder(Session)
_CHECKED = b"\xc1"
"""What a snapshot begins with that carries its checksum: no MessagePack does. Those of older releases carry none."""
_SUM_BYTES = 4


def encode_snapshot(s: Session) -> bytes:
    """The state as a snapshot: only between turns, so that it holds no content. A checksum tells a later flip."""
    if s.turn is not None:
        raise ValueError("a snapshot is taken between turns")
    body = msgspec.msgpack.encode(_said(s))
    return _CHECKED + zlib.crc32(body).to_bytes(_SUM_BYTES) + body


def _said(s: msgspec.Struct) -> dict[str, Any]:
    """The fields that say something: snapshots are kept, so what is as it would be anyway takes no room in them."""
    shown: dict[str, Any] = {}
    for name, shown_as, default in _defaults(type(s)):
        value = getattr(s, name)
        if value != default:
            shown[shown_as] = _said(value) if isinstance(value, msgspec.Struct) else value
    return shown


@functools.cache
def _defaults(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, object], ...]:
    """The fields of a struct: their names, how they are written, what they are when nothing is said."""
    return tuple(
        (
            field.name,
            field.encode_name,
            field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory(),
        )
        for field in msgspec.structs.fields(kind)
    )


def decode_snapshot(snapshot: bytes | None, session: str, at: int | None = None) -> Session | None:
    """The state a snapshot holds, or None when there is none, it was damaged, it is not of the position `at` where it
    was found, or an older release wrote it in another shape (then fold from zero).

    It may be from before `session` was forked from another one, of which it then says the same.
    """
    if snapshot is None:
        return None
    if snapshot.startswith(_CHECKED):
        kept, snapshot = snapshot[1 : 1 + _SUM_BYTES], snapshot[1 + _SUM_BYTES :]
        if zlib.crc32(snapshot).to_bytes(_SUM_BYTES) != kept:
            return None
    try:
        s = _SNAPSHOTS.decode(snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if at is not None and s.head != at:
        return None
    return s if s.id == session else replace(s, id=session)
