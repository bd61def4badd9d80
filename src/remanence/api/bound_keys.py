"""One `Idempotency-Key`, one operation: a key that came with one is refused with every other of its project.

What a key answers for is kept where its answer is: in a journal, beside a response, as a kept answer. Those places do
not know each other, so a key that a program uses again by mistake, on another route, would pass for a new one. Here a
key is bound to the method and path it first came with, before the route does anything, by one entry of the registry.
Whoever is first has it; the same request again only reads.

What is said to a session has its keys in the journal of that session, so that each session may count from one: those
routes (`_OF_A_SESSION`) bind nothing here.
"""

from __future__ import annotations

import contextlib

import msgspec
from fastapi import Request

from remanence.commands.caller import Caller
from remanence.content import digest_of
from remanence.errors import Conflict, KeyReused, NotFound
from remanence.ports import Entry, EntryQuery

__all__ = ["BOUND_S", "KIND", "bind_key", "path_of"]

KIND = "bound_key"
BOUND_S = 86_400
KEY_CHARS_MAX = 255
_OF_A_SESSION = ("/events", "/send")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_FORGETS = "0"
"""Every sixteenth new key, by the first digit of its name, has some of the oldest forgotten."""
_FORGOTTEN_AT_ONCE = 64
_MICROS = 1_000_000


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
    if first != operation:
        raise KeyReused(
            f"The idempotency key was used before with another request, {first}. Nothing of this one was done. Send it "
            "again under a key of its own."
        )


def path_of(request: Request) -> str:
    """The path of a request, the same under both mounts and wherever a proxy puts them."""
    under = request.scope.get("root_path", "").rstrip("/")
    return request.scope["path"].removeprefix(under).removeprefix("/openai")


async def _first_with(caller: Caller, name: str, operation: str) -> str:
    """The operation that has the key: this one, when it was free."""
    registry, now = caller.database.registry, caller.clock.now()
    while True:
        revision = 0
        with contextlib.suppress(NotFound):
            known = await registry.get(KIND, name)
            if now - known.updated_at <= BOUND_S * _MICROS:
                return msgspec.json.decode(known.body, type=str)
            revision = known.revision
        entry = Entry(KIND, caller.project, name, now, now, msgspec.json.encode(operation))
        try:
            await registry.put(entry, expect=revision)
        except Conflict:
            continue  # somebody was faster; look again
        if name.startswith(_FORGETS):
            await _forget_old(caller)
        return operation


async def _forget_old(caller: Caller) -> None:
    """Let go of the oldest whose time is over: more than came since the last time."""
    before = caller.clock.now() - BOUND_S * _MICROS
    for entry in await caller.database.registry.list(EntryQuery(KIND, caller.project, limit=_FORGOTTEN_AT_ONCE)):
        if entry.updated_at < before:
            with contextlib.suppress(NotFound):
                await caller.database.registry.remove(KIND, entry.id)
