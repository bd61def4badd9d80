"""Rows of the table `memories`, the same on every backend: their columns, and memories to rows and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import groupby
from typing import Any

import msgspec

from remanence.core.memory.recall import Candidate, eligible, key_of
from remanence.recollections import (
    Keep,
    Memory,
    MemoryChange,
    MemoryListing,
    MemoryQuery,
    MemorySelector,
    Place,
    Removed,
)

__all__ = [
    "COLUMNS",
    "FIELDS",
    "INDEX_TABLES",
    "candidate_of",
    "listed",
    "listed_whole",
    "memory_of",
    "removed_of",
    "row_of",
    "sources",
    "standing",
    "terms_of",
]

INDEX_TABLES = (
    *("memories", "memory_words", "memory_names", "memory_subjects", "memory_closings", "memory_sessions"),
    *("memory_places", "memory_vectors", "memory_models"),
)
"""Every table of the index, in the order in which they may be emptied."""

FIELDS = (
    *("place", "document", "asks", "project", "id", "version", "kind", "text", "session", "position", "author"),
    *("speaker", "subjects", "label", "recorded_at", "closed_at", "valid_from", "valid_to", "ended_at", "expires_at"),
)
"""The columns of a row that is laid down, in order."""
COLUMNS = ", ".join(["p.store", "p.scope", *(f"m.{field}" for field in FIELDS)])
"""What a row that is read has: its place's names first. Of `memories m JOIN memory_places p USING (place)`."""

_SUBJECTS = msgspec.json.Decoder(tuple[str, ...])


def row_of(place: int, document: int, asks: bool, memory: Memory) -> tuple[Any, ...]:
    """The row of a memory that was numbered."""
    subjects = msgspec.json.encode(memory.subjects).decode() if memory.subjects else "[]"
    start = (place, document, int(asks), memory.project, memory.id, memory.version, memory.kind, memory.text)
    source = (memory.session, memory.position, memory.author, memory.speaker, subjects, memory.label)
    times = (memory.recorded_at, memory.closed_at, memory.valid_from, memory.valid_to, None, memory.expires_at)
    return start + source + times


def sources(changes: Iterable[MemoryChange]) -> dict[str, tuple[int, int]]:
    """The sessions of the records that are to be kept, with the first and the last position of each."""
    positions: defaultdict[str, list[int]] = defaultdict(list)
    for change in changes:
        if isinstance(change, Keep):
            positions[change.memory.session].append(change.memory.position)
    return {session: (min(found), max(found)) for session, found in positions.items()}


def standing(changes: Sequence[MemoryChange], erased: Mapping[str, Set[int]]) -> Sequence[MemoryChange]:
    """The changes without what is to be kept of erased records: whoever read them did so before they were."""
    if not any(erased.values()):
        return changes
    return [
        change
        for change in changes
        if not isinstance(change, Keep) or change.memory.position not in erased.get(change.memory.session, ())
    ]


def memory_of(row: Sequence[Any]) -> Memory:
    """The memory in a row of `COLUMNS`. It was true until what ends first: its own word, or what closed it."""
    store, scope, _place, _document, _asks, project, name, version, kind, text, session, position, *rest = row
    author, speaker, subjects, label, recorded_at, closed_at, valid_from, valid_to, ended_at, expires_at = rest
    ends = [end for end in (valid_to, ended_at) if end is not None]
    return Memory(
        id=name,
        version=version,
        kind=kind,
        project=project,
        place=Place(store, scope),
        text=text,
        session=session,
        position=position,
        author=author,
        speaker=speaker,
        subjects=() if subjects == "[]" else _SUBJECTS.decode(subjects),
        label=label,
        recorded_at=recorded_at,
        closed_at=closed_at,
        valid_from=valid_from,
        valid_to=min(ends, default=None),
        expires_at=expires_at,
    )


_PLACE = FIELDS.index("place") + 2
_VALID_TO = FIELDS.index("valid_to") + 2


def candidate_of(row: Sequence[Any]) -> Candidate:
    """A candidate of a question: what was true until when is told by the memory itself, and apart by what closed it."""
    memory = memory_of(row)
    place, document, asks = row[_PLACE : _PLACE + 3]
    valid_to, ended_at = row[_VALID_TO : _VALID_TO + 2]
    if memory.valid_to != valid_to:
        memory = msgspec.structs.replace(memory, valid_to=valid_to)
    return Candidate(key_of(place, document), memory, bool(asks), ended_at)


def removed_of(memory: Memory) -> Removed:
    """What is said of a version that is removed."""
    return Removed(memory.id, memory.version, memory.kind, memory.place, memory.session, memory.position)


def terms_of(asked: MemoryListing | MemorySelector) -> dict[str, Any]:
    """The fields that narrow a listing or a removal, as far as they were given, under the names of columns."""
    if isinstance(asked, MemorySelector):
        given = {
            "m.id": list(asked.ids) or None,
            "m.session": asked.session,
            "m.position": list(asked.positions) or None,
            "p.store": asked.store,
            "p.scope": asked.scope,
        }
    else:
        given = {"m.kind": list(asked.kinds) or None, "m.session": asked.session}
    return {column: value for column, value in given.items() if value is not None}


def listed(candidates: Iterable[Candidate], listing: MemoryListing) -> list[Memory]:
    """The memories of a listing among its first rows, which are in the order of `recorded_at`, newest first."""
    moments = listing.believed_at is not None or listing.valid_at is not None
    newest: dict[str, int] = {}
    kept: list[Memory] = []
    for candidate in candidates:
        memory = candidate.memory
        if moments:
            if not eligible(candidate, _as_query(listing)):
                continue
        elif newest.setdefault(memory.id, memory.version) != memory.version or (
            memory.closed_at and not listing.closed
        ):
            continue
        kept.append(memory)
    if listing.after is None:
        return kept
    ids = [memory.id for memory in kept]
    return kept[ids.index(listing.after) + 1 :] if listing.after in ids else []


def listed_whole(rows: Iterable[Sequence[Any]], listing: MemoryListing) -> list[Memory]:
    """All versions of the memories of which any answers at the moments of a listing. `rows` are in the order of ids."""
    kept: list[Memory] = []
    for _, versions in groupby(((candidate_of(row), memory_of(row)) for row in rows), key=lambda pair: pair[1].id):
        found = list(versions)
        moments = listing.believed_at is not None or listing.valid_at is not None
        if not moments or any(eligible(candidate, _as_query(listing)) for candidate, _ in found):
            kept += [memory for _, memory in found]
    return kept


def _as_query(listing: MemoryListing) -> MemoryQuery:
    now = max(listing.believed_at or 0, listing.valid_at or 0)
    return MemoryQuery(
        project=listing.project,
        readable=(),
        text="",
        now=now,
        believed_at=listing.believed_at,
        valid_at=listing.valid_at,
        kinds=listing.kinds or ("episode", "note", "block"),
    )
