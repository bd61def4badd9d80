"""How fast the PostgreSQL store is, beside the floor of the same machine in the same run.

    python -m bench.store_postgres [--seconds 3] [--tasks 64] [--writers 4] [--parked 1000000] [--out result.json]

*Floor*: as many tasks, group commit over plain connections, two rows of the same size for each append in one INSERT for
the whole group, nothing else: no digests, no leases, no heads, no codec. It is measured over one connection and over as
many as the store has, and the better one counts. *Store* and *turns* are those of `bench.store`. The server is one of
our own with `fsync=on`, unless `REMANENCE_TEST_POSTGRES` names another; it shares the machine with this process.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
from bench.store import SAID, T0, appends, leases_for, repeat, turns, writes_of_a_turn

from remanence.ports import Lease
from remanence.stores.postgres.database import open_postgres
from remanence.testing.postgres import postgres_database, postgres_server

FLOOR_TABLE = "CREATE TABLE floor_rows (id bigserial PRIMARY KEY, at bigint, actor text, payload bytea, digest bytea)"
FLOOR_INSERT = (
    "INSERT INTO floor_rows (at, actor, payload, digest) "
    "SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bytea[])"
)
PARK = """
INSERT INTO sessions (id, head, digest, opened_at, updated_at, updated_minute, wake_at, behind, status, waiting_on,
    project, agent, version)
SELECT 'parked-' || n, 1, '\\x00', 0, 0, n / 1000, $1 + n, false, 'waiting', 'timer', 'default', 'agent', 'version'
FROM generate_series(1000, 999 + $2::bigint) AS n
"""


class Floor:
    """Group commit over some connections, and nothing else."""

    def __init__(self) -> None:
        self.waiting: list[tuple[list[tuple[Any, ...]], asyncio.Future[None]]] = []
        self.idle: list[tuple[asyncpg.Connection, Any]] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def open(self, url: str, connections: int) -> None:
        for _ in range(connections):
            connection = await asyncpg.connect(url)
            self.idle.append((connection, await connection.prepare(FLOOR_INSERT)))

    async def insert(self, rows: list[tuple[Any, ...]]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((rows, future))
        if self.idle:
            task = asyncio.create_task(self.serve(self.idle.pop()))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        await future

    async def serve(self, lane: tuple[asyncpg.Connection, Any]) -> None:
        while self.waiting:
            group, self.waiting = self.waiting, []
            columns = zip(*[row for rows, _ in group for row in rows], strict=True)
            await lane[1].fetch(*columns)
            for _, future in group:
                future.set_result(None)
        self.idle.append(lane)

    async def close(self) -> None:
        for connection, _ in self.idle:
            await connection.close()


async def lay_floor(url: str) -> None:
    """The table that the floor writes to."""
    connection = await asyncpg.connect(url)
    await connection.execute(FLOOR_TABLE)
    await connection.close()


async def floor(url: str, seconds: float, tasks: int, writers: int) -> dict[str, Any]:
    """Raw group-commit inserts of two rows as large as the store's, over the number of connections that does best."""
    await lay_floor(url)
    payload = b"x" * (len(SAID) + 70)
    rows = [(T0, "worker:bench", payload, payload[:32])] * 2
    measured: list[dict[str, Any]] = []
    for connections in sorted({1, writers}):
        bare = Floor()
        await bare.open(url, connections)
        figures = await repeat(seconds, tasks, lambda _task, _turn, bare=bare: bare.insert(rows))
        measured.append({"connections": connections, **figures})
        await bare.close()
    return max(measured, key=lambda figures: figures["per_s"])


async def store(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Appends of two records, then whole turns, then the turns of one session alone."""
    db = await open_postgres(url, writers=arguments.writers)
    leases = await leases_for(db, arguments.tasks)
    result = {
        "store": await appends(db, leases, arguments.seconds),
        "turns": await turns(db, leases, arguments.seconds),
        "one_session": await turns(db, leases[:1], arguments.seconds / 2),
    }
    await db.close()
    return result


async def growth(url: str) -> dict[str, Any]:
    """Bytes of all tables and indexes for each turn of a few sessions, early and late."""
    db = await open_postgres(url)
    connection = await asyncpg.connect(url)
    leases = await leases_for(db, 16)
    heads = {lease.session: 1 for lease in leases}

    async def stretch(lease: Lease, first: int) -> None:
        for turn in range(first, first + 100):
            for write in writes_of_a_turn(lease, turn, heads[lease.session]):
                heads[lease.session] = (await db.store.append(write)).head

    sizes: list[int] = []
    for first in range(0, 500, 100):
        await asyncio.gather(*(stretch(lease, first) for lease in leases))
        sizes.append(await connection.fetchval("SELECT pg_database_size(current_database())"))
    await connection.close()
    await db.close()
    return {"bytes_per_turn": [round((after - before) / 1600) for before, after in itertools.pairwise(sizes)]}


async def loading(url: str, count: int) -> float:
    """Milliseconds to open the database and load a session of so many turns, by its snapshot."""
    db = await open_postgres(url)
    (lease,) = await leases_for(db, 1)
    head = 1
    for turn in range(count):
        for write in writes_of_a_turn(lease, turn, head):
            head = (await db.store.append(write)).head
    await db.close()
    before = time.perf_counter()
    db = await open_postgres(url)
    await db.store.load(lease.session)
    took = time.perf_counter() - before
    await db.close()
    return round(took * 1e3, 2)


async def parked(url: str, count: int) -> dict[str, Any]:
    """Claiming the next due one of so many sessions that wait for a timer."""
    db = await open_postgres(url)
    connection = await asyncpg.connect(url, server_settings={"search_path": "remanence"})
    await connection.execute(PARK, T0, count)
    await connection.execute("ANALYZE sessions")
    await connection.close()
    took: list[float] = []
    for turn in range(200):
        before = time.perf_counter()
        leases = await db.store.claim("worker:bench", now=T0 + 1000 + turn, ttl_s=30.0, limit=1)
        took.append((time.perf_counter() - before) * 1e3)
        assert len(leases) == 1, "one more is due at each turn"
    await db.close()
    return {
        "sessions": count,
        "claim_ms_median": round(statistics.median(took), 3),
        "claim_ms_max": round(max(took), 3),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Each figure in a database of its own, on one server."""
    result: dict[str, Any] = {"tasks": arguments.tasks, "writers": arguments.writers, "cores": os.cpu_count()}
    with postgres_server(durable=True) as server:

        def alone(coroutine: Callable[..., Coroutine[Any, Any, Any]], *more: Any) -> Any:
            with postgres_database(server) as url:
                return asyncio.run(coroutine(url, *more))

        result["floor"] = alone(floor, arguments.seconds, arguments.tasks, arguments.writers)
        result |= alone(store, arguments)
        result["of_the_floor"] = round(result["store"]["per_s"] / result["floor"]["per_s"], 2)
        result["growth"] = alone(growth)
        result["loading"] = {f"open_and_load_after_{turns}_turns_ms": alone(loading, turns) for turns in (10, 2_000)}
        if arguments.parked:
            result["parked"] = alone(parked, arguments.parked)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the PostgreSQL store is, beside the floor.")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--parked", type=int, default=0)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments), indent=2)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
