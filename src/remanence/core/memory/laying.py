"""From memories to rows of the index: numbers, words, names, and what closes a version.

Pure, and the same for every backend: a store brings the numbers that are given already, and lays down what comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

import msgspec

from remanence.core.memory.entries import ALONE_STEP, ORDINAL_MAX, chunk_of, document, entry, pack, repeated
from remanence.core.memory.words import indexed, name_words
from remanence.recollections import Close, Memory

__all__ = ["ALONE", "Chunk", "Ending", "Laid", "PlaceCount", "SessionCount", "endings", "lay"]

ALONE = ""
"""The session under which notes and blocks are numbered: they have no neighbours."""
ORDINAL_FIRST = 2
"""So that what is carried to the two before a session's first lands in no other session."""

Chunk = tuple[int, str, int]
"""Place, word, chunk: where entries lie."""


class PlaceCount(msgspec.Struct):
    """One place as the index counts it: its number, sessions numbered so far, memories, words."""

    no: int
    sessions: int = 0
    memories: int = 0
    words: int = 0


class SessionCount(msgspec.Struct):
    """One session in a place: its number there, and the ordinal that is next."""

    no: int
    ordinal: int = ORDINAL_FIRST


class Laid(msgspec.Struct):
    """Rows to lay down: each memory with its place's number, its document and whether it asks; entries; names.

    Entries are packed, by word, by place and chunk: bytes and few containers, which the garbage collector passes by.
    """

    memories: list[tuple[int, int, bool, Memory]] = []
    entries: dict[tuple[int, int], dict[str, bytes]] = {}
    names: dict[tuple[int, str], int] = {}

    def words(self) -> list[tuple[int, str, int, bytes]]:
        """The rows of words: place, word, chunk, entries.

        By place and word, as they lie in a database, so that each of its pages is visited once.
        """
        by_place: dict[int, list[tuple[int, str, int, bytes]]] = {}
        for (place, chunk), words in self.entries.items():
            rows = by_place.setdefault(place, [])
            rows += [(place, word, chunk, packed) for word, packed in words.items()]
        for rows in by_place.values():
            rows.sort(key=itemgetter(1))
        return [row for rows in by_place.values() for row in rows]


def lay(
    memories: Iterable[Memory],
    places: dict[tuple[str, str, str], PlaceCount],
    sessions: dict[tuple[int, str], SessionCount],
) -> Laid:
    """Number memories, in this order, and find their words. The counts are moved on; every place must be among them."""
    laid = Laid()
    for memory in memories:
        place = places[memory.project, memory.place.store, memory.place.scope]
        number = _number(memory, place, sessions)
        text = indexed(memory.text)
        place.memories += 1
        place.words += text.length
        laid.memories.append((place.no, number, text.asks, memory))
        words = laid.entries.setdefault((place.no, chunk_of(number)), {})
        once = entry(number, text.length, text.asks)
        packed = pack(once)
        before = words.get
        for word, count in text.words.items():
            words[word] = before(word, b"") + (packed if count == 1 else pack(repeated(once, count)))
        for name in name_words(memory.speaker):
            laid.names[place.no, name] = laid.names.get((place.no, name), 0) + 1
    return laid


def _number(memory: Memory, place: PlaceCount, sessions: dict[tuple[int, str], SessionCount]) -> int:
    alone = memory.kind != "episode"
    where = place.no, ALONE if alone else memory.session
    count = sessions.get(where)
    if count is None or count.ordinal > ORDINAL_MAX - ALONE_STEP:
        # A session with more memories than a number has room for goes on as another one.
        if not alone or count is not None:
            place.sessions += 1
        count = sessions[where] = SessionCount(0 if alone and count is None else place.sessions)
    number = document(count.no, count.ordinal)
    count.ordinal += ALONE_STEP if alone else 1
    return number


# --- what closes a version --------------------------------------------------------------------------------------------


class Ending(msgspec.Struct, frozen=True):
    """When a version stopped being believed, and until when it was true as its successor or its closing says."""

    version: int
    closed_at: int | None = None
    ended_at: int | None = None


def endings(versions: Sequence[Memory], closings: Iterable[Close]) -> list[Ending]:
    """How the versions of one memory end, whatever order they and the closings arrived in."""
    ordered = sorted(versions, key=lambda memory: memory.version)
    closed = sorted(closings, key=lambda closing: closing.at)
    found: list[Ending] = []
    for at, memory in enumerate(ordered):
        successor = ordered[at + 1] if at + 1 < len(ordered) else None
        until = None if successor is None else successor.recorded_at
        first = next((c for c in closed if c.at >= memory.recorded_at and (until is None or c.at < until)), None)
        if first is not None:
            found.append(Ending(memory.version, first.at, first.valid_to))
        elif successor is not None:
            found.append(Ending(memory.version, successor.recorded_at, successor.valid_from))
        else:
            found.append(Ending(memory.version))
    return found
