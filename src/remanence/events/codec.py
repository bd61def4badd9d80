"""The codec of the journal: bytes on disk, upcasters, digests, skeletons.

A record is stored as JSON `{"type": kind, ...}`. A kind that this release does not know raises `UnknownEvent` and
leaves the journal untouched; a kind that an older release wrote in another shape is lifted by an upcaster on reading,
never rewritten in place, because each record's digest covers its bytes.

Digests chain: `digest = H(previous digest, payload digest, position, at, epoch, actor)`. Redaction replaces a payload
by its skeleton and keeps the payload's digest, so erasure does not break the chain and tampering does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from remanence.content import Part, Text, ToolCall, ToolResult
from remanence.errors import StoreCorrupt, UnknownEvent
from remanence.events.kinds import KINDS, Event

__all__ = ["GENESIS", "chain_digest", "decode_event", "encode_event", "kind_of", "payload_digest", "skeleton"]

GENESIS = b"\x00" * 32
"""The digest before the first record of a session that was opened, not forked."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
_UPCASTERS: dict[str, Upcaster] = {}
"""By the `type` an older release wrote: a function from that shape to today's. Kept for ever."""


def kind_of(event: Event) -> str:
    """The name of the event's kind, as on disk."""
    return type(event).__name__


def encode_event(event: Event) -> bytes:
    """The event as it is stored: JSON with its kind under `type`, defaults left out."""
    return _encoder.encode(event)


def decode_event(payload: bytes) -> Event:
    """The event a payload holds, lifted to today's shape.

    Raises `UnknownEvent` for a kind of a newer release, `StoreCorrupt` for bytes that are not an event.
    """
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        return _decode_old(payload, error)


def _decode_old(payload: bytes, cause: msgspec.DecodeError) -> Event:
    try:
        raw: dict[str, Any] = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError:
        raise StoreCorrupt(
            f"A journal record is not readable ({cause}). The record was left as it is; "
            "run `remanence sessions verify` to find the extent, and restore from a backup."
        ) from None
    kind = raw.get("type")
    if kind in _UPCASTERS:
        return msgspec.convert(_UPCASTERS[kind](raw), Event)
    if kind not in KINDS:
        raise UnknownEvent(
            f"The journal holds an event of kind {kind!r}, which this release does not know. Nothing was changed; "
            "open it with the release that wrote it, or a newer one."
        )
    raise StoreCorrupt(
        f"A journal record of kind {kind} does not have the shape of one ({cause}). The record was left as it is; "
        "run `remanence sessions verify` to find the extent, and restore from a backup."
    )


def payload_digest(payload: bytes) -> bytes:
    """SHA-256 of a stored payload, 32 bytes."""
    return hashlib.sha256(payload).digest()


def chain_digest(previous: bytes, payload: bytes, *, position: int, at: int, epoch: int, actor: str) -> bytes:
    """The digest of a record: over the previous record's digest, its payload's digest and its own header, 32 bytes."""
    header = b"%d|%d|%d|%s" % (position, at, epoch, actor.encode())
    return hashlib.sha256(previous + payload + header).digest()


# --- redaction --------------------------------------------------------------------------------------------------------

_GONE = "[redacted]"


def skeleton(event: Event) -> Event:
    """The event without what was said: structure, ids and counters stay, so that the journal still folds."""
    changes: dict[str, Any] = {}
    for name in event.__struct_fields__:
        if name in ("parts", "summary"):
            changes[name] = tuple(_skeleton_part(part) for part in getattr(event, name))
        elif name in ("text", "note", "message", "question", "title", "reason"):
            changes[name] = _GONE if getattr(event, name) else ""
        elif name in ("metadata", "options", "subjects"):
            changes[name] = type(getattr(event, name))()
        elif name == "blob":
            changes[name] = None
    return msgspec.structs.replace(event, **changes)


def _skeleton_part(part: Part) -> Part:
    match part:
        case ToolCall(call=call, name=name):
            return ToolCall(call, name, "{}")
        case ToolResult(call=call, name=name, error=error):
            return ToolResult(call, name, (Text(_GONE),), error)
        case _:
            return Text(_GONE)
