"""What a question finds, and in which order. Pure and deterministic: a database only brings what it is asked for.

A word of the question counts the more, the fewer memories in view have it (the inverse frequency of BM25, over all the
places that may be read). How much of it a memory has is its count, discounted for a long text, plus a part of what the
memories said just before and after it have: an answer seldom repeats the words of its question, so what follows a
question gets more of it. The sum is saturated, so that one word often is less than two words once.

    part      = count / (1 - B + B * length / mean length)
    x(m)      = part(m) + sum over neighbours n of CARRY(m - n) * part of one occurrence in n
    words(m)  = sum over words of weight * idf * x * (K + 1) / (x + K)
    total(m)  = words(m) + SESSION * mean of the three best words(.) in the session of m
    score(m)  = total(m) * (1 + SPEAKER if named) * (1 + DATE * nearness) * (1 - QUESTION if m is a question)

The numbers were chosen on conversations, each left out in turn (bench/memory); any near them do as well.

The last line needs the memory itself, so candidates are fetched in the order of `total`, until no other can rise above
the last hit. `Recall` says what it needs next; a store's loop of a few lines brings it.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from remanence.core.memory.dates import Period, nearness, periods
from remanence.core.memory.entries import DOCUMENT_SHIFT, LENGTH_MAX, entries_of, session_number
from remanence.core.memory.words import Asked, asked, name_words
from remanence.recollections import Memory, MemoryHit, MemoryQuery, Share, ShareBy

__all__ = ["Candidate", "Key", "Recall", "Totals", "eligible"]

K = 0.8
B = 0.35
NAME_WEIGHT = 0.2
"""A speaker's name in a text says little: people call each other by it."""
CARRY_AFTER = {1: 0.4, 2: 0.2}
"""What a memory gets of the one before it, and of the one before that."""
CARRY_BEFORE = {1: 0.3, 2: 0.15}
"""What it gets of those that follow."""
QUESTION_CARRY = 2.0
"""The memory right after a question gets so many times as much."""
SESSION = 0.3
SESSION_BEST = 3
SPEAKER = 0.3
DATE = 0.25
QUESTION = 0.1
RISE_MAX = (1 + SPEAKER) * (1 + DATE)

SPREAD_MAX = 4_000
"""How many entries are spread to their neighbours; those of more frequent words only add to what was found by then."""
FETCH = 48
NOTHING = 1e-9

Key = tuple[int, int]
"""A place's number and a document in it."""


class Totals(msgspec.Struct, frozen=True):
    """Over all the places in view: how many memories, and how many words they have together."""

    memories: int
    words: int


class Candidate(msgspec.Struct, frozen=True):
    """A memory that a store fetched."""

    key: Key
    memory: Memory
    asks: bool
    ended_at: int | None = None
    """Until when it was true, as learned only when it was closed."""


class _Word(msgspec.Struct):
    """One word of the question in the index: its documents' own parts, and with those of their neighbours."""

    asked: Asked
    weight: float
    own: dict[Key, float]
    parts: dict[Key, float]

    def gives(self, key: Key) -> float:
        part = self.parts.get(key, 0.0)
        return self.weight * part * (K + 1) / (part + K)


class Recall:
    """One question on its way. Ask `stems` and `names` for what to fetch first, then `score`, then `wanted`."""

    def __init__(self, query: MemoryQuery) -> None:
        self.query = query
        self._asked = asked(query.text)
        self._periods: tuple[Period, ...] = periods(query.text, query.now)
        self._words: list[_Word] = []
        self._ranked: list[tuple[float, Key]] = []
        self._sessions: dict[Key, float] = {}
        self._next = 0
        self._named: frozenset[str] = frozenset()
        self._hits: list[MemoryHit] = []

    @property
    def stems(self) -> Sequence[str]:
        """The words whose entries are needed, and the names that may be speakers'."""
        return list(dict.fromkeys(stem for word in self._asked for stem in word.stems))

    # --- totals -------------------------------------------------------------------------------------------------------

    def score(self, totals: Totals, entries: Iterable[tuple[int, str, bytes]], speakers: Mapping[str, int]) -> None:
        """Take what was fetched: rows `(place, word, entries)`, and how many memories each name has spoken."""
        if not totals.memories:
            return
        found: dict[str, list[tuple[int, array[int]]]] = defaultdict(list)
        for place, word, packed in entries:
            found[word].append((place, entries_of(packed)))
        self._name(speakers)
        mean = max(totals.words / totals.memories, 1.0)
        norms = [1.0 / (1 - B + B * max(length, 1) / mean) for length in range(LENGTH_MAX + 1)]
        lists = [(self._entries(word, found), word) for word in self._asked]
        spread = 0
        near: set[Key] = set()
        for rows, word in sorted(lists, key=lambda pair: (sum(len(row) for _, row in pair[0]), pair[1].typed)):
            frequency = sum(len(row) for _, row in rows)
            if not frequency:
                continue
            spread += frequency
            read = _spread(rows, norms) if spread <= SPREAD_MAX else _narrow(rows, norms, near)
            idf = math.log(1 + (totals.memories - frequency + 0.5) / (frequency + 0.5)) if frequency else 0.0
            self._words.append(_Word(word, max(idf, 0.01) * self._weight(word), *read))
            near.update(read[1])
        self._rank()

    def _entries(
        self, word: Asked, found: Mapping[str, list[tuple[int, array[int]]]]
    ) -> list[tuple[int, Sequence[int]]]:
        """The entries of a word by place, in the order of documents, one for each document."""
        by_place: dict[int, list[int]] = defaultdict(list)
        for stem in word.stems:
            for place, entries in found.get(stem, ()):
                by_place[place].extend(entries)
        rows: list[tuple[int, Sequence[int]]] = []
        for place, entries in sorted(by_place.items()):
            entries.sort()
            if len(word.stems) > 1:
                last = {entry >> DOCUMENT_SHIFT: entry for entry in entries}
                entries = list(last.values())
            rows.append((place, entries))
        return rows

    def _name(self, speakers: Mapping[str, int]) -> None:
        """Which speakers the question names."""
        self._named = frozenset(stem for word in self._asked for stem in word.stems if speakers.get(stem))

    def _weight(self, word: Asked) -> float:
        return NAME_WEIGHT if self._named.intersection(word.stems) else word.weight

    def _rank(self) -> None:
        sums: dict[Key, float] = defaultdict(float)
        for word in self._words:
            weight = word.weight * (K + 1)
            for key, part in word.parts.items():
                sums[key] += weight * part / (part + K)
        best: dict[Key, list[float]] = {}
        ranked = sorted(((total, key) for key, total in sums.items()), reverse=True)
        for total, (place, document) in ranked:
            session = session_number(document)
            if session:
                first = best.setdefault((place, session), [])
                if len(first) < SESSION_BEST:
                    first.append(total)
        self._sessions = {key: SESSION * sum(first) / SESSION_BEST for key, first in best.items()}
        self._ranked = sorted(((total + self._session(key), key) for total, key in ranked), key=lambda pair: -pair[0])

    def _session(self, key: Key) -> float:
        return self._sessions.get((key[0], session_number(key[1])), 0.0)

    # --- hits ---------------------------------------------------------------------------------------------------------

    def wanted(self) -> Sequence[Key]:
        """The candidates to fetch next, best first; none when the hits are found."""
        if self._next >= len(self._ranked):
            return ()
        if len(self._hits) >= self.query.limit:
            last = self._hits[self.query.limit - 1].score
            if self._ranked[self._next][0] * RISE_MAX < last:
                return ()
        return [key for _, key in self._ranked[self._next : self._next + FETCH]]

    def take(self, candidates: Iterable[Candidate]) -> None:
        """What was fetched for `wanted`, in any order; a document that is not there any more is simply missing."""
        totals = {key: total for total, key in self._ranked[self._next : self._next + FETCH]}
        self._next += FETCH
        for candidate in candidates:
            if eligible(candidate, self.query):
                self._hits.append(self._hit(candidate, totals[candidate.key]))
        self._hits.sort(key=_order)

    def hits(self) -> Sequence[MemoryHit]:
        """The hits, best first."""
        return self._hits[: self.query.limit]

    def _hit(self, candidate: Candidate, total: float) -> MemoryHit:
        key, memory = candidate.key, candidate.memory
        shares = _Shares()
        for word in self._words:
            given, own = word.gives(key), word.own.get(key, 0.0)
            if given:
                direct = given * own / word.parts[key]
                shares.add("words", direct, word.asked.typed)
                shares.add("neighbour", given - direct, word.asked.typed)
        shares.add("session", self._session(key))
        if self._named.intersection(name_words(memory.speaker)):
            shares.add("speaker", SPEAKER * shares.sum(), memory.speaker)
        fits = nearness(self._periods, memory.valid_from or memory.recorded_at) if self._periods else 0.0
        if fits:
            shares.add("date", DATE * fits * shares.sum(), *(period.words for period in self._periods))
        factor = 1 - QUESTION if candidate.asks else 1.0
        return MemoryHit(memory, shares.sum() * factor, shares.listed(factor))


class _Shares:
    """Reasons of one hit as they are found."""

    def __init__(self) -> None:
        self._found: dict[ShareBy, tuple[float, tuple[str, ...]]] = {}

    def add(self, by: ShareBy, share: float, *words: str) -> None:
        if share > NOTHING:
            before, said = self._found.get(by, (0.0, ()))
            self._found[by] = before + share, said + words

    def sum(self) -> float:
        return sum(share for share, _ in self._found.values())

    def listed(self, factor: float) -> tuple[Share, ...]:
        found = [Share(by, round(share * factor, 6), words) for by, (share, words) in self._found.items()]
        return tuple(sorted(found, key=lambda share: -share.share))


def _spread(rows: Sequence[tuple[int, Sequence[int]]], norms: Sequence[float]) -> tuple[dict[Key, float], ...]:
    """The parts of documents by themselves, and with what their neighbours carry to them."""
    own: dict[Key, float] = {}
    parts: dict[Key, float] = defaultdict(float)
    for place, entries in rows:
        for entry in entries:
            document = entry >> DOCUMENT_SHIFT
            one = norms[entry >> 9 & LENGTH_MAX]
            key = (place, document)
            own[key] = one * (entry >> 1 & 255)
            parts[key] += own[key]
            follows = QUESTION_CARRY if entry & 1 else 1.0
            parts[place, document + 1] += CARRY_AFTER[1] * one * follows
            parts[place, document + 2] += CARRY_AFTER[2] * one
            parts[place, document - 1] += CARRY_BEFORE[1] * one
            parts[place, document - 2] += CARRY_BEFORE[2] * one
    return own, parts


def _narrow(
    rows: Sequence[tuple[int, Sequence[int]]], norms: Sequence[float], near: set[Key]
) -> tuple[dict[Key, float], ...]:
    """The same of a frequent word, for documents that were found already; for all, without neighbours, if none was."""
    if near:
        rows = [
            (place, [entry for entry in entries if (place, entry >> DOCUMENT_SHIFT) in near]) for place, entries in rows
        ]
        own, parts = _spread(rows, norms)
        return own, {key: part for key, part in parts.items() if key in near}
    own = {
        (place, entry >> DOCUMENT_SHIFT): norms[entry >> 9 & LENGTH_MAX] * (entry >> 1 & 255)
        for place, entries in rows
        for entry in entries
    }
    return own, own


def eligible(candidate: Candidate, query: MemoryQuery) -> bool:
    """Whether a memory may answer: its kind, its expiry, what was believed and true at the moments asked for.

    With `valid_at` alone, what was true then as far as is known now: a version that was superseded still answers for
    the time that its successor left it.
    """
    memory = candidate.memory
    if memory.kind not in query.kinds or (memory.expires_at is not None and memory.expires_at <= query.now):
        return False
    if query.window is not None and memory.session == query.window[0] and memory.position > query.window[1]:
        return False
    believed_at = query.now if query.believed_at is None else query.believed_at
    valid_at = believed_at if query.valid_at is None else query.valid_at
    if memory.valid_from is not None and memory.valid_from > valid_at:
        return False
    if memory.valid_to is not None and memory.valid_to <= valid_at:
        return False
    if memory.recorded_at > believed_at:
        return False
    if memory.closed_at is None or memory.closed_at > believed_at:
        return True
    looks_back = query.valid_at is not None and query.believed_at is None
    return looks_back and candidate.ended_at is not None and valid_at < candidate.ended_at


def _order(hit: MemoryHit) -> tuple[float, int, str, int, str, int]:
    memory = hit.memory
    return (-round(hit.score, 9), -memory.recorded_at, memory.session, memory.position, memory.id, memory.version)
