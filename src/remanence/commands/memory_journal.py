"""The journal of a memory store: where the changes are facts that no agent made in a session of its own.

It has no worker. Whoever writes opens it when it is not there, and lays a snapshot down now and then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from remanence.commands.caller import Caller, commit, state_in, state_loaded
from remanence.commands.given import Key, bound, said_under
from remanence.commands.sessions import Opening, open_session
from remanence.core.memory.grants import Subject
from remanence.core.memory.journal import STORE_AGENT, journal_of, tenant_of
from remanence.core.memory.projection import changes_of
from remanence.core.session import evolve
from remanence.core.snapshots import SNAPSHOT_EVERY_RECORDS, encode_snapshot
from remanence.errors import Conflict, KeyReused, NotFound
from remanence.events import Event, Recorded
from remanence.ports import Appended, Write

__all__ = ["journaled", "under"]

_TRIES: Final = 8


async def journaled(
    caller: Caller, store: str, make: Callable[[], Awaitable[Event]], key: Key | None = None
) -> Appended:
    """Append to a store's journal what `make` says, which looks again each time somebody was faster.

    Under a key once: what was appended under it before is the answer. Raises KeyReused, Conflict.
    """
    session, once = journal_of(caller.project, store), bound(caller, key) if key else None
    if key is not None and (before := await under(caller, store, key)) is not None:
        return await _indexed(caller, session, before)
    for _ in range(_TRIES):
        head = await _head(caller, session)
        record = Recorded(session, head + 1, caller.clock.now(), 0, caller.actor, await make())
        try:
            snapshot = await _snapshot(caller, record)
            write = Write(session, (record.event,), record.at, caller.actor, expect=head, snapshot=snapshot)
            if once is not None:
                write = replace(write, key=once.name, key_digest=once.digest)
            appended = await commit(caller, write)
        except KeyReused:
            raise
        except Conflict:
            continue
        return await _indexed(caller, session, appended)
    raise Conflict(f"Store {store} changed {_TRIES} times while you wrote; nothing was written. Try again.")


async def _indexed(caller: Caller, session: str, appended: Appended) -> Appended:
    """Whoever asks next shall find it. The projection reads the same records again, which changes nothing."""
    subject = Subject(caller.project, STORE_AGENT.name, session)
    changes = [change for r in appended.records for change in changes_of(r, subject, home=None, tool="")]
    await caller.database.memories.apply(changes)
    return appended


async def under(caller: Caller, store: str, key: Key) -> Appended | None:
    """What was journaled under a key, if it was. Raises KeyReused when it came with another request."""
    session = journal_of(caller.project, store)
    await _head(caller, session)
    return await said_under(caller, session, key)


async def _snapshot(caller: Caller, record: Recorded) -> bytes | None:
    """The journal with one more record, when so much was kept that whoever reads it should begin here.

    Elsewhere that is a worker's to see to, and this journal has none.
    """
    store, session = caller.database.store, record.session
    loaded = await store.load(session)
    known = state_loaded(loaded, session)
    if known is not None and len(loaded.records) < SNAPSHOT_EVERY_RECORDS:
        return None
    s = known or await state_in(store, session)  # none that can be read: something was erased
    return encode_snapshot(evolve(s, record)) if s.head == record.position - 1 else None


async def _head(caller: Caller, session: str) -> int:
    """The newest position of a store's journal, which is opened when it is not there.

    Raises Conflict when another project has a session of that id: what is kept here is not for its eyes.
    """
    beside = replace(caller, project=tenant_of(caller.project))
    try:
        row = await caller.database.views.session(session)
    except NotFound:
        with suppress(Conflict):  # somebody else opened it just now
            await open_session(beside, STORE_AGENT, Opening(title="What people keep", session=session))
        row = await caller.database.views.session(session)
    if row.summary.project != beside.project:
        raise Conflict(
            f"Session {session} should be the journal of this memory store, and is one of another project. Nothing was "
            "written; whoever looks after the database should remove that session."
        )
    return row.head
