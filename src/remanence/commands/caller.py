"""Who calls, and through which doors: the first argument of every verb."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import msgspec

from remanence.core.session import decode_snapshot, fold
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput, KeyReused, TooLarge
from remanence.events import CancelAsked
from remanence.ports import Appended, Clock, Database, Live, Store, Write

__all__ = [
    "NOWHERE",
    "Caller",
    "body_digest",
    "check_name",
    "check_size",
    "commit",
    "kept_under",
    "state_in",
    "state_of",
]

INPUT_BYTES_MAX = 4 * 1024 * 1024
_NAME_MAX = 200
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


async def commit(caller: Caller, write: Write) -> Appended:
    """Append, then tell whoever follows the session in this process."""
    appended = await caller.database.store.append(write)
    if not appended.replayed:
        caller.live.publish(write.session, *appended.records)
    return appended


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


async def state_of(caller: Caller, session: str) -> Session:
    """The session as it stands, folded from its newest snapshot. Raises NotFound."""
    return await state_in(caller.database.store, session)


async def state_in(store: Store, session: str) -> Session:
    """The same, of a store at hand."""
    loaded = await store.load(session)
    s = decode_snapshot(loaded.snapshot) if loaded.snapshot is not None else None
    if s is not None:
        return fold(s, loaded.records)
    if loaded.snapshot_position:
        return fold(Session(session), await store.read(session))
    return fold(Session(session), loaded.records)


def body_digest(body: object) -> str:
    """What an idempotency key is bound to: the digest of the request's body."""
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()


def check_size(caller: Caller, size: int) -> None:
    """Refuse an input over the limit."""
    if size > caller.input_bytes_max:
        raise TooLarge(
            f"The input is {size:,} bytes; at most {caller.input_bytes_max:,} are accepted. Nothing was written. "
            "Send it in parts, store it as a file and refer to it, or raise `input_bytes_max` in the settings.",
            param="input",
        )


def check_name(what: str, name: str) -> None:
    """Refuse names that no list could show."""
    if not name or len(name) > _NAME_MAX or not name.isprintable():
        raise InvalidInput(
            f"{what} must be 1 to {_NAME_MAX} printable characters, not {name[:40]!r}. Nothing was written.", param=what
        )
