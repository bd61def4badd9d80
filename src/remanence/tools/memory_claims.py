"""Who writes the next version of a memory: of all who saw the same version, the first; the others are told.

Versions are facts in the journals of many sessions, which know nothing of each other, and a version counts once it is
indexed. So whoever is about to write one first claims its number in the registry. A claim is bound to its writer (an
effect key, which stays the same when the call runs again after a crash), and lapses when no such version came of it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from remanence.errors import Conflict, NotFound
from remanence.ports import Entry, Registry
from remanence.tools.memory_access import registry_id

__all__ = ["CLAIM_KIND", "LAPSE_S", "claim", "drop_claims"]

CLAIM_KIND: Final = "memory_version"
LAPSE_S: Final = 60.0
"""After which a claim without its version is taken to be nobody's: its writer died, or its call was cancelled."""


class _Claim(msgspec.Struct, frozen=True):
    """The newest version somebody was about to write, and who."""

    version: int
    by: str


async def claim(registry: Registry, project: str, numbered: tuple[str, int], *, by: str, now: int) -> bool:
    """Whether `by` may write this version of a memory (`numbered`: its id and the version). `now` in microseconds."""
    memory, version = numbered
    identity, wanted = registry_id(project, memory), _Claim(version, by)
    fresh = Entry(CLAIM_KIND, project, identity, now, now, msgspec.json.encode(wanted))
    try:
        entry = await registry.get(CLAIM_KIND, identity)
    except NotFound:
        return await _put(registry, fresh, 0)
    held = msgspec.json.decode(entry.body, type=_Claim)
    if held == wanted:
        return True
    if held.version >= version and held.by != by and now - entry.updated_at < LAPSE_S * 1_000_000:
        return False
    return await _put(registry, replace(fresh, at=entry.at), entry.revision)


async def drop_claims(registry: Registry, project: str, memories: tuple[str, ...]) -> None:
    """Forget the claims to memories that are erased: an id may name somebody."""
    for memory in memories:
        try:
            await registry.remove(CLAIM_KIND, registry_id(project, memory))
        except NotFound:
            continue  # it was never corrected


async def _put(registry: Registry, entry: Entry, expect: int) -> bool:
    try:
        await registry.put(entry, expect=expect)
    except Conflict:
        return False  # somebody else was faster, this moment
    return True
