"""What a worker asks of long-term memory, and how the texts behind references are read.

The memory is asked once before a turn (what fits its inputs) and, for agents with memory, before each model call (which
blocks the agent may see now). Both answers are references. Their texts are read from the records they name, so that
what a prompt showed can be read again as long as the record is there, and no longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import structlog

from remanence.core.context import Transcript, places_in
from remanence.core.state import Session
from remanence.core.tokens import family_of
from remanence.errors import RemanenceError
from remanence.events import MemoryRecalled, Recalled, Recorded
from remanence.ports import Store
from remanence.spec import AgentSpec
from remanence.stores.reading import texts_of

__all__ = ["Recollector", "read_transcript", "recall", "understand"]

log = structlog.get_logger("remanence.recall")


class Recollector(Protocol):
    """Who knows what an agent may recall, now."""

    async def recall(self, s: Session, spec: AgentSpec, text: str) -> tuple[Recalled, ...]:
        """What fits the inputs of the turn that begins, best first, within the spec's `recall_tokens`."""
        ...

    async def blocks(self, s: Session, spec: AgentSpec) -> tuple[Recalled, ...]:
        """The blocks in view, always in the same order, without a `why`: a change of order would cost a prefix."""
        ...


async def recall(recollector: Recollector | None, s: Session, spec: AgentSpec, text: str) -> MemoryRecalled:
    """What comes to mind for the turn. A memory that cannot be asked does not hold the turn up, and says so."""
    if recollector is None:
        return MemoryRecalled(s.turns, note="this worker has no memory to ask")
    try:
        return MemoryRecalled(s.turns, await recollector.recall(s, spec, text))
    except RemanenceError as error:
        log.warning("the memory could not be asked", session=s.id, error=error.message)
        return MemoryRecalled(s.turns, note=f"the memory could not be asked: {error.message}")
    except Exception:
        log.exception("the memory failed; the turn goes on without it", session=s.id)
        return MemoryRecalled(s.turns, note="the memory failed in an unforeseen way; the worker's log says how")


async def understand(
    store: Store, text: Transcript, records: Iterable[Recorded], also: Iterable[Recalled] = ()
) -> None:
    """Give a transcript the texts behind the references of records it is about to take in."""
    wanted = places_in(records, also) - text.known.keys()
    if wanted:
        text.know(await texts_of(store, wanted))


async def read_transcript(store: Store, s: Session, model: str) -> Transcript:
    """The messages of a session's window, read from where it starts, and what else stands in its prompts."""
    text = Transcript(family=family_of(model))
    start = s.window.from_position
    records: list[Recorded] = []
    for earlier in sorted({s.compacted_at, s.shown_at}):
        if 0 < earlier < start:
            records += await store.read(s.id, after=earlier - 1, limit=1)
    records += [record for record in await store.read(s.id, after=start - 1) if record.position <= s.head]
    await understand(store, text, records)
    for record in records:
        text.add(record)
    text.forget_before(s.window.first_turn)
    return text
