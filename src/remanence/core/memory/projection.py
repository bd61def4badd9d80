"""What a journal says to remember: records in, changes of the index out. Pure, so that an index can be made again.

Episodes are what people, the agent and its tools said, kept as it was said, wherever the session may write at that
moment. Notes and blocks are facts of their own (`MemoryKept`, `MemoryForgotten`); where they belong stands in them.
What a memory tool returned is left out, or the memory would remember itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from remanence.content import ToolCall, text_of
from remanence.core.memory.grants import Subject
from remanence.core.memory_tools import MEMORY_TOOLS
from remanence.events import (
    InputReceived,
    MemoryForgotten,
    MemoryKept,
    ModelReplied,
    Recorded,
    ToolReturned,
    ToolStarted,
)
from remanence.recollections import Close, Keep, Memory, MemoryChange, Place

__all__ = ["EPISODE_CHARS_MAX", "MEMORY", "Names", "block_id", "changes_of", "episode_id", "episode_of", "note_of"]

MEMORY: Final = "memory"
"""The name of the projection, and of its cursors."""

EPISODE_CHARS_MAX: Final = 8_000
"""What of a long text is indexed. The whole of it stands in the journal."""


class Names:
    """Which tool a call of the session was for, as far as its records were seen."""

    def __init__(self) -> None:
        self._tools: dict[str, str] = {}

    def see(self, record: Recorded) -> None:
        """Take the names that a record says."""
        match record.event:
            case ToolStarted(call=call, tool=tool):
                self._tools[call] = tool
            case ModelReplied(parts=parts):
                self._tools |= {part.call: part.name for part in parts if isinstance(part, ToolCall)}
            case _:
                pass

    def tool(self, call: str) -> str:
        """The tool of a call, or the empty string."""
        return self._tools.get(call, "")


def changes_of(
    record: Recorded, subject: Subject, *, home: Place | None, tool: str, tainted: bool = False
) -> Iterable[MemoryChange]:
    """What one record changes. `home` is where episodes go at its moment; `tool` the one whose result it is. `tainted`:
    the session had read what strangers may have written, so that its agent may be repeating it.

    What was erased is remembered no more; what it withdrew or superseded stays so.
    """
    match record.event:
        case MemoryKept() as kept:
            if not record.redacted:
                yield Keep(note_of(record, kept, subject.project))
            if kept.supersedes is not None and kept.supersedes != kept.memory:
                yield Close(subject.project, kept.supersedes, record.at, valid_to=kept.valid_from)
        case MemoryForgotten(memory=memory):
            yield Close(subject.project, memory, record.at)
        case InputReceived() | ModelReplied() | ToolReturned() if home is not None and not record.redacted:
            episode = episode_of(record, subject, home, tool, tainted=tainted)
            if episode is not None:
                yield Keep(episode)
        case _:
            pass


def note_of(record: Recorded, kept: MemoryKept, project: str) -> Memory:
    """The version of a note or a block that a record keeps."""
    return Memory(
        id=kept.memory,
        version=kept.version,
        kind=kept.kind,
        project=project,
        place=Place(kept.store, kept.scope),
        text=kept.text,
        session=record.session,
        position=record.position,
        author=kept.by or record.actor,
        subjects=(kept.name, *kept.subjects) if kept.name else kept.subjects,
        label="untrusted" if kept.untrusted else "trusted",
        recorded_at=record.at,
        valid_from=kept.valid_from,
        valid_to=kept.valid_to,
        expires_at=kept.expires_at,
    )


def episode_of(
    record: Recorded, subject: Subject, place: Place, tool: str = "", *, tainted: bool = False
) -> Memory | None:
    """What was said in a record, as a memory; None when nothing was, or when it is not to be remembered."""
    untrusted = False
    match record.event:
        case InputReceived(parts=parts, user=user):
            speaker = subject.user or user
            author = f"user:{speaker}"
        case ModelReplied(parts=parts):
            author, speaker, untrusted = f"agent:{subject.agent}", subject.agent, tainted
        case ToolReturned(parts=parts, error=False, started=True, untrusted=untrusted) if tool not in MEMORY_TOOLS:
            author, speaker = f"tool:{tool}", tool
        case _:
            return None
    text = text_of(parts).strip()
    if not text:
        return None
    return Memory(
        id=episode_id(record.session, record.position),
        kind="episode",
        project=subject.project,
        place=place,
        text=text[:EPISODE_CHARS_MAX],
        session=record.session,
        position=record.position,
        author=author,
        speaker=speaker,
        label="untrusted" if untrusted else "trusted",
        recorded_at=record.at,
    )


def episode_id(session: str, position: int) -> str:
    """The id of what a record said: where it stands."""
    return f"{session}#{position}"


def block_id(place: Place, name: str) -> str:
    """The id of the block of this name: one for each place, and readable, because the model is shown it."""
    return f"block/{place.store}/{place.scope}/{name}"
