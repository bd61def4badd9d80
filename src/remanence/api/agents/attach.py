"""Attaching memory stores: agents that a client saved are given a memory, everybody else is granted a store.

An agent that was saved over the Agents API may have no memory at all. Attached, it gets a version whose metadata says
so, for sessions that are opened from then on. Whatever has a memory already, and whatever loses it, is told by a grant,
which holds from the next call on, also in sessions that run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remanence.api.agents.agents import saved_spec
from remanence.api.agents.config import config_of
from remanence.api.agents.mcp import servers_of
from remanence.api.agents.memory import attached
from remanence.commands import saved
from remanence.commands.caller import Caller
from remanence.commands.memory_attachments import RIGHTS, Access, attach_by_grant, spec_attached
from remanence.commands.memory_shapes import AttachedShape
from remanence.commands.memory_stores import check_store
from remanence.commands.saved import SavedAgent
from remanence.errors import InvalidInput, NotFound
from remanence.spec import AgentSpec, spec_digest

__all__ = ["Find", "attach"]

Find = Callable[[str], Awaitable[SavedAgent]]
"""An agent by its id. Raises NotFound."""


async def attach(caller: Caller, find: Find, to: str, access: Access, store: str | None) -> AttachedShape:
    """Let `to` (agent:ID or session:ID) write to a store, only read it, or neither. Raises InvalidInput, NotFound."""
    kind, _, name = to.partition(":")
    before, spec = await _given(caller, find, to, access, store)
    if spec.memory is None and before.memory is None and access != "off":
        raise InvalidInput(
            f"{to} has no memory, so there is nothing to attach a store to. Nothing was changed. "
            + (
                "Give its agent one, and open another session."
                if kind == "session"
                else "It is declared in code or in a file: write memory=True, or `memory = true`, there."
            ),
            param="to",
        )
    stores = await attach_by_grant(caller, to, access, store, use=spec.memory or before.memory)
    reads, writes = RIGHTS[access]
    return AttachedShape(
        name if kind == "agent" else None,
        to,
        access,
        stores[0] if access != "off" else store,
        list(reads),
        list(writes),
        spec_digest(spec),
    )


async def _given(caller: Caller, find: Find, to: str, access: Access, store: str | None) -> tuple[AgentSpec, AgentSpec]:
    """The version before, and the one after: another only for a saved agent that gains or loses its memory by it."""
    kind, _, name = to.partition(":")
    if kind != "agent":
        spec = await spec_attached(caller, to)
        return spec, spec
    try:
        known = await find(name)
    except NotFound:
        spec = await spec_attached(caller, to)
        return spec, spec
    use = known.spec.memory
    gains = use is None and access != "off"
    its_own = use is not None and store in (None, use.store)
    alters = use is not None and its_own and (access == "off" or set(use.writes) != set(RIGHTS[access][1]))
    if known.declared or not (gains or alters):
        return known.spec, known.spec
    if store is not None:
        await check_store(caller, store)
    config = config_of(known.spec)
    named = store or (use.store if use is not None and access != "off" else None)
    metadata = attached(config["metadata"], access, named)
    spec = saved_spec({**config, "metadata": metadata}, known.id, known.revision + 1, servers_of(known.spec))
    return known.spec, (await saved.change_agent(caller, known, spec)).spec
