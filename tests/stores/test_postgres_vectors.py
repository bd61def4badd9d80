"""Vectors on PostgreSQL with the extension pgvector, without it, and while only some have a copy for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from remanence.ports import Database
from remanence.recollections import MemoryHit, MemorySelector, MemoryVector
from remanence.stores.postgres.database import open_postgres
from remanence.testing.conformance.memory_laws import keep, memory, query

DIMENSIONS = 64
SAID = ["He does kickboxing", "She bakes bread", "Bread is sold", "The train is late", "A parcel broke"]
KEPT = "SELECT count(*) FROM remanence.memory_vectors"
COPIES = "SELECT count(embedding) FROM remanence.memory_vectors"
ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
SLOWLY = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END';
CREATE TRIGGER slowly BEFORE INSERT ON remanence.memory_vectors FOR EACH ROW EXECUTE FUNCTION slowly()
"""


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = await open_postgres(url)
    try:
        yield database
    finally:
        await database.close()


async def run(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await (connection.execute if ";" in statement else connection.fetchval)(statement)
    finally:
        await connection.close()


async def filled(database: Database) -> None:
    kept = [memory(text, 1, f"s{number}") for number, text in enumerate(SAID)]
    await keep(database.memories, *kept)
    dice = random.Random(1)
    vectors = [MemoryVector(m.project, m.id, m.version, tuple(dice.gauss() for _ in range(DIMENSIONS))) for m in kept]
    await database.memory_vectors.keep("m", vectors)


async def asked(database: Database) -> Sequence[MemoryHit]:
    dice = random.Random(2)
    vector = tuple(dice.gauss() for _ in range(DIMENSIONS))
    return await database.memories.search(query("bread by train", vector=vector, vector_model="m"))


async def test_a_vector_that_comes_while_its_memory_goes_does_not_stay(postgres_database: str) -> None:
    """It was computed before; an erasure that has removed the memory leaves no vector of what it said."""
    async with opened(postgres_database) as database:
        await filled(database)
        one = memory("It goes", 1, "gone")
        await keep(database.memories, one)
        await run(postgres_database, SLOWLY)
        vectors = [MemoryVector(one.project, one.id, one.version, (1.0,) * DIMENSIONS)]
        keeping = asyncio.create_task(database.memory_vectors.keep("m", vectors))
        async with asyncio.timeout(60):
            while not await run(postgres_database, ASLEEP):
                pass
        removal = await database.memories.remove(MemorySelector(project=one.project, session="gone"))
        await keeping
        assert [gone.id for gone in removal.memories] == [one.id]
        assert await run(postgres_database, KEPT) == len(SAID)


async def test_the_server_compares_as_we_do(postgres_database: str) -> None:
    async with opened(postgres_database) as database:
        await filled(database)
        assert await run(postgres_database, COPIES) == len(SAID)
        with_all = await asked(database)
        await run(postgres_database, "UPDATE remanence.memory_vectors SET embedding = NULL WHERE document % 2 = 0")
        with_some = await asked(database)
        await run(postgres_database, "DROP EXTENSION vector CASCADE")
    async with opened(postgres_database) as database:
        with_none = await asked(database)
    assert any(share.by == "vector" for hit in with_all for share in hit.why)
    assert with_all == with_some == with_none


async def test_a_server_that_lets_us_add_nothing_is_as_good(postgres_database: str) -> None:
    name = f"guest_{postgres_database.partition('/remanence_')[2].partition('?')[0]}"
    async with opened(postgres_database):
        pass
    await run(postgres_database, f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        await run(postgres_database, f"GRANT USAGE ON SCHEMA remanence TO {name}")
        await run(postgres_database, f"GRANT ALL ON ALL TABLES IN SCHEMA remanence TO {name}")
        await run(postgres_database, f"GRANT ALL ON ALL SEQUENCES IN SCHEMA remanence TO {name}")
        async with opened(postgres_database.replace("//postgres:@", f"//{name}:secret@")) as database:
            await filled(database)
            hits = await asked(database)
    finally:
        await run(postgres_database, f"DROP OWNED BY {name}")
        await run(postgres_database, f"DROP ROLE {name}")
    assert any(share.by == "vector" for hit in hits for share in hit.why)
