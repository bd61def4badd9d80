"""What lists and screens ask, and what administrators declare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from remanence.content import Usage
from remanence.screens import Hit, Overview, Question, Search, Seen, Tag, VersionUse
from remanence.values import Cursor, Entry, EntryQuery, SessionQuery, SessionRow, Summary, UsageQuery, UsageRow

__all__ = ["Registry", "Screens", "Views"]


class Registry(Protocol):
    """Declared things by kind and id: see `values.Entry`. Ids are unique within a kind, across projects."""

    async def put(self, entry: Entry, *, expect: int | None = None) -> Entry:
        """Make or change an entry. Conflict unless its revision is `expect` (0: it is not there; None: whatever).

        Returns it as it stands: with the revision it got, and the moment it was first made.
        """
        ...

    async def get(self, kind: str, name: str) -> Entry:
        """Raises NotFound."""
        ...

    async def list(self, query: EntryQuery) -> Sequence[Entry]: ...

    async def kinds(self) -> Sequence[str]:
        """Every kind of which there is an entry."""
        ...

    async def remove(self, kind: str, name: str) -> None:
        """Raises NotFound."""
        ...


class Views(Protocol):
    """Read models: what lists and screens ask. Never asked by the loop."""

    async def session(self, session: str) -> SessionRow: ...

    async def sessions(self, query: SessionQuery) -> Sequence[SessionRow]: ...

    async def heads(self, sessions: Sequence[str]) -> dict[str, int]:
        """The newest position of each of these sessions that exists: one look for many followers."""
        ...

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]: ...

    async def record_usage(self, cursor: Cursor, rows: Sequence[tuple[int, Summary, str, Usage, int | None]]) -> None:
        """Add `(at, summary, model, usage, cost)` rows and move the cursor, at once; a stale cursor does nothing."""
        ...

    async def stats(self) -> dict[str, Any]:
        """Counts and sizes for `db stats`: sessions by status, records, blobs, bytes, schema version, durability."""
        ...


class Screens(Protocol):
    """What screens ask besides lists: a projection of the journals, which can be thrown away and made again."""

    async def record(self, cursor: Cursor, seen: Seen) -> None:
        """Add what was seen and move the cursor of `screens.SCREENS`, at once; a stale cursor does nothing.

        What was redacted meanwhile is left out. Redacting a record takes its words out in the same transaction.
        """
        ...

    async def ask(self, *questions: Question) -> list[Any]:
        """The answers to what a page asks, in one read transaction: all of it was true at one moment.

        Raises NotFound for a session that is not there, InvalidInput as each question alone would.
        """
        ...

    async def search(self, search: Search) -> Sequence[Hit]:
        """Sessions in which the words were said, the last opened first; none when no word is asked for."""
        ...

    async def tags(self, project: str, *, limit: int) -> Sequence[Tag]:
        """The metadata that most of the sessions carry that changed last (`screens.TAGGED_MAX`)."""
        ...

    async def overview(self, project: str, *, since: int) -> Overview:
        """The sums of a project now, and its minutes from `since` (microseconds) on."""
        ...

    async def versions(self, project: str, agent: str) -> Sequence[VersionUse]:
        """How much each version of an agent is used, by what the sessions' rows say now; removed ones left out."""
        ...

    async def clear(self) -> None:
        """Forget all of it and its cursors: the next look at `behind` starts from the first record."""
        ...
