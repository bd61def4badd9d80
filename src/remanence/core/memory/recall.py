"""What a question finds, and in which order. Pure and deterministic: a database only brings what it is asked for.

A word of the question counts the more, the fewer memories in view have it (the inverse frequency of BM25, over all the
places that may be read). How much of it a memory has is its count, discounted for a long text, plus a part of what the
memories said just before and after it have: an answer seldom repeats the words of its question, so what follows a
question gets more of it. The sum is saturated, so that one word often is less than two words once. Who asks in the very
words of a memory means that one, not those around it: what a memory has itself counts once more, the more of it it has.

    part      = count / (1 - B + B * length / mean length)
    x(m)      = part(m) + sum over neighbours n of CARRY(m - n) * part of one occurrence in n
    words(m)  = sum over words of weight * idf * x * (K + 1) / (x + K)
    itself(m) = the same with its own part for x, times ITSELF * the share of the question's words, by idf, that it has,
                and times ALL when it has every one; nothing for a question of one word
    total(m)  = words(m) + itself(m) + SESSION * mean of the three best words(.) + itself(.) in the session of m
    score(m)  = total(m) * (1 + SPEAKER if named) * (1 + DATE * nearness) * (1 - QUESTION if m is a question)

With vectors, `total` is instead a convex sum of two numbers from 0 to 1: the total as a part of the best one, and where
the cosine to the question stands between the lowest and the highest of the places in view. Then `itself` is left out,
because it draws the best one away from the others, and the weight of vectors was chosen without it.

The numbers were chosen on conversations, each left out in turn (bench/memory); any near them do as well.

The last line needs the memory itself, so candidates are fetched in the order of `total`, until no other can rise above
the last hit. `Recall` says what it needs next; a store's loop of a few lines brings it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from remanence.core.memory.dates import Period, nearness, periods
from remanence.core.memory.entries import (
    COUNT_MAX,
    DOCUMENT_SHIFT,
    LENGTH_MAX,
    ORDINAL_BITS,
    entries_of,
    session_number,
)
from remanence.core.memory.words import Asked, asked, name_words
from remanence.recollections import Memory, MemoryHit, MemoryQuery, Share, ShareBy

__all__ = ["Candidate", "Key", "Recall", "Totals", "documents_by_place", "eligible", "key_of"]

K = 0.8
B = 0.35
NAME_WEIGHT = 0.2
"""A speaker's name in a text says little: people call each other by it."""
CARRY_AFTER = (0.4, 0.2)
"""What a memory gets of the one before it, and of the one before that."""
CARRY_BEFORE = (0.3, 0.15)
"""What it gets of those that follow."""
QUESTION_CARRY = 2.0
"""The memory right after a question gets so many times as much."""
ITSELF = 0.4
ALL = 1.0
SESSION = 0.3
SESSION_BEST = 3
SPEAKER = 0.3
DATE = 0.25
QUESTION = 0.1

VECTOR = 0.4
"""What vectors count, of 1."""
NEAREST = 100
"""How many memories are candidates for their vector alone."""

SPREAD_MAX = 500
"""How many entries are spread to their neighbours; those of more frequent words only add to what was found by then."""
FETCH_MIN = 14
"""How many candidates more than hits are fetched at once: some may not answer, or fall behind."""
NOTHING = 1e-9

Key = int
"""A place's number and a document in it, in one: see `key_of`."""
_DOCUMENT_BITS = 46
_DOCUMENT_MASK = (1 << _DOCUMENT_BITS) - 1


def key_of(place: int, document: int) -> Key:
    """The key of a document in a place."""
    return place << _DOCUMENT_BITS | document


def documents_by_place(keys: Iterable[Key]) -> dict[int, list[int]]:
    """Keys taken apart."""
    found: dict[int, list[int]] = {}
    for key in sorted(keys):
        found.setdefault(key >> _DOCUMENT_BITS, []).append(key & _DOCUMENT_MASK)
    return found


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
    """One question on its way: `score` takes the entries of its `stems`; `take` what is `wanted`, till nothing is."""

    def __init__(self, query: MemoryQuery) -> None:
        self.query = query
        self._asked = asked(query.text)
        self._periods: tuple[Period, ...] = periods(query.text, query.now)
        self._words: list[_Word] = []
        self._totals: dict[Key, float] = {}
        self._ranked: list[Key] = []
        self._sums: dict[Key, float] = {}
        self._itself: dict[Key, float] = {}
        self._sessions: dict[int, float] = {}
        self._cosines: dict[Key, float] = {}
        self._scale = 1.0
        self._next = 0
        self._named: frozenset[str] = frozenset()
        self._found: list[tuple[tuple[float, int, str, int, str, int], Candidate]] = []

    @property
    def stems(self) -> Sequence[str]:
        """The words whose entries are needed, and the names that may be speakers'."""
        return list(dict.fromkeys(stem for word in self._asked for stem in word.stems))

    # --- totals -------------------------------------------------------------------------------------------------------

    def score(self, totals: Totals, entries: Iterable[tuple[int, str, bytes]], speakers: Mapping[str, int]) -> None:
        """Take what was fetched: rows `(place, word, entries)`, and how many memories each name has spoken."""
        if not totals.memories:
            return
        self._named = frozenset(stem for word in self._asked for stem in word.stems if speakers.get(stem))
        found: dict[str, dict[int, list[bytes]]] = defaultdict(lambda: defaultdict(list))
        for place, word, packed in entries:
            found[word][place].append(packed)
        lists = [(rows, word) for word in self._asked if (rows := _entries(word, found))]
        scale = B / max(totals.words / totals.memories, 1.0)
        spread = 0
        sums: dict[Key, float] = {}
        for rows, word in sorted(lists, key=lambda pair: (_count(pair[0]), pair[1].typed)):
            frequency = _count(rows)
            spread += frequency
            adds = not sums or spread <= SPREAD_MAX
            if not adds:
                rows = _within(rows, sums)
            own, parts = _spread(rows, scale) if sums or spread <= SPREAD_MAX else _alone(rows, scale)
            idf = math.log(1 + (totals.memories - frequency + 0.5) / (frequency + 0.5))
            weighed = _Word(word, idf * self._weight(word), own, parts)
            self._words.append(weighed)
            _add(weighed, sums, adds=adds)
        self._sums, self._itself = sums, self._by_themselves()
        itself = self._itself.get
        self._rank({key: total + itself(key, 0.0) for key, total in sums.items()})

    def _by_themselves(self) -> dict[Key, float]:
        """What memories get for the words of the question that they have themselves; of one word all have the same."""
        gives: dict[Key, float] = {}
        has: dict[Key, float] = {}
        known = 0.0
        if len(self._words) < 2:
            return gives
        for word in self._words:
            weight, gain = word.weight, word.weight * (K + 1)
            known += weight
            for key, part in word.own.items():
                gives[key] = gives.get(key, 0.0) + gain * part / (part + K)
                has[key] = has.get(key, 0.0) + weight
        every = known * (1 - NOTHING) if len(self._words) == len(self._asked) else math.inf
        return {
            key: given * (ITSELF * has[key] / known + (ALL if has[key] >= every else 0.0))
            for key, given in gives.items()
        }

    def _weight(self, word: Asked) -> float:
        return NAME_WEIGHT if self._named.intersection(word.stems) else word.weight

    def _rank(self, sums: Mapping[Key, float]) -> None:
        by_session: dict[int, list[float]] = defaultdict(list)
        for key, total in sums.items():
            by_session[key >> ORDINAL_BITS].append(total)
        self._sessions = {
            session: SESSION * sum(sorted(found, reverse=True)[:SESSION_BEST]) / SESSION_BEST
            for session, found in by_session.items()
            if session_number(session << ORDINAL_BITS & _DOCUMENT_MASK)
        }
        of_session = self._sessions.get
        self._totals = {key: total + of_session(key >> ORDINAL_BITS, 0.0) for key, total in sums.items()}
        self._ranked = sorted(self._totals, key=self._totals.__getitem__, reverse=True)

    def near(self, cosines: Mapping[Key, float]) -> None:
        """Take the cosine of every memory in view that has a vector, after `score`."""
        if not cosines:
            return
        self._itself = {}
        self._rank(self._sums)
        low, high = min(cosines.values()), max(cosines.values())
        spread = (high - low) or 1.0
        nearest = sorted(cosines, key=cosines.__getitem__, reverse=True)[:NEAREST]
        self._scale = (1 - VECTOR) / (max(self._totals.values(), default=0.0) or 1.0)
        keys = dict.fromkeys([*self._totals, *nearest])
        self._cosines = {key: VECTOR * (cosines[key] - low) / spread for key in keys if key in cosines}
        totals, near = self._totals.get, self._cosines.get
        self._totals = {key: self._scale * totals(key, 0.0) + near(key, 0.0) for key in keys}
        self._ranked = sorted(self._totals, key=self._totals.__getitem__, reverse=True)

    # --- hits ---------------------------------------------------------------------------------------------------------

    def wanted(self) -> Sequence[Key]:
        """The candidates to fetch next, best first; none when the hits are found."""
        if self._next >= len(self._ranked):
            return ()
        if len(self._found) >= self.query.limit:
            last = -self._found[self.query.limit - 1][0][0]
            rise = (1 + SPEAKER if self._named else 1.0) * (1 + DATE if self._periods else 1.0)
            if self._totals[self._ranked[self._next]] * rise < last:
                return ()
        return self._ranked[self._next : self._next + self.query.limit + FETCH_MIN]

    def take(self, candidates: Iterable[Candidate]) -> None:
        """What was fetched for `wanted`, in any order; a document that is not there any more is simply missing."""
        self._next += self.query.limit + FETCH_MIN
        for candidate in candidates:
            if eligible(candidate, self.query):
                self._found.append((_order(candidate.memory, self._score(candidate)), candidate))
        self._found.sort(key=lambda pair: pair[0])

    def hits(self) -> Sequence[MemoryHit]:
        """The hits, best first."""
        return [self._hit(candidate) for _, candidate in self._found[: self.query.limit]]

    def _score(self, candidate: Candidate) -> float:
        return (
            self._totals[candidate.key]
            * math.prod(1 + rise for _, rise, _ in self._rises(candidate))
            * (1 - QUESTION if candidate.asks else 1)
        )

    def _rises(self, candidate: Candidate) -> list[tuple[ShareBy, float, tuple[str, ...]]]:
        """By how much each thing that only the memory itself tells lifts the score."""
        memory = candidate.memory
        rises: list[tuple[ShareBy, float, tuple[str, ...]]] = []
        if self._named and self._named.intersection(name_words(memory.speaker)):
            rises.append(("speaker", SPEAKER, (memory.speaker,)))
        if self._periods:
            fits = nearness(self._periods, memory.recorded_at if memory.valid_from is None else memory.valid_from)
            rises.append(("date", DATE * fits, tuple(period.words for period in self._periods)))
        return rises

    def _hit(self, candidate: Candidate) -> MemoryHit:
        key = candidate.key
        shares = _Shares()
        for word in self._words:
            given, own = word.gives(key), word.own.get(key, 0.0)
            if given:
                direct = given * own / word.parts[key]
                shares.add("words", self._scale * direct, word.asked.typed)
                shares.add("neighbour", self._scale * (given - direct), word.asked.typed)
        shares.add("words", self._scale * self._itself.get(key, 0.0))
        shares.add("session", self._scale * self._sessions.get(key >> ORDINAL_BITS, 0.0))
        shares.add("vector", self._cosines.get(key, 0.0))
        for by, rise, words in self._rises(candidate):
            shares.add(by, rise * shares.sum(), *words)
        factor = 1 - QUESTION if candidate.asks else 1.0
        return MemoryHit(candidate.memory, shares.sum() * factor, shares.listed(factor))


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


Rows = list[tuple[int, Sequence[int]]]
"""Entries of one word by place, one for each document, in any order: those of a frequent word need not be sorted."""


def _entries(word: Asked, found: Mapping[str, Mapping[int, list[bytes]]]) -> Rows:
    by_place: dict[int, list[list[bytes]]] = defaultdict(list)
    for stem in word.stems:
        for place, packed in found.get(stem, {}).items():
            by_place[place].append(packed)
    rows: Rows = []
    for place, by_stem in sorted(by_place.items()):
        entries = entries_of(b"".join(chain.from_iterable(by_stem)))
        if len(by_stem) > 1:  # a memory that has both is counted once
            rows.append((place, list({entry >> DOCUMENT_SHIFT: entry for entry in sorted(entries)}.values())))
        else:
            rows.append((place, entries))
    return rows


def _count(rows: Rows) -> int:
    return sum(len(entries) for _, entries in rows)


def _add(word: _Word, sums: dict[Key, float], *, adds: bool) -> None:
    """Add what a word gives to the sums: to all its memories, or to those that were found before."""
    weight = word.weight * (K + 1)
    if adds:
        before = sums.get
        for key, part in word.parts.items():
            sums[key] = before(key, 0.0) + weight * part / (part + K)
    else:
        for key, part in word.parts.items():
            if key in sums:
                sums[key] += weight * part / (part + K)


def _spread(rows: Rows, scale: float) -> tuple[dict[Key, float], dict[Key, float]]:
    """The parts of documents by themselves, and with what their neighbours carry to them."""
    own: dict[Key, float] = {}
    parts: dict[Key, float] = defaultdict(float)
    for place, entries in rows:
        first = key_of(place, 0)
        for entry in sorted(entries):  # so that sums are the same to the last digit, wherever they came from
            key = first + (entry >> DOCUMENT_SHIFT)
            one = 1.0 / (1 - B + scale * (entry >> 9 & LENGTH_MAX))
            own[key] = one * (entry >> 1 & COUNT_MAX)
            parts[key] += own[key]
            parts[key + 1] += CARRY_AFTER[0] * one * (QUESTION_CARRY if entry & 1 else 1.0)
            parts[key + 2] += CARRY_AFTER[1] * one
            parts[key - 1] += CARRY_BEFORE[0] * one
            parts[key - 2] += CARRY_BEFORE[1] * one
    return own, parts


def _alone(rows: Rows, scale: float) -> tuple[dict[Key, float], dict[Key, float]]:
    """The same of a frequent word, without neighbours."""
    own = {
        key_of(place, entry >> DOCUMENT_SHIFT): (entry >> 1 & COUNT_MAX) / (1 - B + scale * (entry >> 9 & LENGTH_MAX))
        for place, entries in rows
        for entry in entries
    }
    return own, own


def _within(rows: Rows, near: Mapping[Key, float]) -> Rows:
    """Entries of documents that were found already."""
    return [
        (place, [entry for entry in entries if first + (entry >> DOCUMENT_SHIFT) in near])
        for place, entries in rows
        for first in (key_of(place, 0),)
    ]


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


def _order(memory: Memory, score: float) -> tuple[float, int, str, int, str, int]:
    """The best score first, then the newest; nothing of this depends on the order of arrival."""
    return (-round(score, 9), -memory.recorded_at, memory.session, memory.position, memory.id, memory.version)
