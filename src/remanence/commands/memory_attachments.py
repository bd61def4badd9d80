"""Which memory stores agents and sessions are attached to, by whatever said so; and attaching by a grant.

Two things attach: a version of an agent names a store (`memory=`, or its metadata over the Agents API), and a grant
speaks of an agent or a session. The grant wins, from the next call on. Only where the version says that there is a
memory at all has an agent the tools for it, so a grant to one that has none comes to nothing, and is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from remanence.commands.caller import Caller, state_of
from remanence.commands.memory_stores import DEFAULT_STORE, check_store, grant, list_grants
from remanence.commands.versions import newest
from remanence.core.memory.grants import SCOPES
from remanence.errors import InvalidInput, NotFound
from remanence.ports import Version
from remanence.spec import AgentSpec, MemoryScope, MemoryUse

__all__ = ["RIGHTS", "Access", "Attachment", "attach_by_grant", "attachments", "spec_attached"]

Access = Literal["write", "read", "off"]
RIGHTS: Final[dict[Access, tuple[tuple[MemoryScope, ...], tuple[MemoryScope, ...]]]] = {
    "write": (SCOPES, MemoryUse().writes),
    "read": (SCOPES, ()),
    "off": ((), ()),
}
"""What each comes to: the scopes it reads and those it writes. A grant can say it more finely."""


class Attachment(msgspec.Struct, frozen=True):
    """What `to` (`agent:NAME` or `session:ID`) may do with a store from its next call on.

    `by`: who granted it, or `version`, when the agent's newest version says so. `at` in microseconds since 1970.
    """

    store: str
    to: str
    reads: tuple[MemoryScope, ...]
    writes: tuple[MemoryScope, ...]
    by: str
    at: int


async def attachments(caller: Caller, *, store: str | None = None, to: str | None = None) -> list[Attachment]:
    """Every attachment of the project by store, those that were taken away (no scope at all), too."""
    found: dict[tuple[str, str], Attachment] = {}
    by_agent: dict[str, list[Version]] = {}
    for version in await caller.database.specs.versions(caller.project):
        by_agent.setdefault(version.agent, []).append(version)
    for agent, versions in by_agent.items():
        last = newest(versions)
        use, whose = last.spec.memory, f"agent:{agent}"
        if use is not None:
            found[use.store, whose] = Attachment(use.store, whose, use.reads, use.writes, "version", last.at)
    for one in await list_grants(caller):
        now = one.changes[-1]
        found[one.store, one.to] = Attachment(one.store, one.to, now.reads, now.writes, now.by, now.at)
    return [found[key] for key in sorted(found) if store in (None, key[0]) and to in (None, key[1])]


async def attach_by_grant(
    caller: Caller, to: str, access: Access, store: str | None, *, use: MemoryUse | None
) -> Sequence[str]:
    """Let the grants say what is asked for, as far as they and the version (`use`) do not already. Returns the stores.

    Without `store`: the one the version names, and to detach every store. Raises InvalidInput, NotFound.
    """
    reads, writes = RIGHTS[access]
    said = {one.store: one.changes[-1] for one in await list_grants(caller, to=to)}
    named = [use.store] if use is not None else []
    if store is not None:
        stores = [store]
    elif access == "off":
        stores = list(dict.fromkeys([*named, *(name for name in said if said[name].reads or said[name].writes)]))
    else:
        stores = named or [DEFAULT_STORE]
    for name in stores:
        await check_store(caller, name)
    for name in stores:
        standing = said.get(name)
        if standing is not None:
            already = _same(standing.reads, reads) and _same(standing.writes, writes)
        else:
            already = use is not None and use.store == name and _same(use.reads, reads) and _same(use.writes, writes)
        if not already:
            await grant(caller, name, to, reads=reads, writes=writes)
    return stores


def _same(some: Sequence[MemoryScope], others: Sequence[MemoryScope]) -> bool:
    return set(some) == set(others)


async def spec_attached(caller: Caller, to: str) -> AgentSpec:
    """The version that `to` has now: the newest of an agent, the pinned one of a session. NotFound, InvalidInput."""
    kind, _, name = to.partition(":")
    if kind == "session" and name:
        s = await state_of(caller, name)
        if s.project != caller.project:
            raise NotFound(f"There is no session {name!r}.")  # of another project: as if it were not there
        return await caller.database.specs.get(s.version)
    if kind != "agent" or not name:
        raise InvalidInput(f"{to!r} is nobody: write agent:NAME or session:ID. Nothing was changed.", param="to")
    versions = await caller.database.specs.versions(caller.project, name)
    if not versions:
        raise NotFound(f"There is no agent {name!r} in project {caller.project}. Nothing was changed.")
    return newest(versions).spec
