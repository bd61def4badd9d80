"""Who it was: names in what is left of an erased record, and the seal that stands for what is left.

A skeleton keeps ids, because the journal has to fold. Some ids name somebody: the user of a session, whoever approved,
a memory block that an agent called after a person. Where such a name is erased, a *pseudonym* takes its place in the
payload and in the header, everywhere the same one, so that what belongs together still does.

A record's digest covers its header, so it can no longer be made again from a header whose actor was replaced. Therefore
the `Redacted` that announces it carries a *seal*: a digest over the digest of the record before, the record's own, and
what is left of it, payload and header. The seal is part of a record of the chain, so what is left of an erased record
can be changed no more than any other.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.events.codec import chain_digest, payload_digest
from remanence.events.kinds import Event
from remanence.events.memories import MemoryKept

__all__ = ["Renames", "renamed", "seal_of"]

_PEOPLE = ("user", "by")
_GROUPS = ("approved_by", "approvers")
_MEMORIES = ("memory", "supersedes", "follows")
_GONE = "[redacted]"


class Renames(msgspec.Struct, frozen=True):
    """Names and the pseudonyms that take their place: users (and people who acted under such a name), memories."""

    users: dict[str, str] = {}
    memories: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self.users or self.memories)

    def user(self, name: str) -> str:
        """What a user, an actor, an approver is called."""
        return self.users.get(name, name)

    def scope(self, scope: str) -> str:
        """`user:NAME`, and `user@PROJECT:NAME` as budgets say it; every other scope is as it was."""
        kind, _, name = scope.partition(":")
        return f"{kind}:{self.user(name)}" if kind == "user" or kind.startswith("user@") else scope

    def memory(self, name: str | None) -> str | None:
        """The id of a memory."""
        return None if name is None else self.memories.get(name, name)


def renamed(event: Event, renames: Renames) -> Event:
    """The event with pseudonyms in the place of names. What people said is not looked at: a skeleton has none of it."""
    changes: dict[str, Any] = {}
    for name in event.__struct_fields__:
        before = getattr(event, name)
        if name in _PEOPLE:
            changes[name] = renames.user(before)
        elif name in _GROUPS:
            changes[name] = tuple(map(renames.user, before))
        elif name == "scope":
            changes[name] = renames.scope(before)
        elif name in _MEMORIES:
            changes[name] = renames.memory(before)
        elif name == "items":
            changes[name] = tuple(
                replace(item, memory=renames.memories.get(item.memory, item.memory)) for item in before
            )
    if isinstance(event, MemoryKept) and event.name and event.memory in renames.memories:
        changes["name"] = _GONE
    return replace(event, **changes)


def seal_of(chained: bytes, left: bytes, *, position: int, at: int, epoch: int, actor: str) -> str:
    """The seal of an erased record. `chained` is the digest of the record before and its own, 64 bytes, `left` is what
    its payload is now."""
    return chain_digest(chained, payload_digest(left), position=position, at=at, epoch=epoch, actor=actor).hex()
