"""The codec of the journal: bytes on disk, upcasters, digests, skeletons.

A record is stored as JSON `{"type": kind, ...}`. A kind that this release does not know raises `UnknownEvent` and
leaves the journal untouched; a kind that an older release wrote in another shape is lifted by an upcaster on reading,
never rewritten in place, because each record's digest covers its bytes.

Digests chain: `digest = H(previous digest, payload digest, position, at, epoch, actor)`. Redaction replaces a payload
by its skeleton and keeps the payload's digest, so erasure does not break the chain and tampering does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from remanence.content import Part, Text, ToolCall, ToolResult
from remanence.errors import StoreCorrupt, UnknownEvent
from remanence.events.kinds import KINDS, Event

__all__ = [
    "GENESIS",
    "UPCASTERS",
    "Upcaster",
    "chain_digest",
    "decode_event",
    "encode_event",
    "encode_readable",
    "kind_of",
    "payload_digest",
    "skeleton",
]

GENESIS = b"\x00" * 32
"""The digest before the first record of a session that was opened, not forked."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: Mapping[str, Upcaster] = {}
"""By the `type` an older release wrote: a function from that shape to today's. Kept for ever.

It is asked only for what does not decode as it stands, which an old shape never does: unknown fields are refused."""

_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


def kind_of(event: Event) -> str:
    """The name of the event's kind, as on disk."""
    return type(event).__name__


def encode_event(event: Event) -> bytes:
    """The event as it is stored: JSON with its kind under `type`, defaults left out."""
    return _encoder.encode(event)


def decode_event(payload: bytes, upcasters: Mapping[str, Upcaster] = UPCASTERS) -> Event:
    """The event a payload holds, lifted to today's shape.

    Raises `UnknownEvent` for a kind, or a field of a kind, of a newer release; `StoreCorrupt` for bytes that are not an
    event.
    """
    try:
        return _decoder.decode(payload)
    except _UNREADABLE as error:
        return _decode_old(payload, error, upcasters)


def encode_readable(event: Event) -> bytes:
    """As `encode_event`, proven to be read back. Raises `ValueError` that says what no reader would take.

    Structs made in Python are not checked when they are made. A text where a number belongs would be written without a
    word, and the session be lost with the first record that nobody can read.
    """
    try:
        payload = _encoder.encode(event)
        _decoder.decode(payload)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # msgspec's own are ValueErrors
        raise ValueError(str(error)) from None
    return payload


def _decode_old(payload: bytes, cause: Exception, upcasters: Mapping[str, Upcaster]) -> Event:
    try:
        raw: dict[str, Any] = msgspec.json.decode(payload, type=dict[str, Any])
    except _UNREADABLE:
        raise StoreCorrupt(f"A journal record is not readable ({cause}). {_WHAT_NOW}") from None
    kind = str(raw.get("type"))
    if kind in upcasters:
        try:
            return msgspec.convert(upcasters[kind](raw), Event)
        except (msgspec.ValidationError, LookupError) as error:
            raise _misshapen(kind, error) from None
    if kind not in KINDS:
        raise UnknownEvent(
            f"The journal holds an event of kind {kind!r}, which this release does not know. {_NEWER}"
        ) from None
    unknown = [name for name in raw if name != "type" and name not in KINDS[kind].__struct_fields__]
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise UnknownEvent(
            f"The journal holds a {kind} with {names}, which this release does not know. {_NEWER}"
        ) from None
    raise _misshapen(kind, cause) from None


_WHAT_NOW = (
    "The record was left as it is; run `remanence sessions verify` to find the extent, and restore from a backup."
)
_NEWER = "Nothing was changed; open it with the release that wrote it, or a newer one."


def _misshapen(kind: str, cause: Exception) -> StoreCorrupt:
    return StoreCorrupt(
        f"A journal record of kind {kind} does not have the shape of one ({cause}): it is damaged, or a newer release "
        f"wrote it. {_WHAT_NOW}"
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
        elif name == "items":
            changes[name] = tuple(msgspec.structs.replace(item, why=()) for item in getattr(event, name))
        elif name in ("metadata", "face", "options", "subjects", "keep"):
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
