"""What comes to an agent's mind, and which blocks it sees: the answers of long-term memory to the driver.

Rights are looked up each time; nothing is remembered between two questions. Recall is bounded: by the tokens the
agent's version allows, and by a time after which the turn goes on without.
"""

from __future__ import annotations

import asyncio
from typing import Final

from remanence.core.memory.consolidation import is_consolidation, named_in
from remanence.core.memory.grants import Subject
from remanence.core.state import Session
from remanence.errors import NotFound, StoreUnavailable
from remanence.events import Recalled
from remanence.ports import Clock, Database
from remanence.recollections import Memory, MemoryHit, MemoryListing, MemoryQuery
from remanence.runtime.memory_index import MemoryIndex
from remanence.spec import AgentSpec
from remanence.tools.memory_access import access_now
from remanence.tools.memory_words import reasons

__all__ = ["MemoryRecollector", "subject_of"]

HITS_MAX: Final = 30
BLOCKS_MAX: Final = 50
TIMEOUT_S: Final = 2.0
BYTES_PER_TOKEN: Final = 4
LINE_TOKENS: Final = 20
"""What a line costs besides its text: its id, its date, its speaker."""
_NEAR: Final = ("project", "agent", "user", "session")


class MemoryRecollector:
    """Answers for one database: `runtime.recall.Recollector`."""

    def __init__(self, database: Database, clock: Clock, index: MemoryIndex) -> None:
        self._database = database
        self._clock = clock
        self._index = index

    async def recall(self, s: Session, spec: AgentSpec, text: str) -> tuple[Recalled, ...]:
        """What fits the inputs of the turn that begins, best first, within the spec's `recall_tokens`."""
        use = spec.memory
        if use is None or not use.recall_tokens or not text.strip():
            return ()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                hits = await self._search(s, spec, text)
        except TimeoutError:
            raise StoreUnavailable(f"it gave no answer within {TIMEOUT_S:g} s") from None
        return _within(hits, use.recall_tokens)

    async def _named(self, s: Session, spec: AgentSpec, text: str) -> list[MemoryHit]:
        """The episodes an input of the consolidation names, as far as the session may see them."""
        access = await access_now(self._database.registry, subject_of(s), spec.memory)
        found: list[MemoryHit] = []
        for name in named_in(text):
            try:
                memory = await self._database.memories.get(s.project, name)
            except NotFound:
                continue  # erased, or forgotten with its session, since it was named
            if memory.place in access.reads:
                found.append(MemoryHit(memory, 0.0))
        return found

    async def _search(self, s: Session, spec: AgentSpec, text: str) -> list[MemoryHit]:
        if is_consolidation(spec):
            return await self._named(s, spec, text)
        subject = subject_of(s)
        access = await access_now(self._database.registry, subject, spec.memory)
        if not access.reads:
            return []
        await self._index.settle(subject)
        now = self._clock.now()
        query = MemoryQuery(
            project=s.project,
            readable=access.reads,
            text=text,
            now=now,
            valid_at=now,
            limit=HITS_MAX,
            window=(s.id, max(0, s.window.from_position - 1)),
        )
        return list(await self._database.memories.search(query))

    async def blocks(self, s: Session, spec: AgentSpec) -> tuple[Recalled, ...]:
        """The trusted blocks in view, from the widest scope to the nearest, by name."""
        if s.turn is None and (not s.queue or (spec.memory is not None and spec.memory.recall_tokens)):
            return s.blocks  # no model call can leave before the memory is asked what fits the turn
        access = await access_now(self._database.registry, subject_of(s), spec.memory)
        if not access.reads:
            return ()
        listing = MemoryListing(
            project=s.project, places=access.reads, kinds=("block",), valid_at=self._clock.now(), limit=BLOCKS_MAX
        )
        found = [block for block in await self._database.memories.list(listing) if block.label == "trusted"]
        return tuple(_reference(block) for block in sorted(found, key=_order) if block.text)


def subject_of(s: Session) -> Subject:
    """Whose rights a session has."""
    return Subject(s.project, s.agent, s.id, s.user)


def _order(block: Memory) -> tuple[int, str, str]:
    kind = block.place.scope.partition(":")[0]
    return _NEAR.index(kind) if kind in _NEAR else len(_NEAR), block.place.store, block.id


def _within(hits: list[MemoryHit], tokens_max: int) -> tuple[Recalled, ...]:
    """The best hits whose texts fit; one that is too long leaves its place to a shorter one."""
    chosen: list[Recalled] = []
    left = tokens_max
    for hit in hits:
        cost = len(hit.memory.text.encode()) // BYTES_PER_TOKEN + LINE_TOKENS
        if cost <= left:
            left -= cost
            chosen.append(_reference(hit.memory, reasons(hit.why)))
    return tuple(chosen)


def _reference(memory: Memory, why: tuple[str, ...] = ()) -> Recalled:
    return Recalled(
        memory.id, memory.version, memory.session, memory.position, memory.kind, memory.label == "untrusted", why
    )
