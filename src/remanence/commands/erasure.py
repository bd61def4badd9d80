"""Erasure: an order is written down, carried out wherever what it names has gone, and answered with a signed receipt.

What is erased are *records*: their payloads become skeletons, their digests stay, so the chain still verifies and the
sessions still fold. Everything else that is remembered is a projection of records and goes with them. From what was
ordered, the reach grows until nothing is added any more:

* a session: what it said itself (what it inherited belongs to its source, and is named there);
* a user: all their sessions, and what was noted in their scope;
* a subject, a memory: every version, and the record each was learned from;

and from each of these records: notes that were learned from it, summaries that cover it, what a recall says about it,
and, for a memory, records of the same person's sessions that repeat its text.

Names go as well: that of a user and those of blocks are replaced by pseudonyms, in records, in the tables beside them,
and in what is left of the order (`pseudonyms.py`).

The order is an entry of the registry (kind `erasure`) before anything is erased, and grows before every step. A process
that dies leaves an order that `resume` carries on; erasing twice is erasing once. A legal hold refuses an order whole.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog
from msgspec.structs import replace

from remanence.commands.caller import Caller, check_name, commit
from remanence.commands.entries import entries_of, holding, own_entry
from remanence.commands.in_flight import Flight, calls_after
from remanence.commands.legal_holds import LegalHold, hold, holds, unhold
from remanence.commands.memory_stores import store_names
from remanence.commands.orders import (
    KIND,
    KeptOrder,
    State,
    joined,
    read_state,
    receipt_of,
    receipts,
    together,
)
from remanence.commands.pseudonyms import Pseudonyms, rename_entries
from remanence.commands.reach import Reach
from remanence.commands.receipts import Order, Reached, Receipt, What, sign, tracer_of
from remanence.commands.seals import sealed
from remanence.commands.snapshots import drop_unreadable
from remanence.commands.traces import Tracer, is_framed, texts_of
from remanence.core.memory.journal import journal_of, owner_of
from remanence.core.memory.projection import MEMORY
from remanence.errors import Conflict, NotFound, RemanenceError, StoreCorrupt
from remanence.events import MemoryKept, SessionAnnotated, payload_digest
from remanence.ports import Entry, RawRecord, SessionQuery, SessionRow, Write
from remanence.recollections import MemorySelector
from remanence.stores.rows import blobs_named
from remanence.tools.memory_claims import CLAIM_KIND, claimed_by

__all__ = ["KIND", "LegalHold", "carry_on", "erase", "hold", "holds", "receipt_of", "receipts", "resume", "unhold"]

log = structlog.get_logger("remanence.erasure")

ANSWER_KIND: Final = "kept_answer"
ECHO_KINDS: Final = ("response", "conversation")
INDEX_PATIENCE_S, INDEX_LOOK_S = 2.0, 0.1
IDLE_S: Final = 60.0
"""After which an order that did not move is taken to be nobody's."""
_PAGE = 200
_TRIES = 20
_RENAME_ROUNDS = 5
_LATE_ROUNDS = 5
_NO_SNAPSHOT = b""
"""A snapshot that no release can read: the next load folds from the first record."""
_UNSIGNED = b'"receipt":null'
"""What an order holds that is not carried out; others may hold it as well."""
_BEYOND = (
    "bundles, copies and backups made before this moment",
    "what model providers and tools keep of what they were sent",
)


class _Echo(msgspec.Struct, frozen=True):
    """What tells an entry of a wire format's which session it belongs to."""

    session: str = ""


# --- orders -----------------------------------------------------------------------------------------------------------


async def erase(caller: Caller, what: What, name: str, *, reason: str, order: str = "") -> Receipt:
    """Erase a memory, a session, a subject or a user of the caller's project, wherever it has gone.

    Notes are found by the index of the memory, which is waited for a little. Raises NotFound when there is nothing of
    the kind, Conflict when a legal hold stands over any of it: then nothing was erased. `order` is the id of an order
    that may have been given before, of the very same: it is carried on, or answered with its receipt.
    """
    check_name(what, name)
    id_ = order or caller.make_id("erasure")
    state = State(Order(id_, caller.project, what, name, caller.actor, reason, caller.clock.now()))
    entry = await own_entry(caller, KIND, order) if order else None
    if entry is not None:
        state = read_state(entry)
    if state.receipt is not None:
        return state.receipt
    kept = KeptOrder(caller, 0 if entry is None else entry.revision)
    receipt = await _Work(caller, state, await tracer_of(caller), kept).carry_out()
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
    for entry in await holding(caller, KIND, (_UNSIGNED,), project=None):
        state = read_state(entry)
        if state.receipt is None and entry.updated_at <= before:
            there = replace(caller, project=entry.project)
            try:
                kept = KeptOrder(there, entry.revision)
                done.append(await _Work(there, state, await tracer_of(there), kept).carry_out())
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


# --- the work ---------------------------------------------------------------------------------------------------------


class _Work:
    """One order being carried out."""

    def __init__(self, caller: Caller, state: State, tracer: Tracer, kept: KeptOrder) -> None:
        self._caller = caller
        self._state = state
        self._kept = kept
        self._tracer = tracer
        self._names = Pseudonyms(state.order, tracer, state.memories)
        self._learned: dict[tuple[str, int], tuple[str, int]] = {}
        self._joined = False
        """Whether something was written down by another process, which may not have come to it."""

    async def carry_out(self) -> Receipt:
        """Erase, look again, until nothing is left to erase; then sign. An order that reaches nothing is not kept.

        A call that had left before may still answer with what was erased: its answer is waited for, and erased as well.
        """
        caller = self._caller
        if self._state.unsigned is not None:
            return await self._finish(self._state.unsigned)
        await _index_follows(caller)
        await self._erase_written()
        await self._erase_all()
        late = await self._erase_late()
        await self._rename()
        state = self._state
        if self._joined:
            return await self._anew(state)
        beyond = (*_BEYOND, *(f"what call {call} of session {session} answers" for session, call, _ in sorted(late)))
        memories = (*state.memories, *state.bare)
        receipt = Receipt(state.order, caller.clock.now(), state.records, memories, state.removed, (), beyond)
        if not state.records and not state.memories and not state.removed:
            return receipt
        await self._empty_answers()
        await self._remove_echoes()
        await self._drop_claims()
        receipt = self._names.receipt(replace(receipt, order=self._names.order(), removed=self._state.removed))
        receipt = replace(receipt, prints=self._telling_prints(receipt))
        # Before the files are written anew, because the order holds names up to here.
        there = await self._kept.put(State(receipt.order, unsigned=receipt))
        return await (self._finish(receipt) if there is None else self._anew(together(self._state, there)))

    async def _finish(self, unsigned: Receipt) -> Receipt:
        try:
            await self._caller.database.scrub()
        except StoreCorrupt:
            if not await drop_unreadable(self._caller.database):
                raise
            await self._caller.database.scrub()
        while True:
            receipt = await sign(self._caller, replace(unsigned, finished_at=self._caller.clock.now()))
            there = await self._kept.put(State(receipt.order, receipt=receipt))
            if there is None:
                return receipt
            done = there.receipt or there.unsigned
            if done is None:
                return await self._anew(there)
            unsigned = joined(unsigned, done)

    async def _anew(self, state: State) -> Receipt:
        """Somebody else carries it out as well: begin again, with what both have reached."""
        return await _Work(self._caller, state, self._tracer, self._kept).carry_out()

    async def _rename(self) -> None:
        """Put pseudonyms where names stand beside the journals, and look again: somebody may write them meanwhile."""
        caller, names, order = self._caller, self._names, self._state.order
        for _ in range(_RENAME_ROUNDS):
            if names.user:
                changed = await caller.database.rename_user(order.project, names.user, names.of(names.user))
                self._count({f"{table} under a pseudonym": rows for table, rows in changed.items()})
            if names.names:
                self._count({"entries under a pseudonym": await rename_entries(caller, names)})
                await self._rename_receipts()
            before = self._state.records
            await self._erase_all()
            if self._state.records == before:
                return

    async def _rename_receipts(self) -> None:
        """Receipts of earlier orders that hold a name: they are signed anew."""
        for entry in await holding(self._caller, KIND, self._names.written, project=self._state.order.project):
            receipt = read_state(entry).receipt
            if receipt is not None and (bare := self._names.receipt(receipt)) != receipt:
                signed = await sign(self._caller, bare)
                body = msgspec.json.encode(State(signed.order, receipt=signed))
                await self._caller.database.registry.put(replace(entry, body=body))

    def _telling_prints(self, receipt: Receipt) -> tuple[str, ...]:
        """The prints without those of ids that the receipt itself names, which would be found for ever."""
        named = msgspec.json.encode((receipt.records, receipt.memories))
        found = self._tracer.find(frozenset(self._state.prints), (named,))
        return tuple(one for one in self._state.prints if one not in found)

    async def _erase_written(self) -> None:
        """What whoever died over this order had written down and not come to: no look would find all of it again."""
        reach = self._reach()
        await reach.look_again((one.session, one.position) for one in self._state.records)
        if reach or self._state.memories:
            await self._refuse_held(reach)
            await self._erase_reached(reach, self._state.records)

    async def _erase_late(self) -> set[Flight]:
        """Erase what calls answer that are under way, and what was made of that. Returns those that took too long."""
        late = set[Flight]()
        for _ in range(_LATE_ROUNDS):
            late |= await calls_after(self._caller, await self._may_repeat())
            if not await self._erase_all():
                break
        return late

    async def _may_repeat(self) -> list[str]:
        """Sessions in which a call may have had in view what is erased: wherever quotations are looked for."""
        reach, project, trail = self._reach(), self._state.order.project, self._state.trail
        found = dict.fromkeys(one.session for one in self._state.records)
        for session in list(found):
            found |= dict.fromkeys(row.session for row in await reach.with_forks(session))
        queries = [SessionQuery(project=project, user=user) for user in trail.users]
        for query in [*queries, *([SessionQuery(project=project)] if trail.shared else [])]:
            found |= {row.session: None async for row in reach.sessions(query) if row.lease_until is not None}
        return list(found)

    async def _erase_all(self) -> bool:
        """Erase until nothing is found any more. Whether anything was."""
        found = False
        while True:
            reach = self._reach()
            await reach.look()
            self._names.know(reach.names.blocks)
            if not reach:
                return found
            found = True
            await self._refuse_held(reach)
            await self._write_down(reach)
            await self._erase_reached(reach)

    async def _erase_reached(self, reach: Reach, before: Sequence[Reached] = ()) -> None:
        for session, records in reach.records.items():
            await self._redact(await reach.row(session), sorted(records))
        await self._remove_memories(reach, before)

    def _reach(self) -> Reach:
        known = [(one.session, one.position) for one in self._state.records]
        state = self._state
        reach = Reach(self._caller, state.order, self._tracer, known, state.trail, state.memories)
        reach.names.know(self._names.blocks)
        reach.learned = self._learned
        return reach

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
        for name in self._names.names:
            prints |= dict.fromkeys(self._tracer.prints_of(name.rpartition("/")[2]))
        for session, found in reach.records.items():
            async for row in self._stored(session, found):
                original = row.payload_digest or payload_digest(row.payload)
                records.add(Reached(session, row.position, original.hex()))
                said = texts_of(found[row.position].event)
                blobs = [await self._caller.database.blobs.get(name) for name in blobs_named(row.payload)]
                said += [blob.decode(errors="ignore") for blob in blobs]
                for text in said:
                    made = self._tracer.prints_of(text) or (self._tracer.framed_print(text),)
                    prints |= dict.fromkeys(filter(None, made))
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
        caller, order = self._caller, self._names.order()
        by = replace(caller, actor=self._names.renames.user(caller.actor))
        summary = replace(row.summary, title="") if row.summary.title else None
        for start in range(0, len(positions), _PAGE):
            some, tries = positions[start : start + _PAGE], 0
            while True:
                head, events = await sealed(caller, row.session, some, order, self._names.renames)
                now, renames = caller.clock.now(), self._names.renames
                write = Write(row.session, events, now, by.actor, head, summary=summary, snapshot=_NO_SNAPSHOT)
                try:
                    await commit(by, replace(write, renames=renames))
                    break
                except StoreCorrupt:  # perhaps under what is a cache, and must not stand in the way
                    if tries or not await drop_unreadable(caller.database):
                        raise
                    tries += 1
                except Conflict:  # somebody wrote meanwhile, perhaps into one of these records
                    tries += 1
                    if tries == _TRIES:
                        raise
        self._count({"records": len(positions)})

    async def _remove_memories(self, reach: Reach, before: Sequence[Reached]) -> None:
        """Out of the index at once: whoever reads the journals for it may be another process, or not there.

        Only what was seen goes, not whatever has these ids: of a version that was written since, the record must be
        found, and the index is where it is looked for.
        """
        memories, project = self._caller.database.memories, self._state.order.project
        positions = {session: set(records) for session, records in reach.records.items()}
        for one in (*reach.versions, *before):
            positions.setdefault(one.session, set()).add(one.position)
        for session, some in positions.items():
            selector = MemorySelector(project=project, session=session, positions=tuple(sorted(some)))
            self._count((await memories.remove(selector)).rows)
        if self._state.memories:
            await self._move_heads()

    async def _move_heads(self) -> None:
        """Whoever had one of these memories in hand, and is about to write another version of it into the journal of a
        store, finds a newer head there, and has to look again."""
        caller, project = self._caller, self._state.order.project
        by = replace(caller, actor=self._names.renames.user(caller.actor))
        for store in await store_names(caller):
            session = journal_of(project, store)
            with suppress(NotFound):  # nobody has written into this store
                row = await caller.database.views.session(session)
                if owner_of(row.summary.project) == project:
                    await commit(by, Write(session, (SessionAnnotated(by=by.actor),), caller.clock.now(), by.actor))

    async def _empty_answers(self) -> None:
        """Answers kept for retried requests say what was said: those that do are emptied, and still refuse a reuse.

        A request that is being answered may have read it before: whatever it is answered with is not kept.
        """
        project, emptied = self._state.order.project, 0
        # The journals of stores are named in answers about anything that people keep there.
        shared = {journal_of(project, store) for store in await store_names(self._caller)}
        ids = {*(one.session for one in self._state.records), *self._state.memories} - shared
        named = frozenset(one.encode() for one in ids)
        for entry in await entries_of(self._caller, ANSWER_KIND, project=project):
            emptied += await self._empty_answer(entry, named)
        self._count({"kept answers": emptied})

    async def _empty_answer(self, entry: Entry, named: Collection[bytes]) -> bool:
        """Whether an answer was there, and was emptied."""
        registry = self._caller.database.registry
        while True:
            claim = msgspec.json.decode(entry.body, type=dict[str, Any])
            answered, said = bool(claim.get("status")), _decoded(claim.get("body", ""))
            if answered and not self._says(said, named):
                return False
            body = msgspec.json.encode({**claim, "body": "", "too_large": True})
            try:
                await registry.put(
                    replace(entry, body=body, updated_at=self._caller.clock.now()), expect=entry.revision
                )
                return answered
            except Conflict:  # it was answered just now, or its claim was renewed
                try:
                    entry = await registry.get(ANSWER_KIND, entry.id)
                except NotFound:
                    return False

    def _says(self, said: bytes, named: Collection[bytes]) -> bool:
        prints = frozenset(one for one in self._state.prints if not is_framed(one))
        return any(name in said for name in named) or bool(self._tracer.find(prints, (said,))) or self._is_named(said)

    def _is_named(self, said: bytes) -> bool:
        user = self._names.user
        return bool(user) and re.search(rb"(?<!\w)%s(?!\w)" % re.escape(user.encode()), said) is not None

    async def _remove_echoes(self) -> None:
        """What a wire format keeps beside a session that is erased whole: its instructions, its metadata."""
        order, removed = self._state.order, 0
        if order.what not in ("session", "user"):
            return
        sessions = {one.session for one in self._state.records} if order.what == "user" else {order.name}
        for kind in ECHO_KINDS:
            for entry in await entries_of(self._caller, kind, project=order.project):
                if msgspec.json.decode(entry.body, type=_Echo).session in sessions:
                    await self._caller.database.registry.remove(kind, entry.id)
                    removed += 1
        self._count({"responses and conversations": removed})

    async def _drop_claims(self) -> None:
        """The id of a memory may name somebody, also of one that was claimed and never written."""
        caller, order, names = self._caller, self._state.order, self._names
        gone, sessions = {*self._state.memories, *names.blocks}, {order.name} if order.what == "session" else set[str]()
        if names.user:
            theirs = SessionQuery(project=order.project, user=names.of(names.user))
            sessions = {row.session async for row in self._reach().sessions(theirs)}
        for entry in await entries_of(caller, CLAIM_KIND, project=order.project):
            memory, session = claimed_by(entry)
            if memory in gone or session in sessions or names.is_theirs(memory):
                with suppress(NotFound):  # whoever carries out the same order was faster
                    await caller.database.registry.remove(CLAIM_KIND, entry.id)

    def _count(self, rows: dict[str, int]) -> None:
        removed = dict(self._state.removed)
        for where, number in rows.items():
            if number:
                removed[where] = removed.get(where, 0) + number
        self._state = replace(self._state, removed=removed)

    async def _save(self, state: State) -> None:
        self._state = await self._kept.save(state)
        self._joined = self._joined or len(self._state.records) > len(state.records)


def _decoded(body: Any) -> bytes:
    try:
        return base64.b64decode(body)
    except (TypeError, binascii.Error):
        return str(body).encode()
