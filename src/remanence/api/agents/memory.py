"""Long-term memory over the Agents API, which has no words for it: what some keys of `metadata` say.

* `remanence.memory` of an agent: `write` gives it a memory, `read` one that it only looks into, `off` none, as without
  the key. `remanence.memory.store` names the store. A session whose agent is its own (no `agent_id`) says the same in
  its own metadata.
* `remanence.user` of a session: whose it is. What is said in it is then known in that user's other sessions, and in
  nobody else's; a session without it keeps what is said to itself.

Other keys that begin with `remanence.` are refused, so that none is misspelt in silence. All other metadata means
nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from remanence.commands.memory_attachments import Access
from remanence.core.registry import memory_use
from remanence.errors import InvalidInput
from remanence.spec import MemoryUse

__all__ = ["MEMORY", "STORE", "USER", "attached", "check_agent", "check_session", "memory_of", "user_of"]

MEMORY: Final = "remanence.memory"
STORE: Final = "remanence.memory.store"
USER: Final = "remanence.user"
_OURS: Final = "remanence."

_Given = Mapping[str, str]


def memory_of(metadata: _Given) -> MemoryUse | None:
    """The memory that some metadata asks for; None for none. Raises InvalidInput."""
    access, store = metadata.get(MEMORY, "off"), metadata.get(STORE)
    if access not in ("write", "read", "off"):
        raise _refusal(MEMORY, f"{access[:40]!r} is none of write, read and off")
    if store is not None and MEMORY not in metadata:
        raise _refusal(STORE, f"a store is for an agent with {MEMORY}")
    use = memory_use(False if access == "off" else access)
    return use if use is None or store is None else MemoryUse(store, use.reads, use.writes)


def user_of(metadata: _Given) -> str:
    """Whose a session is; the empty string when nobody said so."""
    return metadata.get(USER, "")


def attached(metadata: _Given, access: Access, store: str | None) -> dict[str, str]:
    """The metadata of an agent that was given a memory, or whose memory was taken away."""
    others = {name: value for name, value in metadata.items() if name not in (MEMORY, STORE)}
    if access == "off":
        return others
    return {**others, MEMORY: access} if store is None else {**others, MEMORY: access, STORE: store}


def check_agent(metadata: _Given) -> None:
    """Raises InvalidInput for a key of ours that no agent has."""
    _check(metadata, (MEMORY, STORE))


def check_session(metadata: _Given, *, inline: bool) -> None:
    """Raises InvalidInput for a key of ours that this session cannot have. `inline`: its agent is its own."""
    if not inline and (MEMORY in metadata or STORE in metadata):
        named = MEMORY if MEMORY in metadata else STORE
        raise _refusal(named, "the session's agent says this in its own metadata")
    _check(metadata, (MEMORY, STORE, USER) if inline else (USER,))


def _check(metadata: _Given, known: Iterable[str]) -> None:
    for name in metadata:
        if name.startswith(_OURS) and name not in known:
            raise _refusal(name, f"only {', '.join(known)} may begin with {_OURS} here")


def _refusal(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"metadata.{name}: {why}. Nothing was written.", param=f"metadata.{name}")
