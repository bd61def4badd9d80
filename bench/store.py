"""How fast the SQLite store is, beside the floor of the same machine in the same run.

    python -m bench.store [--seconds 3] [--tasks 64] [--parked 1000000] [--folder .] [--out result.json]

*Floor*: as many tasks, a bare writer thread with group commit, one INSERT per row of the same size, nothing else: no
digests, no leases, no heads, no codec. *Store*: the same rows through `Store.append`. *Turns*: the five writes of a
turn with one tool call, each durable before the next. Every figure is of a file with `synchronous=FULL`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import queue
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from remanence.content import Text, ToolCall, Usage
from remanence.events import (
    CallJudged,
    InputReceived,
    ModelCalled,
    ModelReplied,
    SessionOpened,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Database, Lease, Summary, Write
from remanence.stores.sqlite.database import open_sqlite

T0 = 1_790_000_000_000_000
SAID = "x" * 300
DIGEST = "d" * 64
FLOOR_TABLE = "CREATE TABLE rows (id INTEGER PRIMARY KEY, at INTEGER, actor TEXT, payload BLOB, digest BLOB)"


async def repeat(seconds: float, tasks: int, step: Callable[[int, int], Awaitable[object]]) -> dict[str, float]:
    """Run `step(task, turn)` over and over in that many tasks for so long: how many a second, how long one takes."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def one(task: int) -> int:
        turn = 0
        while (before := time.perf_counter()) < end:
            await step(task, turn)
            took.append(time.perf_counter() - before)
            turn += 1
        return turn

    started, cpu = time.perf_counter(), time.process_time()
    done = sum(await asyncio.gather(*(one(task) for task in range(tasks))))
    elapsed, cpu = time.perf_counter() - started, time.process_time() - cpu
    took.sort()
    return {
        "per_s": round(done / elapsed),
        "cpu_us_each": round(cpu / done * 1e6, 1),
        "ms_median": round(statistics.median(took) * 1e3, 3),
        "ms_p99": round(took[int(len(took) * 0.99)] * 1e3, 3),
    }


# --- the floor --------------------------------------------------------------------------------------------------------


class Floor:
    """A writer thread with group commit and nothing else."""

    def __init__(self, path: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.jobs: queue.SimpleQueue[tuple[list[tuple[Any, ...]], asyncio.Future[None]] | None] = queue.SimpleQueue()
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(FLOOR_TABLE)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while (job := self.jobs.get()) is not None:
            group = [job]
            for _ in range(self.jobs.qsize()):
                more = self.jobs.get()
                if more is None:
                    self.jobs.put(None)
                    break
                group.append(more)
            self.connection.execute("BEGIN IMMEDIATE")
            rows = [row for rows, _ in group for row in rows]
            self.connection.executemany("INSERT INTO rows VALUES (NULL, ?, ?, ?, ?)", rows)
            self.connection.execute("COMMIT")
            self.loop.call_soon_threadsafe(self.tell, [future for _, future in group])

    def tell(self, futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            future.set_result(None)

    async def insert(self, rows: list[tuple[Any, ...]]) -> None:
        future: asyncio.Future[None] = self.loop.create_future()
        self.jobs.put((rows, future))
        await future

    def close(self) -> None:
        self.jobs.put(None)
        self.thread.join()
        self.connection.close()


async def floor(folder: Path, seconds: float, tasks: int) -> dict[str, Any]:
    """Raw group-commit inserts of two rows as large as the store's."""
    bare = Floor(str(folder / "floor.db"))
    payload = b"x" * (len(SAID) + 70)
    rows = [(T0, "worker:bench", payload, payload[:32])] * 2
    measured = await repeat(seconds, tasks, lambda _task, _turn: bare.insert(rows))
    bare.close()
    return measured


# --- the store --------------------------------------------------------------------------------------------------------


async def leases_for(db: Database, tasks: int) -> list[Lease]:
    """A leased session for each task."""
    summary = Summary("agent", "version", "default")
    for task in range(tasks):
        opened = SessionOpened("agent", "version", "policy")
        await db.store.append(Write(f"session-{task}", (opened,), T0, "bench", summary=summary, wake=True))
    return list(await db.store.claim("worker:bench", now=T0, ttl_s=600.0, limit=tasks))


async def appends(db: Database, leases: list[Lease], seconds: float) -> dict[str, Any]:
    """Two records of about 370 bytes each, under a lease."""

    def step(task: int, turn: int) -> Awaitable[object]:
        said = InputReceived(f"in-{turn}", (Text(SAID),))
        return db.store.append(Write(leases[task].session, (said, said), T0, "worker:bench", lease=leases[task]))

    return await repeat(seconds, len(leases), step)


def writes_of_a_turn(lease: Lease, turn: int, head: int) -> list[Write]:
    """The five writes of a turn with one tool call: nine records, two contents of 300 bytes."""
    session, call = lease.session, f"call_{turn}_2_0"
    model = f"call_{turn}_1_0"
    busy = Summary("agent", "version", "default", status="in_progress", turns=turn)
    done = Summary("agent", "version", "default", turns=turn + 1)
    called = ModelCalled(model, turn, "openai:gpt", turn, head, DIGEST)
    asked = ModelReplied(model, (ToolCall(call, "lookup", '{"q": "' + SAID + '"}'),), Usage(900, 80), 42, "tool_calls")
    judged = CallJudged(call, "allow", DIGEST, DIGEST, "allow lookup")
    returned = ToolReturned(call, (Text(SAID),))
    answered = ModelReplied(model, (Text("Here is what I found out."),), Usage(990, 20), 42)

    def write(*events: Any, expect: int | None, **more: Any) -> Write:
        return Write(session, events, T0, "worker:bench", expect=expect, lease=lease, **more)

    started = ToolStarted(call, "lookup", f"{session}:{turn}:{call}", "safe")
    return [
        Write(session, (InputReceived(f"in-{turn}", (Text("Please look this up."),)),), T0, "ada", wake=True),
        write(TurnStarted(turn, (head + 1,)), called, expect=head + 1, effects=True, summary=busy),
        write(asked, judged, started, expect=None, effects=True),
        write(returned, called, expect=None, effects=True),
        write(answered, TurnEnded(turn, "completed"), expect=None, summary=done, snapshot=b"s" * 200),
    ]


async def turns(db: Database, leases: list[Lease], seconds: float) -> dict[str, Any]:
    """Whole turns, each write durable before the next begins."""
    heads: dict[str, int] = {}

    async def step(task: int, turn: int) -> None:
        lease = leases[task]
        if lease.session not in heads:
            heads[lease.session] = (await db.views.session(lease.session)).head
        for write in writes_of_a_turn(lease, turn, heads[lease.session]):
            heads[lease.session] = (await db.store.append(write)).head

    return await repeat(seconds, len(leases), step)


async def growth(folder: Path) -> dict[str, Any]:
    """Bytes of the file for each turn of a few sessions, early and late."""
    path = folder / "growth.db"
    sizes: list[int] = []
    db = await open_sqlite(str(path))
    leases = await leases_for(db, 16)
    heads = {lease.session: 1 for lease in leases}

    async def stretch(lease: Lease, first: int) -> None:
        for turn in range(first, first + 100):
            for write in writes_of_a_turn(lease, turn, heads[lease.session]):
                heads[lease.session] = (await db.store.append(write)).head

    for first in range(0, 500, 100):
        await asyncio.gather(*(stretch(lease, first) for lease in leases))
        sizes.append((await db.views.stats())["bytes"])
    await db.close()
    per_turn = [round((after - before) / 1600) for before, after in itertools.pairwise(sizes)]
    return {"bytes_per_turn": per_turn}


# --- one among many ---------------------------------------------------------------------------------------------------

NUMBERS = """
WITH RECURSIVE numbers(value) AS (SELECT 1000 UNION ALL SELECT value + 1 FROM numbers WHERE value < ?2 + 1000)
"""
PARK = {
    "sessions (id, name, opened_at)": "value, 'parked-' || value, 0",
    "heads": "value, 1, zeroblob(32), 0, value / 1000, 1, NULL, NULL, ?1 + value, 0, '', 0",
    "summaries": "value, 'agent', 'version', 'default', '', 'waiting', 'timer', '', 1, 0, 0",
}


async def parked(folder: Path, count: int) -> dict[str, Any]:
    """Claiming the next due one of so many sessions that wait for a timer, and what opening costs beside them."""
    path = folder / "parked.db"
    await (await open_sqlite(str(path))).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, values in PARK.items():
            connection.execute(f"INSERT INTO {table} {NUMBERS} SELECT {values} FROM numbers", (T0, count))
    connection.close()
    before = time.perf_counter()
    db = await open_sqlite(str(path))
    opened_ms = (time.perf_counter() - before) * 1e3
    took: list[float] = []
    for turn in range(200):
        before = time.perf_counter()
        leases = await db.store.claim("worker:bench", now=T0 + 1000 + turn, ttl_s=30.0, limit=1)
        took.append((time.perf_counter() - before) * 1e3)
        assert len(leases) == 1, "one more is due at each turn"
    await db.close()
    return {
        "sessions": count,
        "open_ms": round(opened_ms, 2),
        "claim_ms_median": round(statistics.median(took), 3),
        "claim_ms_max": round(max(took), 3),
    }


async def loading(folder: Path) -> dict[str, Any]:
    """Loading a session with a snapshot, near its beginning and after many turns, in a database just opened."""
    found: dict[str, Any] = {}
    for count in (10, 2_000):
        path = folder / f"long-{count}.db"
        db = await open_sqlite(str(path))
        (lease,) = await leases_for(db, 1)
        head = 1
        for turn in range(count):
            for write in writes_of_a_turn(lease, turn, head):
                head = (await db.store.append(write)).head
        await db.close()
        before = time.perf_counter()
        db = await open_sqlite(str(path))
        await db.store.load(lease.session)
        found[f"open_and_load_after_{count}_turns_ms"] = round((time.perf_counter() - before) * 1e3, 2)
        await db.close()
    return found


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-") as name:
        folder = Path(name)
        result: dict[str, Any] = {"tasks": arguments.tasks, "cores": os.cpu_count(), "sqlite": sqlite3.sqlite_version}
        result["floor"] = await floor(folder, arguments.seconds, arguments.tasks)
        db = await open_sqlite(str(folder / "store.db"))
        leases = await leases_for(db, arguments.tasks)
        result["store"] = await appends(db, leases, arguments.seconds)
        result["turns"] = await turns(db, leases, arguments.seconds)
        result["one_session"] = await turns(db, leases[:1], arguments.seconds / 2)
        await db.close()
        result["of_the_floor"] = round(result["store"]["per_s"] / result["floor"]["per_s"], 2)
        result["growth"] = await growth(folder)
        result["loading"] = await loading(folder)
        if arguments.parked:
            result["parked"] = await parked(folder, arguments.parked)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast the SQLite store is, beside the floor.")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--parked", type=int, default=0)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    text = json.dumps(asyncio.run(measure(arguments)), indent=2)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
