"""One `Idempotency-Key`, one operation: a key that came with one is refused with every other of its project.

What a key answers for is kept where its answer is: in a journal, beside a response, as a kept answer. Those places do
not know each other, so a key that a program uses again by mistake, on another route, would pass for a new one. Here a
key is bound to the method and path it first came with, before the route does anything, by one entry of the registry.
Whoever is first has it.

A request that is refused (4xx) before it did anything frees its key again: whoever mends the request, or waits until
nothing stands against it, may send it under the same one, and as whatever it should have been. What failed otherwise
may have happened in part, so the key stays with its operation, where the same request is made again under it. It stays
there too when the same request came a second time meanwhile, since that one may have succeeded.

The entry is a write of its own. It cannot ride in the transaction of what the request writes: some requests write to a
journal, some to the registry, some to both one after another, and two different ones under one key at the same moment
would each find it free and both happen. (`Write.entries` are set whatever stands there. Were they conditional, the
routes that append would still need this for those that do not, and the claim would be told in two ways, not one.)

What is said to a session has its keys in the journal of that session, so that each session may count from one: those
routes (`_OF_A_SESSION`) bind nothing here.
"""

from __future__ import annotations

import contextlib

import msgspec
import structlog
from fastapi import Request
from msgspec.structs import replace
from starlette.types import Scope

from remanence.commands.caller import Caller
from remanence.content import digest_of
from remanence.errors import Conflict, KeyReused, NotFound, RemanenceError
from remanence.ports import Entry, EntryQuery, Registry

__all__ = ["BOUND_S", "KIND", "bind_key", "free_key", "is_begun_once", "keep_key", "path_of"]

log = structlog.get_logger("remanence.http")

KIND = "bound_key"
BOUND_S = 86_400
KEY_CHARS_MAX = 255
_OF_A_SESSION = ("/events", "/send")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_FORGETS = "0"
"""Every sixteenth new key, by the first digit of its name, has some of the oldest forgotten."""
_FORGOTTEN_AT_ONCE = 64
_MICROS = 1_000_000
_FREE = msgspec.json.encode("")


class _Bound(msgspec.Struct, frozen=True):
    """What a request bound: it may free that, for as long as nobody else came with it."""

    registry: Registry
    entry: Entry


async def bind_key(caller: Caller, request: Request) -> None:
    """Bind the key of a request, if it has one, to what is asked. Raises KeyReused when it came with something else."""
    key = request.headers.get("idempotency-key")
    path = path_of(request)
    if key is None or request.method in _READING or path.endswith(_OF_A_SESSION):
        return
    if not 0 < len(key) <= KEY_CHARS_MAX:
        return  # the route refuses it
    operation = f"{request.method} {path}"
    name = digest_of(caller.project.encode(), key.encode())
    first = await _first_with(caller, name, operation)
    if isinstance(first, Entry):
        request.state.bound_key = _Bound(caller.database.registry, first)
    elif first != operation:
        raise KeyReused(
            f"The idempotency key was used before with another request, {first}. Nothing of this one was done. Send it "
            "again under a key of its own."
        )


def keep_key(request: Request) -> None:
    """Something was done: whatever becomes of the request now, its key stays with it."""
    request.state.bound_key = None
    request.state.begun = True


def is_begun_once(scope: Scope) -> bool:
    """Whether something was done for a request without a key: sent again, it would be done again."""
    begun = scope.get("state", {}).get("begun", False)
    return begun and not any(name == b"idempotency-key" for name, _ in scope["headers"])


async def free_key(request: Request) -> None:
    """The request was refused and nothing of it was done: its key is free again, if it was this request that bound it
    and nobody came with it since."""
    bound: _Bound | None = getattr(request.state, "bound_key", None)
    if bound is None:
        return
    request.state.bound_key = None
    try:
        await bound.registry.put(replace(bound.entry, body=_FREE), expect=bound.entry.revision)
    except Conflict:
        pass  # the same request came again, and may have succeeded
    except RemanenceError as error:
        log.warning("the key of a refused request stays bound to it", error=error.message)


def path_of(request: Request) -> str:
    """The path of a request, the same under both mounts and wherever a proxy puts them."""
    under = request.scope.get("root_path", "").rstrip("/")
    return request.scope["path"].removeprefix(under).removeprefix("/openai")


async def _first_with(caller: Caller, name: str, operation: str) -> Entry | str:
    """The entry, when the key was free and is this operation's now; else the operation that has it."""
    registry, now = caller.database.registry, caller.clock.now()
    while True:
        try:
            known = await registry.get(KIND, name)
        except NotFound:
            known = None
        entry, first = Entry(KIND, caller.project, name, now, now, msgspec.json.encode(operation)), None
        if known is not None and known.body != _FREE and now - known.updated_at <= BOUND_S * _MICROS:
            first = msgspec.json.decode(known.body, type=str)
            if first != operation:
                return first
            entry = known  # written once more as it is: who bound it sees that, and does not free it any more
        try:
            made = await registry.put(entry, expect=known.revision if known else 0)
        except Conflict:
            continue  # somebody was faster; look again
        if first is None and name.startswith(_FORGETS):
            await _forget_old(caller)
        return first or made


async def _forget_old(caller: Caller) -> None:
    """Let go of the oldest whose time is over: more than came since the last time."""
    before = caller.clock.now() - BOUND_S * _MICROS
    for entry in await caller.database.registry.list(EntryQuery(KIND, caller.project, limit=_FORGOTTEN_AT_ONCE)):
        if entry.updated_at < before:
            with contextlib.suppress(NotFound):
                await caller.database.registry.remove(KIND, entry.id)
