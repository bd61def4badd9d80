"""Golden journals: whole sessions as stored rows, with the state they fold to, kept for ever and read by every release.

A row is one JSON object a line: the record's header, its `payload` as the bytes on disk (in a JSON string), the chained
`digest`, and `payload_digest` where the payload was redacted and only its digest is left. A folded state is written
without what is at its default, so that a field added later changes no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from remanence.core.state import Session
from remanence.events import (
    GENESIS,
    Recorded,
    Redacted,
    chain_digest,
    decode_event,
    encode_event,
    payload_digest,
    skeleton,
)

__all__ = ["Row", "records_in", "rows_in", "rows_of", "state_json", "unchained"]


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stored record. Digests are 64 hexadecimal digits; `payload_digest` is set where the payload was erased."""

    session: str
    position: int
    at: int
    epoch: int
    actor: str
    payload: str
    digest: str
    payload_digest: str = ""


_row = msgspec.json.Decoder(Row)


def rows_of(records: Sequence[Recorded]) -> bytes:
    """The records as rows. What a `Redacted` among them names is erased, as a store does it."""
    gone = {record.event.position for record in records if isinstance(record.event, Redacted)}
    lines: list[bytes] = []
    for r in records:
        payload, erased = encode_event(r.event), ""
        if r.position in gone:
            payload, erased = encode_event(skeleton(r.event)), payload_digest(payload).hex()
        row = Row(r.session, r.position, r.at, r.epoch, r.actor, payload.decode(), r.digest.hex(), erased)
        lines.append(msgspec.json.encode(row))
    return b"\n".join([*lines, b""])


def rows_in(content: bytes) -> tuple[Row, ...]:
    """The rows of a file."""
    return tuple(_row.decode(line) for line in content.splitlines())


def records_in(content: bytes) -> tuple[Recorded, ...]:
    """The records of a file, decoded and lifted as a store does it."""
    return tuple(
        Recorded(
            row.session,
            row.position,
            row.at,
            row.epoch,
            row.actor,
            decode_event(row.payload.encode()),
            bytes.fromhex(row.digest),
            bool(row.payload_digest),
        )
        for row in rows_in(content)
    )


def unchained(rows: Sequence[Row]) -> int | None:
    """The position of the first row whose digest does not follow from the one before it; None when all do."""
    digest = GENESIS
    for row in rows:
        own = bytes.fromhex(row.payload_digest) if row.payload_digest else payload_digest(row.payload.encode())
        digest = chain_digest(digest, own, position=row.position, at=row.at, epoch=row.epoch, actor=row.actor)
        if digest.hex() != row.digest:
            return row.position
    return None


def state_json(s: Session) -> bytes:
    """The state as canonical JSON: sorted, indented, without what is at its default."""
    return msgspec.json.format(msgspec.json.encode(_told(s), order="sorted"), indent=1) + b"\n"


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _told(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        return {
            field.name: _told(getattr(value, field.name))
            for field in fields
            if field.required or getattr(value, field.name) != _default(field)
        }
    if isinstance(value, tuple):
        return [_told(item) for item in cast("tuple[Any, ...]", value)]
    return value
