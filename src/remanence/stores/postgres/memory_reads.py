"""Questions to the memory on PostgreSQL. Every function here reads over a connection it is given."""

from __future__ import annotations

from typing import Any

from remanence.core.memory.recall import Candidate, Recall, Totals, documents_by_place
from remanence.recollections import Memory, MemoryHit, MemoryListing, MemoryQuery, MemorySelector, MemoryStats, Place
from remanence.stores.memory_rows import COLUMNS, candidate_of, listed, listed_whole, memory_of, terms_of
from remanence.stores.postgres.connect import Connection
from remanence.stores.postgres.vectors import nearest
from remanence.stores.refusals import no_memory, unselective

__all__ = ["begun", "get", "history", "listing", "places", "search", "selected", "stats", "versions"]

_FROM = "FROM memories m JOIN memory_places p ON p.place = m.place"
_PAGE = 200
_TERMS_MAX = 64
"""Words of one question that are looked for."""

# One statement, because a memory that is added between two of them would be among the words and not in the sums.
_ASKED = """
WITH places AS (
    SELECT p.place, p.memories, p.words FROM memory_places p
    JOIN unnest($2::text[], $3::text[]) AS w (store, scope) USING (store, scope) WHERE p.project = $1
)
SELECT 'place' AS what, place, '' AS name, memories, words, NULL::bytea AS entries FROM places
UNION ALL SELECT 'word', place, word, 0, 0, entries FROM memory_words
    WHERE place = ANY (ARRAY(SELECT place FROM places)) AND word = ANY ($4::text[])
UNION ALL SELECT 'name', 0, name, sum(memories)::bigint, 0, NULL FROM memory_names
    WHERE place = ANY (ARRAY(SELECT place FROM places)) AND name = ANY ($4::text[]) GROUP BY name
"""


async def search(connection: Connection, query: MemoryQuery) -> list[MemoryHit]:
    """The best hits, best first."""
    recall = Recall(query)
    stems = recall.stems[:_TERMS_MAX]
    readable = sorted(set(query.readable))
    if not readable or not (stems or query.vector):
        return []
    names = [place.store for place in readable], [place.scope for place in readable]
    rows = await connection.fetch(_ASKED, query.project, *names, stems)
    places = [row for row in rows if row["what"] == "place"]
    if not places:
        return []
    numbers = [row["place"] for row in places]
    entries = [(row["place"], row["name"], row["entries"]) for row in rows if row["what"] == "word"]
    speakers = {row["name"]: row["memories"] for row in rows if row["what"] == "name"}
    totals = Totals(sum(row["memories"] for row in places), sum(row["words"] for row in places))
    recall.score(totals, entries, speakers)
    recall.near(await nearest(connection, query, numbers))
    while wanted := recall.wanted():
        candidates: list[Candidate] = []
        for place, documents in documents_by_place(wanted).items():
            found = await connection.fetch(
                f"SELECT {COLUMNS} {_FROM} WHERE m.place = $1 AND m.document = ANY ($2::bigint[])", place, documents
            )
            candidates += [candidate_of(tuple(row)) for row in found]
        recall.take(candidates)
    return list(recall.hits())


# --- one memory, lists, counts ----------------------------------------------------------------------------------------


async def versions(connection: Connection, project: str, memory: str) -> list[Memory]:
    """Every version, oldest first; none when there is no such memory."""
    rows = await connection.fetch(
        f"SELECT {COLUMNS} {_FROM} WHERE m.project = $1 AND m.id = $2 ORDER BY m.version", project, memory
    )
    return [memory_of(tuple(row)) for row in rows]


async def history(connection: Connection, project: str, memory: str) -> list[Memory]:
    """Every version, oldest first. Raises NotFound."""
    found = await versions(connection, project, memory)
    if not found:
        raise no_memory(project, memory, None)
    return found


async def get(connection: Connection, project: str, memory: str, version: int | None) -> Memory:
    """One version, by default the newest. Raises NotFound."""
    for found in reversed(await history(connection, project, memory)):
        if version is None or found.version == version:
            return found
    raise no_memory(project, memory, version)


async def listing(connection: Connection, asked: MemoryListing) -> list[Memory]:
    """The memories of a listing, newest first; every version by id when that is asked for."""
    terms, values = _where({"p.project": asked.project, **terms_of(asked)}, asked.subject)
    if asked.kinds and "episode" not in asked.kinds:
        terms.append("m.kind <> 'episode'")  # said in the words of the index
    if asked.places is not None:
        values += [[place.store for place in asked.places], [place.scope for place in asked.places]]
        terms.append(
            f"(p.store, p.scope) IN (SELECT * FROM unnest(${len(values) - 1}::text[], ${len(values)}::text[]))"
        )
    if asked.every_version:
        return await _whole(connection, asked, terms, values)
    rows: list[Candidate] = []
    start, size = 0, max(_PAGE, asked.limit)  # a long listing is one look, so that what goes meanwhile shifts nothing
    while True:
        page = await connection.fetch(
            f"SELECT {COLUMNS} {_FROM} WHERE {' AND '.join(terms)} "
            f"ORDER BY m.recorded_at DESC, m.id DESC, m.version DESC LIMIT {size} OFFSET {start}",
            *values,
        )
        rows += [candidate_of(tuple(row)) for row in page]
        start += size
        found = listed(rows, asked)
        if len(page) < size or len(found) >= asked.limit:
            return found[: asked.limit]


async def _whole(connection: Connection, asked: MemoryListing, terms: list[str], values: list[Any]) -> list[Memory]:
    """All versions of memories, by id, from where the index has the first of them."""
    found: list[Memory] = []
    after, left = asked.after or "", asked.limit
    where = f"{' AND '.join(terms)} AND m.project = $1 AND m.id > ${len(values) + 1}"
    while left > 0:
        ids = await connection.fetch(
            f"SELECT DISTINCT m.id {_FROM} WHERE {where} ORDER BY m.id LIMIT {min(left, _PAGE)}", *values, after
        )
        if not ids:
            break
        names, after = [row["id"] for row in ids], ids[-1]["id"]
        rows = await connection.fetch(
            f"SELECT {COLUMNS} {_FROM} WHERE m.project = $1 AND m.id = ANY ($2::text[]) ORDER BY m.id, m.version",
            *(asked.project, names),
        )
        some = listed_whole([tuple(row) for row in rows], asked)
        found += some
        left -= len({memory.id for memory in some})
    return found


async def places(connection: Connection, project: str) -> list[Place]:
    """Where memories of a project lie, in order."""
    rows = await connection.fetch(
        "SELECT store, scope FROM memory_places WHERE project = $1 AND memories > 0 ORDER BY store, scope", project
    )
    return [Place(row["store"], row["scope"]) for row in rows]


async def selected(connection: Connection, selector: MemorySelector) -> list[tuple[int, int, Memory]]:
    """What a selector means: place, document and memory of each version. Raises InvalidInput for everything."""
    given = terms_of(selector)
    if not given and selector.subject is None:
        raise unselective(selector)
    terms, values = _where({"m.project": selector.project, **given}, selector.subject)
    rows = await connection.fetch(
        f"SELECT {COLUMNS} {_FROM} WHERE {' AND '.join(terms)} ORDER BY m.place, m.document", *values
    )
    found = [tuple(row) for row in rows]
    return [(row[2], row[3], memory_of(row)) for row in found]


def _where(given: dict[str, Any], subject: str | None) -> tuple[list[str], list[Any]]:
    """Terms over `given`; the project is the first of them."""
    terms: list[str] = []
    values: list[Any] = []
    for column, value in given.items():
        values.append(value)
        terms.append(f"{column} = ANY (${len(values)})" if isinstance(value, list) else f"{column} = ${len(values)}")
    if subject is not None:
        values.append(subject)
        terms.append(
            "(m.place, m.document) IN (SELECT place, document FROM memory_subjects "
            f"WHERE project = $1 AND subject = ${len(values)})"
        )
    return terms, values


async def begun(connection: Connection) -> int:
    """How often the index was begun anew."""
    return await connection.fetchval("SELECT begun FROM memory_index") or 0


async def stats(connection: Connection) -> MemoryStats:
    """Counts."""
    rows = await connection.fetch("SELECT kind, count(*) FROM memories WHERE version = 1 GROUP BY kind ORDER BY kind")

    async def count(table: str) -> int:
        return await connection.fetchval(f"SELECT count(*) FROM {table}") or 0

    by_kind: dict[str, int] = dict(map(tuple, rows))
    rows = await connection.fetch("SELECT model, count(*) FROM memory_vectors GROUP BY model ORDER BY model")
    vectors: dict[str, int] = dict(map(tuple, rows))
    kept, used = await count("memories"), await count("memory_places")
    return MemoryStats(by_kind, kept, used, await count("memory_words"), vectors)
