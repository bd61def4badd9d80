"""Erasure: an order is written down, carried out wherever what it names has gone, and answered with a signed receipt.

What is erased are *records*: their payloads become skeletons, their digests stay, so the chain still verifies and the
sessions still fold. Everything else that is remembered is a projection of records and goes with them. From what was
ordered, the reach grows until nothing is added any more:

* a session: what it said itself (what it inherited belongs to its source, and is named there);
* a user: all their sessions, and what was noted in their scope;
* a subject, a memory: every version, and the record each was learned from;

and from each of these records: notes that were learned from it, summaries that cover it, what a recall says about it,
and, for a memory, records of the same person's sessions that repeat its text.

The order is an entry of the registry (kind `erasure`) before anything is erased, and grows before every step. A process
that dies leaves an order that `resume` carries on; erasing twice is erasing once. A legal hold refuses an order whole.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final

import msgspec
import structlog
from msgspec.structs import replace

from remanence.commands.caller import Caller, check_name, commit
from remanence.commands.in_flight import calls_after
from remanence.commands.reach import Reach, Trail
from remanence.commands.receipts import Order, Reached, Receipt, What, sign, tracer_of
from remanence.commands.traces import Tracer, texts_of
from remanence.core.memory.projection import MEMORY
from remanence.errors import Conflict, InvalidInput, NotFound, RemanenceError
from remanence.events import MemoryKept, Redacted, payload_digest
from remanence.ports import Entry, EntryQuery, RawRecord, SessionRow, Write
from remanence.recollections import MemorySelector
from remanence.stores.rows import blobs_named
from remanence.tools.memory_claims import drop_claims

__all__ = ["KIND", "LegalHold", "carry_on", "erase", "hold", "holds", "receipt_of", "receipts", "resume", "unhold"]

log = structlog.get_logger("remanence.erasure")

KIND: Final = "erasure"
HOLD_KIND: Final = "legal_hold"
ANSWER_KIND: Final = "kept_answer"
ECHO_KINDS: Final = ("response", "conversation")
INDEX_PATIENCE_S, INDEX_LOOK_S = 2.0, 0.1
IDLE_S: Final = 60.0
"""After which an order that did not move is taken to be nobody's."""
_PAGE = 200
_NO_SNAPSHOT = b""
"""A snapshot that no release can read: the next load folds from the first record."""
_BEYOND = (
    "bundles, copies and backups made before this moment",
    "what model providers and tools keep of what they were sent",
)


class LegalHold(msgspec.Struct, frozen=True):
    """Nothing under `scope` may be erased: `project`, `user:ID`, `session:ID`, `subject:NAME` or `memory:ID`."""

    scope: str
    by: str
    reason: str
    at: int


class _Echo(msgspec.Struct, frozen=True):
    """What tells an entry of a wire format's which session it belongs to."""

    session: str = ""


class _State(msgspec.Struct, frozen=True):
    """An order and what it has reached so far."""

    order: Order
    records: tuple[Reached, ...] = ()
    memories: tuple[str, ...] = ()
    prints: tuple[str, ...] = ()
    removed: dict[str, int] = {}
    receipt: Receipt | None = None
    trail: Trail = Trail()


# --- legal holds ------------------------------------------------------------------------------------------------------


async def hold(caller: Caller, scope: str, *, reason: str) -> LegalHold:
    """Keep everything under a scope from being erased until the hold is lifted."""
    kind, _, name = scope.partition(":")
    if (kind == "project") == bool(name) or kind not in ("project", "user", "session", "subject", "memory"):
        raise InvalidInput(
            f"{scope!r} is not something to hold. Use project, user:ID, session:ID, subject:NAME or memory:ID. Nothing "
            "was changed.",
            param="scope",
        )
    now = caller.clock.now()
    kept = LegalHold(scope, caller.actor, reason, now)
    entry = Entry(HOLD_KIND, caller.project, _hold_id(caller, scope), now, now, msgspec.json.encode(kept))
    await caller.database.registry.put(entry)
    return kept


async def unhold(caller: Caller, scope: str) -> LegalHold:
    """Lift a legal hold; returns it. Raises NotFound when none stands."""
    registry = caller.database.registry
    try:
        entry = await registry.get(HOLD_KIND, _hold_id(caller, scope))
        await registry.remove(HOLD_KIND, entry.id)
        return msgspec.json.decode(entry.body, type=LegalHold)
    except NotFound:
        raise NotFound(f"No legal hold stands over {scope}. `remanence memory holds` shows those there are.") from None


async def holds(caller: Caller) -> Sequence[LegalHold]:
    """The legal holds that stand in the caller's project."""
    return [
        msgspec.json.decode(e.body, type=LegalHold) for e in await _entries(caller, HOLD_KIND, project=caller.project)
    ]


def _hold_id(caller: Caller, scope: str) -> str:
    return f"{caller.project}/{scope}"


# --- orders -----------------------------------------------------------------------------------------------------------


async def erase(caller: Caller, what: What, name: str, *, reason: str) -> Receipt:
    """Erase a memory, a session, a subject or a user of the caller's project, wherever it has gone.

    Notes are found by the index of the memory, which is waited for a little. Raises NotFound when there is nothing of
    the kind, Conflict when a legal hold stands over any of it: then nothing was erased.
    """
    check_name(what, name)
    await _index_follows(caller)
    order = Order(caller.make_id("erasure"), caller.project, what, name, caller.actor, reason, caller.clock.now())
    receipt = await _Work(caller, _State(order), await tracer_of(caller)).carry_out()
    if not receipt.records and not receipt.memories:
        raise NotFound(f"There is no {what} {name!r} with anything to erase. Nothing was changed.")
    return receipt


async def _index_follows(caller: Caller) -> None:
    """Wait while somebody brings the index up to the journals; what cannot be read never gets there."""
    left = INDEX_PATIENCE_S
    while left > 0 and await caller.database.store.behind(MEMORY, limit=1):
        await caller.clock.sleep(INDEX_LOOK_S)
        left -= INDEX_LOOK_S


async def resume(caller: Caller, *, idle_s: float = 0) -> Sequence[Receipt]:
    """Carry on the orders of every project that a dead process left, those nobody worked at for `idle_s`.

    One that cannot be carried out, because a legal hold was put in its way since, waits and keeps no other from it.
    """
    before, done = caller.clock.now() - int(idle_s * 1_000_000), list[Receipt]()
    for entry in await _entries(caller, KIND, project=None):
        state = msgspec.json.decode(entry.body, type=_State)
        if state.receipt is None and entry.updated_at <= before:
            there = replace(caller, project=entry.project)
            try:
                done.append(await _Work(there, state, await tracer_of(there)).carry_out())
            except (Conflict, NotFound) as error:
                log.warning("this erasure goes on later", order=entry.id, why=error.message)
    return done


async def carry_on(caller: Caller) -> None:
    """Look for unfinished orders now and again, for as long as this process lives."""
    while True:
        try:
            await resume(caller, idle_s=IDLE_S)
        except RemanenceError as error:
            log.warning("an unfinished erasure goes on later", why=error.message)
        await caller.clock.sleep(IDLE_S)


async def receipts(caller: Caller) -> Sequence[Receipt]:
    """The receipts of the caller's project, newest first."""
    states = [msgspec.json.decode(e.body, type=_State) for e in await _entries(caller, KIND, project=caller.project)]
    found = [state.receipt for state in states if state.receipt is not None]
    return sorted(found, key=lambda receipt: receipt.order.at, reverse=True)


async def receipt_of(caller: Caller, order: str) -> Receipt:
    """The receipt of an order of the caller's project. Raises NotFound, Conflict while it is being carried out."""
    try:
        entry = await caller.database.registry.get(KIND, order)
    except NotFound:
        entry = None
    if entry is None or entry.project != caller.project:
        raise NotFound(f"There is no erasure {order!r}, and no file of that name. See: remanence memory receipts")
    receipt = msgspec.json.decode(entry.body, type=_State).receipt
    if receipt is None:
        raise Conflict(f"Erasure {order} is still being carried out. Ask again in a minute.")
    return receipt


async def _entries(caller: Caller, kind: str, *, project: str | None) -> list[Entry]:
    """All of a kind. When the one that a page begins after is removed meanwhile, from the beginning once more."""
    while True:
        found, query = list[Entry](), EntryQuery(kind, project, limit=_PAGE)
        try:
            while entries := await caller.database.registry.list(query):
                found += entries
                query = replace(query, after=entries[-1].id)
            return found
        except NotFound:
            continue


# --- the work ---------------------------------------------------------------------------------------------------------


class _Work:
    """One order being carried out."""

    def __init__(self, caller: Caller, state: _State, tracer: Tracer) -> None:
        self._caller = caller
        self._state = state
        self._tracer = tracer

    async def carry_out(self) -> Receipt:
        """Erase, look again, until nothing is left to erase; then sign. An order that reaches nothing is not kept.

        A call that had left before may still answer with what was erased: its answer is waited for, and erased as well.
        """
        order, caller = self._state.order, self._caller
        await self._erase_written()
        await self._erase_all()
        late = await calls_after(caller, dict.fromkeys(one.session for one in self._state.records))
        await self._erase_all()
        state = self._state
        beyond = (*_BEYOND, *(f"what call {call} of session {session} answers" for session, call, _ in sorted(late)))
        prints = self._telling_prints()
        receipt = Receipt(order, caller.clock.now(), state.records, state.memories, state.removed, prints, beyond)
        if state.records or state.memories:
            await self._empty_answers()
            await self._remove_echoes()
            await caller.database.scrub()
            receipt = await sign(caller, replace(receipt, removed=self._state.removed, finished_at=caller.clock.now()))
            await self._save(replace(self._state, receipt=receipt))
        return receipt

    def _telling_prints(self) -> tuple[str, ...]:
        """The prints without those of ids that the receipt itself names, which would be found for ever."""
        named = msgspec.json.encode((self._state.records, self._state.memories))
        found = self._tracer.find(frozenset(self._state.prints), (named,))
        return tuple(one for one in self._state.prints if one not in found)

    async def _erase_written(self) -> None:
        """What whoever died over this order had written down and not come to: no look would find all of it again."""
        reach = self._reach()
        await reach.look_again((one.session, one.position) for one in self._state.records)
        if reach or self._state.memories:
            await self._refuse_held(reach)
            await self._erase_reached(reach, self._state.memories)

    async def _erase_all(self) -> None:
        while True:
            reach = self._reach()
            await reach.look()
            if not reach:
                return
            await self._refuse_held(reach)
            await self._write_down(reach)
            await self._erase_reached(reach, tuple(reach.memories))

    async def _erase_reached(self, reach: Reach, memories: tuple[str, ...]) -> None:
        for session, records in reach.records.items():
            await self._redact(await reach.row(session), sorted(records))
        await self._remove_memories(reach, memories)

    def _reach(self) -> Reach:
        known = [(one.session, one.position) for one in self._state.records]
        return Reach(self._caller, self._state.order, self._tracer, known, self._state.trail)

    async def _refuse_held(self, reach: Reach) -> None:
        order = self._state.order
        touched = {"project", f"{order.what}:{order.name}", *(f"memory:{name}" for name in reach.memories)}
        for memory in reach.memories.values():
            touched |= {memory.place.scope, *(f"subject:{name}" for name in memory.subjects)}
        for session, records in reach.records.items():
            touched |= {f"session:{session}", f"user:{(await reach.row(session)).summary.user}"}
            kept = [record.event for record in records.values() if isinstance(record.event, MemoryKept)]
            touched |= {scope for event in kept for scope in (event.scope, *(f"subject:{s}" for s in event.subjects))}
        for one in await holds(self._caller):
            if one.scope in touched:
                kept = "What was reached before stays erased" if self._state.records else "Nothing was erased"
                raise Conflict(
                    f"A legal hold stands over {one.scope}, by {one.by}: {one.reason or 'no reason given'}. {kept}. "
                    f"Lift it first: remanence memory unhold {one.scope}"
                )

    async def _write_down(self, reach: Reach) -> None:
        """The order remembers what it is about to erase, so that a receipt can be written after a crash, too."""
        state, prints = self._state, dict.fromkeys(self._state.prints)
        records = set(state.records)
        for session, found in reach.records.items():
            async for row in self._stored(session, found):
                records.add(Reached(session, row.position, payload_digest(row.payload).hex()))
                said = texts_of(found[row.position].event)
                blobs = [await self._caller.database.blobs.get(name) for name in blobs_named(row.payload)]
                said += [blob.decode(errors="ignore") for blob in blobs]
                for text in said:
                    prints |= dict.fromkeys(self._tracer.prints_of(text))
        memories = {*state.memories, *reach.memories}
        await self._save(
            replace(
                state,
                records=tuple(sorted(records)),
                memories=tuple(sorted(memories)),
                prints=tuple(prints),
                trail=reach.trail,
            )
        )

    async def _stored(self, session: str, positions: Collection[int]) -> AsyncIterator[RawRecord]:
        """The rows as they lie in the table: the digest of a record is over those bytes."""
        after, last = min(positions) - 1, max(positions)
        while after < last:
            for row in await self._caller.database.raw(session, after=after, limit=_PAGE):
                after = row.position
                if row.position in positions:
                    yield row

    async def _redact(self, row: SessionRow, positions: Sequence[int]) -> None:
        caller, order = self._caller, self._state.order
        summary = replace(row.summary, title="") if row.summary.title else None
        for start in range(0, len(positions), _PAGE):
            events = tuple(Redacted(p, order.by, order.reason) for p in positions[start : start + _PAGE])
            now = caller.clock.now()
            write = Write(row.session, events, now, caller.actor, summary=summary, snapshot=_NO_SNAPSHOT)
            await commit(caller, write)
        self._count({"records": len(positions)})

    async def _remove_memories(self, reach: Reach, ids: tuple[str, ...]) -> None:
        """Out of the index at once: whoever reads the journals for it may be another process, or not there."""
        memories, project = self._caller.database.memories, self._state.order.project
        if ids:
            self._count((await memories.remove(MemorySelector(project=project, ids=ids))).rows)
            written = tuple(name for name in ids if "#" not in name)  # episodes have no versions to claim
            await drop_claims(self._caller.database.registry, project, written)
        for session, records in reach.records.items():
            selector = MemorySelector(project=project, session=session, positions=tuple(records))
            self._count((await memories.remove(selector)).rows)

    async def _empty_answers(self) -> None:
        """Answers kept for retried requests say what was said: those that do are emptied, and still refuse a reuse."""
        prints, emptied = frozenset(self._state.prints), 0
        sessions = {one.session.encode() for one in self._state.records}
        for entry in await _entries(self._caller, ANSWER_KIND, project=self._state.order.project):
            claim = msgspec.json.decode(entry.body, type=dict[str, Any])
            said = _decoded(claim.get("body", ""))
            if any(name in said for name in sessions) or self._tracer.find(prints, (said,)):
                body = msgspec.json.encode({**claim, "body": "", "too_large": True})
                await self._caller.database.registry.put(replace(entry, body=body, updated_at=self._caller.clock.now()))
                emptied += 1
        self._count({"kept answers": emptied})

    async def _remove_echoes(self) -> None:
        """What a wire format keeps beside a session that is erased whole: its instructions, its metadata."""
        order, removed = self._state.order, 0
        if order.what not in ("session", "user"):
            return
        sessions = {one.session for one in self._state.records} if order.what == "user" else {order.name}
        for kind in ECHO_KINDS:
            for entry in await _entries(self._caller, kind, project=order.project):
                if msgspec.json.decode(entry.body, type=_Echo).session in sessions:
                    await self._caller.database.registry.remove(kind, entry.id)
                    removed += 1
        self._count({"responses and conversations": removed})

    def _count(self, rows: dict[str, int]) -> None:
        removed = dict(self._state.removed)
        for where, number in rows.items():
            if number:
                removed[where] = removed.get(where, 0) + number
        self._state = replace(self._state, removed=removed)

    async def _save(self, state: _State) -> None:
        self._state, order = state, state.order
        body = msgspec.json.encode(state)
        entry = Entry(KIND, order.project, order.id, order.at, self._caller.clock.now(), body)
        await self._caller.database.registry.put(entry)


def _decoded(body: Any) -> bytes:
    try:
        return base64.b64decode(body)
    except (TypeError, binascii.Error):
        return str(body).encode()
