"""What the index has of a memory: 64 bits for each word it holds.

    bits 18-63   the document: session number (24 bits) and place in that session (22 bits)
    bits  9-17   how many words the memory has, at most 511
    bits  1-8    how often the word occurs, at most 255
    bit   0      whether the memory ends in a question

A *document* is a memory's number within its place (a store and a scope). Episodes of one session follow each other, so
the neighbours of a document are the numbers beside it. Notes and blocks have no neighbours: they are in session 0, far
apart. Numbers are the index's own; what is found never depends on them.

Entries of one word lie together in *chunks* of up to 16 sessions, so that one more memory rewrites little, and a
question reads few rows.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection

__all__ = [
    "ALONE_STEP",
    "COUNT_MAX",
    "DOCUMENT_SHIFT",
    "LENGTH_MAX",
    "ORDINAL_BITS",
    "ORDINAL_MAX",
    "chunk_of",
    "document",
    "entries_of",
    "entry",
    "pack",
    "repeated",
    "session_number",
    "without",
]

ORDINAL_BITS = 22
ORDINAL_MAX = (1 << ORDINAL_BITS) - 1
DOCUMENT_SHIFT = 18
LENGTH_MAX = 511
COUNT_MAX = 255
ALONE_STEP = 8
"""How far apart documents without neighbours are: farther than a score is carried."""
_SESSIONS_BITS = 4
_ORDINALS_BITS = 8
_ENTRY_BYTES = 8


def document(session: int, ordinal: int) -> int:
    """The number of a memory within its place."""
    return session << ORDINAL_BITS | ordinal


def session_number(document: int) -> int:
    """The session a document is of; 0 for notes and blocks."""
    return document >> ORDINAL_BITS


def chunk_of(document: int) -> int:
    """The chunk in which a document's entries lie."""
    ordinal = document & ORDINAL_MAX
    return (document >> ORDINAL_BITS >> _SESSIONS_BITS) << (ORDINAL_BITS - _ORDINALS_BITS) | ordinal >> _ORDINALS_BITS


def entry(document: int, length: int, asks: bool) -> int:
    """A word that a memory has once."""
    return document << DOCUMENT_SHIFT | min(length, LENGTH_MAX) << 9 | 2 | asks


def repeated(once: int, count: int) -> int:
    """The same for a word that a memory has so many times."""
    return once + (min(count, COUNT_MAX) - 1 << 1)


def pack(entry: int) -> bytes:
    """An entry as it is stored. Those of a word follow each other in any order."""
    return entry.to_bytes(_ENTRY_BYTES, "little")


def entries_of(packed: bytes) -> array[int]:
    """Stored entries as numbers."""
    entries = array("Q")
    entries.frombytes(packed)
    if sys.byteorder == "big":
        entries.byteswap()
    return entries


def without(packed: bytes, documents: Collection[int]) -> bytes:
    """Stored entries without those of some documents."""
    return b"".join(pack(entry) for entry in entries_of(packed) if entry >> DOCUMENT_SHIFT not in documents)
