"""Who calls, and through which doors: the first argument of every verb."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from remanence.core.session import evolve, fold
from remanence.core.snapshots import decode_snapshot
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput, KeyReused, StoreCorrupt, TooLarge
from remanence.events import CancelAsked, Recorded, Redacted, SessionDeleted
from remanence.ports import Appended, Clock, Database, Live, Loaded, Store, Write
from remanence.stores.unreadable import note_unreadable
from remanence.tools.memory_following import Follow

__all__ = [
    "NOWHERE",
    "Bound",
    "SLASH",
    "Caller",
    "States",
    "body_digest",
    "check_name",
    "check_new_session",
    "ids_in_path",
    "check_size",
    "check_within",
    "commit",
    "in_line",
    "kept_under",
    "state_in",
    "state_loaded",
    "state_of",
]

INPUT_BYTES_MAX = 4 * 1024 * 1024
_NAME_MAX = 200
_SEEN_MAX = 1_000
_SINCE_MAX = 100
SLASH = "\x1f"
"""What stands for a `/` in an id while it travels as a part of a path: no id can hold it."""
NOWHERE = -1
"""A position no session is at: a write that expects it only asks what its idempotency key stands for."""


class Caller(msgspec.Struct, frozen=True):
    """`actor` is journaled with every fact (a person by name, `key:...` for an API key); `project` is the tenant."""

    database: Database
    live: Live
    clock: Clock
    make_id: Callable[[str], str]
    actor: str = "local"
    project: str = "default"
    input_bytes_max: int = INPUT_BYTES_MAX
    settle: Callable[[], Awaitable[None]] | None = None
    """Brings the index of the memory up to what this process journaled. None: whoever asks may be a little early."""
    states: States | None = None
    """States as this process last saw them. None: every look begins at the newest snapshot."""
    follow: Follow | None = None
    """Brings the index of the memory up to the journals, whoever wrote them. None: whoever runs projections does."""


async def commit(caller: Caller, write: Write) -> Appended:
    """Append, then tell whoever follows the session in this process."""
    caller.live.foresee(write)
    appended = await caller.database.store.append(write)
    if not appended.replayed:
        caller.live.publish(write.session, *appended.records)
        if write.wake:
            await asyncio.sleep(0)  # whoever drives the session here goes first,
            await asyncio.sleep(0)  # and the call that it has begun,
            await asyncio.sleep(0)  # and the model that this asks
    return appended


class Bound(NamedTuple):
    """An idempotency key as the store has it, and the digest of the request that it is bound to."""

    name: str
    digest: str


async def kept_under(caller: Caller, session: str, *, key: str, digest: str) -> Appended | None:
    """What was appended under an idempotency key, wherever that was, if anything was. `session` is any that exists.

    Raises KeyReused when the key came with another request.
    """
    event = CancelAsked(caller.actor)  # which is never appended
    asks = Write(session, (event,), caller.clock.now(), caller.actor, expect=NOWHERE, key=key, key_digest=digest)
    try:
        return await caller.database.store.append(asks)
    except KeyReused:
        raise
    except Conflict:
        return None


def in_line(caller: Caller, session: str) -> AbstractAsyncContextManager[object]:
    """Those of this process who read a session and write what follows from it, one after another: at once, one of them
    would succeed each time. Who writes from elsewhere does not stand in this line, so `Conflict` can still come."""
    return caller.states.line(session) if caller.states is not None else nullcontext()


async def state_of(caller: Caller, session: str) -> Session:
    """The session as it stands. Raises NotFound."""
    try:
        if caller.states is not None:
            return await caller.states.look(caller.database.store, session)
        return await state_in(caller.database.store, session)
    except StoreCorrupt as error:
        await note_unreadable(caller.database, session, error, at=caller.clock.now())
        raise


def state_loaded(loaded: Loaded, session: str) -> Session | None:
    """The state of what was loaded; None when its snapshot cannot be read."""
    s = decode_snapshot(loaded.snapshot, session, loaded.snapshot_position)
    if s is None and loaded.snapshot_position:
        return None
    return fold(s or Session(session), loaded.records)


async def state_in(store: Store, session: str, *, upto: int | None = None) -> Session:
    """The same, of a store at hand, and as it stood at a position: what that takes does not grow with the session."""
    return (await _folded(store, session, upto=upto))[0]


async def _folded(store: Store, session: str, *, upto: int | None = None) -> tuple[Session, Sequence[Recorded]]:
    """A session as it stood at a position, and the records it was folded from, as far as they were read."""
    loaded = await store.load(session, upto=upto)
    s = decode_snapshot(loaded.snapshot, session, loaded.snapshot_position)
    if s is None:
        s = Session(session)
        if loaded.snapshot_position:  # damaged, or in a shape that this release cannot read
            s = fold(s, await store.read(session, limit=loaded.snapshot_position))
    return fold(s, loaded.records), loaded.records


class States:
    """States as this process last saw them, so that a look costs what was journaled since and not the whole past.

    A state is a cache of what the journal says. `look` believes none unseen: the record it ends with is read again with
    those after it, and is the same by its digest, which covers all before it. `guess` reads nothing: what it answers
    may be old, so it is only for a write that expects the head of the guess, which the store refuses when it was wrong.
    What was erased may live on in a state, so it is forgotten as soon as a record says that something was.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[Session, bytes]] = OrderedDict()
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def line(self, session: str) -> asyncio.Lock:
        """Held by whoever of this process is at it; see `in_line`. It is there for as long as somebody wants it."""
        line = self._lines.get(session)
        if line is None:
            line = self._lines[session] = asyncio.Lock()
        return line

    def heard(self, record: Recorded) -> None:
        """A record was committed in this process: a state that is known goes on with it."""
        known = self._seen.get(record.session)
        if known is None or record.position <= known[0].head:
            return
        gap = record.position > known[0].head + 1 or not record.digest
        if gap or isinstance(record.event, Redacted | SessionDeleted):
            del self._seen[record.session]
        else:
            self._seen[record.session] = evolve(known[0], record), record.digest

    def guess(self, session: str) -> Session | None:
        """The session as this process saw it last, if it did."""
        known = self._seen.get(session)
        return known[0] if known is not None else None

    def forget(self, session: str) -> None:
        """What is known of a session was folded from something that is not so."""
        self._seen.pop(session, None)

    async def look(self, store: Store, session: str) -> Session:
        """The session as it stands. Raises NotFound."""
        known = self._seen.pop(session, None)
        if known is not None:
            s, digest = known
            records = await store.read(session, after=s.head - 1, limit=_SINCE_MAX)
            if _goes_on(s, digest, records):
                return self._keep(fold(s, records[1:]), records)
        return self._keep(*await _folded(store, session))

    def _keep(self, s: Session, records: Sequence[Recorded]) -> Session:
        if records and records[-1].digest and not s.deleted:
            self._seen[s.id] = s, records[-1].digest
            if len(self._seen) > _SEEN_MAX:
                self._seen.popitem(last=False)
        return s


def _goes_on(s: Session, digest: bytes, records: Sequence[Recorded]) -> bool:
    """Whether these begin with the record that the state ends with, and are all that followed, nothing erased."""
    if not records or len(records) == _SINCE_MAX or (records[0].position, records[0].digest) != (s.head, digest):
        return False
    return not any(isinstance(record.event, Redacted) for record in records)


def body_digest(body: object) -> str:
    """What an idempotency key is bound to: the digest of the request's body. Raises InvalidInput."""
    try:
        encoded = msgspec.json.encode(body, order="sorted")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"This cannot be written as JSON: {error}. Nothing was written.") from None
    return hashlib.sha256(encoded).hexdigest()


def check_size(caller: Caller, size: int) -> None:
    """Refuse an input over the limit."""
    check_within(size, caller.input_bytes_max)


def check_within(size: int, bytes_max: int) -> None:
    """The same under a limit that is known before anything is opened."""
    if size > bytes_max:
        raise TooLarge(
            f"The input is {size:,} bytes; at most {bytes_max:,} are accepted. Nothing was written. "
            "Send it in parts, store it as a file and refer to it, or raise `input_bytes_max` in the settings.",
            param="input",
        ).because("too_large", size=size, most=bytes_max)


def check_new_session(session: str) -> None:
    """Refuse an id that no address could name: it would be out of reach over HTTP and in the console."""
    check_name("session", session)
    if "/" in session or session in (".", "..") or session.endswith(".json"):
        raise InvalidInput(
            f"session: {session[:40]!r} cannot stand in an address, where `/` parts, `.` and `..` mean places, and "
            "`.json` is a form of the page. Nothing was written; choose another id.",
            param="session",
        ).because("bad_session_id", session=session[:40])


def ids_in_path(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a path, with the `/` of ids in its place again."""
    return {key: value.replace(SLASH, "/") if isinstance(value, str) else value for key, value in params.items()}


def check_name(what: str, name: str) -> None:
    """Refuse names that no list could show."""
    if not name or len(name) > _NAME_MAX or not name.isprintable():
        raise InvalidInput(
            f"{what} must be 1 to {_NAME_MAX} printable characters, not {name[:40]!r}. Nothing was written.", param=what
        ).because("bad_name", most=_NAME_MAX, name=name[:40])
