"""What every backend does alike: rows, their codec, and the rules a write is admitted under. No SQL, no I/O.

A backend goes through four steps for each `Write`; only the second and the last touch its database:

1. `draft(write)`        in the caller: check the shape, encode the events, digest the payloads;
2. read the session's row into a `Head` (or find that the write creates it: `opens`);
3. `admit(head, ...)`    refuse what may not happen (Fenced, Conflict, Frozen), then `extend(head, draft)`: positions,
                         chained digests, lease and wake-up, all computed on the `Head` in memory;
4. write the records, the spilled payloads and the changed `Head`.

**A stored row** is `(position, at, epoch, actor, payload, digest, payload_digest)`; the last is set only where the
payload column is not what was written: no payload means that it is large and lies in the blob of that digest; a payload
beside it means that it was redacted, and the digest is that of what was there.

**Wake-ups are never lost.** While a lease is held, `wake_at` before the lease's end says that somebody spoke to the
session. Only a write that has seen every record (`expect`) may clear that; a blind fact and a renewal keep it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from remanence.core.freezes import freeze_scopes, plain_scope
from remanence.core.ledger import amount_words
from remanence.errors import BudgetExceeded, Conflict, Frozen, InvalidInput, KeyReused, StoreCorrupt, UnknownEvent
from remanence.events import (
    Event,
    Recorded,
    Redacted,
    Renames,
    SessionForked,
    SessionFrozen,
    SessionOpened,
    SessionThawed,
    chain_digest,
    decode_event,
    encode_event,
    encode_readable,
    kind_of,
    payload_digest,
    renamed,
    skeleton,
)
from remanence.ports import Budget, Charge, RawRecord, Summary, Write
from remanence.spec import AgentSpec, decode_spec
from remanence.stores.refusals import content_changed, content_missing, fenced, no_session, unfit_event, unfit_text

__all__ = [
    "LEASE_FAR_US",
    "RESTED",
    "SPILL_BYTES",
    "TTL_MAX_S",
    "Draft",
    "Head",
    "Row",
    "admit",
    "blobs_named",
    "check_key",
    "claimable",
    "draft",
    "earliest",
    "erased",
    "extend",
    "holds_metadata",
    "in_snapshots",
    "is_redaction",
    "kind_in",
    "lease_is_live",
    "opened_summary",
    "payload_of",
    "raw_record",
    "recorded",
    "reserve",
    "row_of_raw",
    "spec_in",
    "standing_freeze",
    "woken",
]

_LEAVE_WORDS = {
    *("SessionOpened", "SessionForked", "SessionAnnotated", "SessionFrozen"),
    *("CancelAsked", "BudgetReached", "ToolLost", "BlocksShown"),
}
"""Kinds of events whose words may be in the state between turns; the golden journals tell when one is missing here."""
SPILL_BYTES = 64 * 1024
"""A payload over this many bytes lies in a blob beside the journal."""
NO_RENAMES = Renames()
TTL_MAX_S = 600.0
"""No claim gives a lease for longer."""
LEASE_FAR_US = 3_600_000_000
"""A lease that ends further than this in the future was given before a clock went back: it counts as expired."""
RESTED: tuple[str, ...] = ("queued", "in_progress", "waiting")
"""Statuses of sessions that a thaw makes due again."""


class Row(NamedTuple):
    """One row of the records table, without the session."""

    position: int
    at: int
    epoch: int
    actor: str
    payload: bytes | None
    digest: bytes
    payload_digest: bytes | None


class Head(msgspec.Struct):
    """A session's row as a write sees it. Backends keep it in memory while they know that nobody else wrote.

    `id` is the backend's own short key. `frozen` is the position of a standing `SessionFrozen` (0: none).
    """

    id: int
    session: str
    head: int
    digest: bytes
    epoch: int = 0
    worker: str | None = None
    lease_until: int | None = None
    wake_at: int | None = None
    frozen: int = 0
    fork_position: int = 0
    agent: str = ""
    project: str = ""
    needs: str = ""
    updated_at: int = 0


class Draft(msgspec.Struct, frozen=True):
    """A write, checked and encoded: `payloads[i]` and `digests[i]` belong to `write.events[i]`."""

    write: Write
    payloads: tuple[bytes, ...]
    digests: tuple[bytes, ...]
    special: bool
    """Whether any event changes more than the journal: redactions, freezes and thaws of the session."""

    @property
    def opens(self) -> bool:
        """Whether this write begins its session."""
        return isinstance(self.write.events[0], SessionOpened | SessionForked)

    @property
    def redacts(self) -> tuple[int, ...]:
        """Positions whose payload this write erases."""
        if not self.special:
            return ()
        return tuple(event.position for event in self.write.events if isinstance(event, Redacted))


_REDACTED = Redacted.__struct_config__.tag
_SPECIAL = frozenset({Redacted, SessionFrozen, SessionThawed})


def draft(write: Write) -> Draft:
    """Check the shape of a write and encode its events. Raises InvalidInput; nothing was written then."""
    events = write.events
    if not events:
        raise InvalidInput(f"A write on session {write.session!r} holds no event. Nothing was written.")
    if write.release is not None and write.lease is None:
        raise InvalidInput("Only a write under a lease can give it back. Nothing was written.", param="release")
    if (write.fork is not None) != isinstance(events[0], SessionForked):
        raise InvalidInput(
            "A fork begins with SessionForked and names its source, no other write does. Nothing was written.",
            param="fork",
        )
    for text in (write.session, write.actor, write.key or ""):
        # ASCII is nearly always the answer, and is known without looking at the text.
        if "\x00" in text or not (text.isascii() or _is_text(text)):
            raise unfit_text(text)
    payloads = tuple([payload_of(write.session, event) for event in events])
    digests = tuple([payload_digest(payload) for payload in payloads])
    return Draft(write, payloads, digests, not _SPECIAL.isdisjoint([type(event) for event in events]))


def payload_of(session: str, event: Event) -> bytes:
    """The event as it is stored. Raises InvalidInput for one that nobody could read back."""
    try:
        return encode_readable(event)
    except ValueError as error:
        raise unfit_event(session, kind_of(event), str(error)) from None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- the rules of a write ---------------------------------------------------------------------------------------------


def admit(head: Head, write: Write, holds: Collection[str] = ()) -> None:
    """Refuse a write that may not happen. `holds` are the scopes frozen now. Raises Fenced, Conflict or Frozen."""
    lease = write.lease
    if lease is not None and (head.epoch != lease.epoch or head.worker != lease.worker):
        raise fenced(lease, head.epoch, head.worker)
    moved = write.expect is not None and write.expect != head.head
    if moved or (write.follows is not None and write.follows != head.digest):
        raise Conflict(
            f"Session {head.session!r} is at position {head.head}, not {write.expect}: somebody wrote meanwhile. "
            "Nothing of this write was kept; read what is new and decide again."
        )
    if write.effects or write.unless_frozen:
        scope = _frozen_by(head, holds, own=write.effects)
        if scope is not None:
            raise Frozen(
                f"A freeze stands over {plain_scope(scope)}: no effect of session {head.session!r} may start. Nothing "
                "of this write was kept; it can go on after the thaw."
            )


def _frozen_by(head: Head, holds: Collection[str], *, own: bool) -> str | None:
    """The scope whose freeze stops this session's effects, or None; its own only when that is asked for."""
    if own and head.frozen:
        return f"session:{head.session}"
    return next((scope for scope in freeze_scopes(head.project, head.agent) if scope in holds), None)


def extend(head: Head, drafted: Draft) -> list[Row]:
    """The rows this write becomes; moves `head` past them: position, digest, lease, wake-up, freeze, summary."""
    write = drafted.write
    at, actor = write.at, write.actor
    epoch = 0 if write.lease is None else write.lease.epoch
    position, digest = head.head, head.digest
    rows: list[Row] = []
    for payload, own in zip(drafted.payloads, drafted.digests, strict=True):
        position += 1
        digest = chain_digest(digest, own, position=position, at=at, epoch=epoch, actor=actor)
        large = len(payload) > SPILL_BYTES
        rows.append(Row(position, at, epoch, actor, None if large else payload, digest, own if large else None))
    if drafted.special:
        _follow_freezes(head, write)
    head.head, head.digest = position, digest
    head.updated_at = max(head.updated_at, at)
    if write.summary is not None:
        head.agent, head.project, head.needs = write.summary.agent, write.summary.project, write.summary.needs
    _schedule(head, write)
    return rows


def _follow_freezes(head: Head, write: Write) -> None:
    for number, event in enumerate(write.events, start=head.head + 1):
        if isinstance(event, SessionFrozen):
            head.frozen = number
        elif isinstance(event, SessionThawed):
            head.frozen = 0


def _schedule(head: Head, write: Write) -> None:
    if write.lease is not None:
        kept = head.wake_at if write.expect is None and woken(head) else None
        if write.release is None:
            head.wake_at = earliest(head.lease_until, kept)
        else:
            head.wake_at = earliest(write.release.wake_at, kept)
            head.worker = head.lease_until = None
    if write.wake and not told(head, write):
        head.wake_at = earliest(head.wake_at, write.at)


def told(head: Head, write: Write) -> bool:
    """Whether the session is held by a worker of the writer's own process, which will be told without a claim."""
    held = bool(write.wake_unless) and head.worker == write.wake_unless
    return held and lease_is_live(head.lease_until, write.at)


def woken(head: Head) -> bool:
    """Whether somebody spoke to a leased session since its holder last wrote having seen everything."""
    return head.wake_at is not None and head.lease_until is not None and head.wake_at < head.lease_until


def earliest(left: int | None, right: int | None) -> int | None:
    """The earlier of two moments; None is never."""
    if left is None or right is None:
        return right if left is None else left
    return min(left, right)


def lease_is_live(lease_until: int | None, now: int) -> bool:
    """Whether a lease still holds at `now` (see `LEASE_FAR_US` for clocks that went back)."""
    return lease_until is not None and now < lease_until <= now + LEASE_FAR_US


def claimable(head: Head, worker: str, now: int) -> bool:
    """Whether a claim by `worker` may take this session at `now`: due, and not in somebody else's hands."""
    if head.lease_until is not None and head.lease_until > now + LEASE_FAR_US:
        return True
    due = head.wake_at is not None and head.wake_at <= now
    return due and (not lease_is_live(head.lease_until, now) or head.worker == worker)


def check_key(write: Write, body_digest: str) -> None:
    """Raises KeyReused when the write stored under its idempotency key had another body."""
    if write.key_digest != body_digest:
        given = (write.key or "").split(":", 2)[-1]  # what is before it says what the key was for
        raise KeyReused(
            f"The idempotency key {given!r} was used before with another request. The first request stands; "
            "nothing of this one was kept. Send it again under a key of its own."
        )


def opened_summary(write: Write, source: Summary | None = None) -> Summary:
    """The row of a session that this write begins. `source` is the row of the session it was forked from."""
    if write.summary is not None:
        return write.summary
    event = write.events[0]
    if isinstance(event, SessionOpened):
        return Summary(event.agent, event.version, event.project, event.user, title=event.title)
    if source is None or not isinstance(event, SessionForked):
        raise no_session(write.session)
    return Summary(
        source.agent, source.version, source.project, event.user or source.user, title=event.title, needs=source.needs
    )


# --- budgets ----------------------------------------------------------------------------------------------------------


def reserve(budget: Budget, charge: Charge, held: int) -> int:
    """The amount to hold under this charge's key instead of `held`. Raises BudgetExceeded when it would overshoot."""
    amount = charge.usd_micros if budget.unit == "usd_micros" else charge.tokens
    used = budget.spent + budget.reserved - held
    if amount > 0 and used + amount > budget.limit:
        raise BudgetExceeded(
            f"The budget of {budget.scope} has {amount_words(max(0, budget.limit - used), budget.unit)} left of "
            f"{amount_words(budget.limit, budget.unit)}, and this needs up to {amount_words(amount, budget.unit)}. "
            "Nothing was written; raise the budget to go on.",
            scope=budget.scope,
            unit=budget.unit,
            limit=budget.limit,
            used=used,
            needed=amount,
        )
    return amount


# --- rows and records -------------------------------------------------------------------------------------------------

_KIND = re.compile(rb'\{"type":"([A-Za-z]+)"')
_BLOB = re.compile(rb'"blob":"([0-9a-f]{64})"')


def is_redaction(row: Row) -> bool:
    """Whether a stored row redacts another record."""
    return row.payload is not None and kind_in(row.payload) == _REDACTED


def recorded(session: str, row: Row, content: bytes | None = None) -> Recorded:
    """The record a stored row holds; `content` is the blob of a payload that was spilled.

    Raises StoreCorrupt and UnknownEvent, which name the session and the position.
    """
    payload = row.payload if row.payload is not None else content
    if payload is None:
        raise content_missing(session, row.position)
    if row.payload is None and payload_digest(payload) != row.payload_digest:
        raise content_changed(session, row.position)  # it is large and rare, so it can be looked at each time
    redacted = row.payload is not None and row.payload_digest is not None
    try:
        event = decode_event(payload)
    except (UnknownEvent, StoreCorrupt) as error:
        raise type(error)(f"Session {session}, record {row.position}: {error.message}") from None
    return Recorded(session, row.position, row.at, row.epoch, row.actor, event, row.digest, redacted)


def spec_in(encoded: bytes | str) -> AgentSpec:
    """The stored spec of a version. Raises StoreCorrupt."""
    try:
        return decode_spec(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise StoreCorrupt(
            f"A version of an agent cannot be read ({error}): it is damaged, or a newer release wrote it. It was left "
            "as it is; the journals are not touched by it. Open it with that release, or restore from a backup."
        ) from None


def raw_record(row: Row, content: bytes | None = None) -> RawRecord:
    """The row undecoded. A spilled payload that is missing becomes an empty one, which no digest fits."""
    payload = row.payload if row.payload is not None else content or b""
    original = row.payload_digest if row.payload is not None else None
    return RawRecord(
        row.position, row.at, row.epoch, row.actor, kind_in(payload), payload, row.digest, payload_digest=original
    )


def row_of_raw(raw: RawRecord) -> tuple[Row, bytes | None]:
    """The row to store for an exported record, and the content to put beside it when it is large."""
    header = (raw.position, raw.at, raw.epoch, raw.actor)
    if raw.payload_digest is None and len(raw.payload) > SPILL_BYTES:
        return Row(*header, None, raw.digest, payload_digest(raw.payload)), raw.payload
    return Row(*header, raw.payload, raw.digest, raw.payload_digest), None


def kind_in(payload: bytes) -> str:
    """The kind of event a payload says it is, without decoding it; empty when it does not say."""
    found = _KIND.match(payload)
    return found[1].decode() if found else ""


def blobs_named(payload: bytes) -> tuple[str, ...]:
    """Digests of the blobs an event refers to (a tool's whole result, a file). Erasing the event erases them too."""
    return tuple({found.decode() for found in _BLOB.findall(payload)}) if b'"blob":"' in payload else ()


def erased(session: str, row: Row, content: bytes | None, renames: Renames = NO_RENAMES) -> Row | None:
    """The row as redaction leaves it: the skeleton under pseudonyms, and the digest of the original. None when there is
    nothing to change any more."""
    done = row.payload is not None and row.payload_digest is not None
    if done and not renames:
        return None
    whole = row.payload if row.payload is not None else content
    if whole is None:
        raise content_missing(session, row.position)
    left = encode_event(renamed(skeleton(decode_event(whole)), renames))
    original = row.payload_digest if done else payload_digest(whole)
    after = row._replace(actor=renames.user(row.actor), payload=left, payload_digest=original)
    return None if after == row else after


def holds_metadata(payload: bytes) -> bool:
    """Whether an event carries the metadata of its session."""
    return kind_in(payload) in ("SessionOpened", "SessionForked", "SessionAnnotated")


def in_snapshots(payload: bytes) -> bool:
    """Whether words of an event may stand in later snapshots: titles, metadata, reasons that people or tools gave."""
    return kind_in(payload) in _LEAVE_WORDS


def standing_freeze(rows: Iterable[RawRecord]) -> int:
    """The position of the last SessionFrozen that no SessionThawed follows, 0 for none."""
    frozen = 0
    for raw in rows:
        kind = kind_in(raw.payload)
        if kind == "SessionFrozen":
            frozen = raw.position
        elif kind == "SessionThawed":
            frozen = 0
    return frozen
