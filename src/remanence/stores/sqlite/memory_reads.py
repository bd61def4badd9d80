"""Questions to the memory on SQLite. Every function here is one read, in a reader's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from remanence.core.memory.recall import Candidate, Recall, Totals, documents_by_place
from remanence.recollections import (
    Memory,
    MemoryHit,
    MemoryListing,
    MemoryQuery,
    MemorySelector,
    MemoryStats,
    Place,
)
from remanence.stores.memory_rows import COLUMNS, candidate_of, listed, listed_whole, memory_of, terms_of
from remanence.stores.refusals import no_memory, unselective
from remanence.stores.sqlite.vectors import nearest

__all__ = ["begun", "get", "history", "listing", "places", "search", "selected", "stats", "versions"]

_FROM = "FROM memories m JOIN memory_places p ON p.place = m.place"
_PAGE = 200
_TERMS_MAX = 64
"""Words of one question that are looked for."""


def search(connection: sqlite3.Connection, query: MemoryQuery) -> list[MemoryHit]:
    """The best hits, best first."""
    recall = Recall(query)
    stems = recall.stems[:_TERMS_MAX]
    places = {row[0]: row[1:] for place in dict.fromkeys(query.readable) for row in _place(connection, query, place)}
    if not places or not (stems or query.vector):
        return []
    marks = f"({', '.join('?' * len(stems))})"
    entries: list[tuple[int, str, bytes]] = []
    speakers: dict[str, int] = {}
    for place in places:
        words = f"SELECT place, word, entries FROM memory_words WHERE place = ? AND word IN {marks}"
        entries += connection.execute(words, (place, *stems)).fetchall()
        names = f"SELECT name, memories FROM memory_names WHERE place = ? AND name IN {marks}"
        for name, count in connection.execute(names, (place, *stems)):
            speakers[name] = speakers.get(name, 0) + count
    totals = Totals(sum(row[0] for row in places.values()), sum(row[1] for row in places.values()))
    recall.score(totals, entries, speakers)
    recall.near(nearest(connection, query, list(places)))
    while wanted := recall.wanted():
        recall.take(
            candidate
            for place, documents in documents_by_place(wanted).items()
            for candidate in _candidates(connection, place, documents)
        )
    return list(recall.hits())


def _place(connection: sqlite3.Connection, query: MemoryQuery, place: Place) -> list[tuple[int, int, int]]:
    return connection.execute(
        "SELECT place, memories, words FROM memory_places WHERE project = ? AND store = ? AND scope = ?",
        (query.project, place.store, place.scope),
    ).fetchall()


def _candidates(connection: sqlite3.Connection, place: int, documents: Sequence[int]) -> Iterator[Candidate]:
    marks = ", ".join("?" * len(documents))
    rows = connection.execute(
        f"SELECT {COLUMNS} {_FROM} WHERE m.place = ? AND m.document IN ({marks})", (place, *documents)
    )
    return map(candidate_of, rows.fetchall())


# --- one memory, lists, counts ----------------------------------------------------------------------------------------


def versions(connection: sqlite3.Connection, project: str, memory: str) -> list[Memory]:
    """Every version, oldest first; none when there is no such memory."""
    rows = connection.execute(
        f"SELECT {COLUMNS} {_FROM} WHERE m.project = ? AND m.id = ? ORDER BY m.version", (project, memory)
    )
    return [memory_of(row) for row in rows.fetchall()]


def history(connection: sqlite3.Connection, project: str, memory: str) -> list[Memory]:
    """Every version, oldest first. Raises NotFound."""
    found = versions(connection, project, memory)
    if not found:
        raise no_memory(project, memory, None)
    return found


def get(connection: sqlite3.Connection, project: str, memory: str, version: int | None) -> Memory:
    """One version, by default the newest. Raises NotFound."""
    for found in reversed(history(connection, project, memory)):
        if version is None or found.version == version:
            return found
    raise no_memory(project, memory, version)


def listing(connection: sqlite3.Connection, asked: MemoryListing) -> list[Memory]:
    """The memories of a listing, newest first; every version by id when that is asked for."""
    terms, values = _where({"p.project": asked.project, **terms_of(asked)}, asked.subject)
    source = _FROM
    if asked.places is not None:
        # One look each, and from there to the memories: else every place of the project is looked at.
        terms[0] = f"+{terms[0]}"
        one = "SELECT place FROM memory_places WHERE project = ? AND store = ? AND scope = ?"
        terms.append(f"m.place IN ({' UNION ALL '.join([one] * len(asked.places))})" if asked.places else "0")
        values += [name for place in asked.places for name in (asked.project, place.store, place.scope)]
    if asked.every_version:
        return _whole(connection, asked, terms, values)
    if asked.kinds and "episode" not in asked.kinds:
        # Said in the words of the index, and by its name: without statistics the planner takes the whole place.
        source = _FROM.replace("memories m", "memories m INDEXED BY memories_but_episodes")
        terms.append("m.kind <> 'episode'")
    rows: list[Candidate] = []
    start, size = 0, max(_PAGE, asked.limit)  # a long listing is one look, so that what goes meanwhile shifts nothing
    while True:
        page = connection.execute(
            f"SELECT {COLUMNS} {source} WHERE {' AND '.join(terms)} "
            "ORDER BY m.recorded_at DESC, m.id DESC, m.version DESC LIMIT ? OFFSET ?",
            (*values, size, start),
        ).fetchall()
        rows += map(candidate_of, page)
        start += size
        found = listed(rows, asked)
        if len(page) < size or len(found) >= asked.limit:
            return found[: asked.limit]


def _whole(connection: sqlite3.Connection, asked: MemoryListing, terms: list[str], values: list[Any]) -> list[Memory]:
    """All versions of memories, by id, from where the index has the first of them."""
    # Named, and the place looked up last, so that the memories come in the order of the index, and no page is sorted.
    ordered = "FROM memories m INDEXED BY memories_by_id CROSS JOIN memory_places p ON p.place = m.place"
    found: list[Memory] = []
    after, left = asked.after or "", asked.limit
    while left > 0:
        ids = connection.execute(
            f"SELECT DISTINCT m.id {ordered} WHERE m.project = ? AND m.id > ? AND {' AND '.join(terms)} "
            "ORDER BY m.id LIMIT ?",
            (asked.project, after, *values, min(left, _PAGE)),
        ).fetchall()
        if not ids:
            break
        names, after = [row[0] for row in ids], ids[-1][0]
        rows = connection.execute(
            f"SELECT {COLUMNS} {_FROM} WHERE m.project = ? AND m.id IN ({', '.join('?' * len(names))}) "
            "ORDER BY m.id, m.version",
            (asked.project, *names),
        )
        some = listed_whole(rows.fetchall(), asked)
        found += some
        left -= len({memory.id for memory in some})
    return found


def selected(connection: sqlite3.Connection, selector: MemorySelector) -> list[tuple[int, int, Memory]]:
    """What a selector means: place, document and memory of each version. Raises InvalidInput for everything."""
    given = terms_of(selector)
    if not given and selector.subject is None:
        raise unselective(selector)
    terms, values = _where({"m.project": selector.project, **given}, selector.subject)
    rows = connection.execute(
        f"SELECT {COLUMNS} {_FROM} WHERE {' AND '.join(terms)} ORDER BY m.place, m.document", values
    )
    return [(row[2], row[3], memory_of(row)) for row in rows.fetchall()]


def _where(given: dict[str, Any], subject: str | None) -> tuple[list[str], list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    for column, value in given.items():
        if isinstance(value, list):
            many: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
            terms.append(f"{column} IN ({', '.join('?' * len(many))})")
            values += many
        else:
            terms.append(f"{column} = ?")
            values.append(value)
    if subject is not None:
        project = given.get("p.project", given.get("m.project"))
        terms.append(
            "(m.place, m.document) IN (SELECT place, document FROM memory_subjects WHERE project = ? AND subject = ?)"
        )
        values += (project, subject)
    return terms, values


def places(connection: sqlite3.Connection, project: str) -> list[Place]:
    """Where memories of a project lie, in order."""
    query = "SELECT store, scope FROM memory_places WHERE project = ? AND memories > 0 ORDER BY store, scope"
    return [Place(*row) for row in connection.execute(query, (project,))]


def begun(connection: sqlite3.Connection) -> int:
    """How often the index was begun anew."""
    return connection.execute("SELECT begun FROM memory_index").fetchone()[0]


def stats(connection: sqlite3.Connection) -> MemoryStats:
    """Counts."""
    by_kind = dict(
        connection.execute("SELECT kind, count(*) FROM memories WHERE version = 1 GROUP BY kind ORDER BY kind")
    )

    def count(table: str) -> int:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    vectors = dict(connection.execute("SELECT model, count(*) FROM memory_vectors GROUP BY model ORDER BY model"))
    return MemoryStats(by_kind, count("memories"), count("memory_places"), count("memory_words"), vectors)
