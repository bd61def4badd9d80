"""Who changes a memory next: of all who saw the same version, the first; the others are told.

Versions are facts in the journals of many sessions, which know nothing of each other, and a version counts once it is
indexed. So whoever is about to write one first claims its number in the registry. A claim is bound to its writer (an
effect key, which stays the same when the call runs again after a crash), and lapses when no such version came of it.

Whoever withdraws a memory claims the same number, though no version will come of it: so a correction and a withdrawal
of one moment meet. Who finds it withdrawn, and writes it again, need not wait for that claim to lapse.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from remanence.errors import Conflict, NotFound
from remanence.ports import Entry, Registry
from remanence.tools.memory_access import registry_id

__all__ = ["CLAIM_KIND", "LAPSE_S", "Step", "claim", "claimed_by"]

CLAIM_KIND: Final = "memory_version"
LAPSE_S: Final = 60.0
"""After which a claim without its version is taken to be nobody's: its writer died, or its call was cancelled."""


class Step(msgspec.Struct, frozen=True):
    """What somebody is about to do to a memory: write this version, or withdraw (`closes`) the one before it.

    `reopens`: the memory was withdrawn when they looked.
    """

    memory: str
    version: int
    closes: bool = False
    reopens: bool = False


class _Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newest version somebody was about to write, or to withdraw the one before, and who."""

    version: int
    by: str
    closes: bool = False


async def claim(registry: Registry, project: str, step: Step, *, by: str, now: int) -> bool:
    """Whether `by` may take this step. `now` in microseconds."""
    identity, wanted = registry_id(project, step.memory), _Claim(step.version, by, step.closes)
    fresh = Entry(CLAIM_KIND, project, identity, now, now, msgspec.json.encode(wanted))
    try:
        entry = await registry.get(CLAIM_KIND, identity)
    except NotFound:
        return await _put(registry, fresh, 0)
    held = msgspec.json.decode(entry.body, type=_Claim)
    if held == wanted:
        return True
    done = held.closes and step.reopens and held.version == step.version
    if held.version >= step.version and held.by != by and not done and now - entry.updated_at < LAPSE_S * 1_000_000:
        return False
    return await _put(registry, replace(fresh, at=entry.at), entry.revision)


def claimed_by(entry: Entry) -> tuple[str, str]:
    """Of a claim as it is kept: the memory, and the session that was about to write it."""
    held = msgspec.json.decode(entry.body, type=_Claim)
    return entry.id.removeprefix(registry_id(entry.project, "")), held.by.partition(":")[0]


async def _put(registry: Registry, entry: Entry, expect: int) -> bool:
    try:
        await registry.put(entry, expect=expect)
    except Conflict:
        return False  # somebody else was faster, this moment
    return True
