"""How fast whole turns are, through the real runtime, beside the floor of the same machine in the same run.

    python -m bench.turns [--store sqlite|postgres] [--seconds 5] [--sessions 64] [--processes 2] [--turns 2000]
                          [--long 100000]

The workload of one turn: a user message, a model reply with one tool call (about 300 bytes), the tool's result (about
300 bytes), a final reply; every step is durable before the next starts. The model is scripted and answers at once.

*Floor*: as many tasks, each doing the four inserts of a turn one after another (3, 3, 2, 2 rows of the sizes the
journal has) through bare group commit, and nothing else: no loop, no digests, no leases, no codec.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE
from typing import Any

from bench import store, store_postgres
from bench.agents import AGENT, SAID, find, options
from bench.long_session import lay_down

from remanence import Agent
from remanence.app import Remanence, Session, open_database
from remanence.events import Recorded
from remanence.runtime.process import settle
from remanence.testing.postgres import postgres_database, postgres_server

ROWS_OF_A_TURN = (3, 3, 2, 2)
ROW_BYTES = 370
HERE = Path(__file__).parent.parent


# --- the floor --------------------------------------------------------------------------------------------------------


async def floor(url: str, folder: Path, seconds: float, tasks: int) -> dict[str, Any]:
    """Turns of bare inserts."""
    row = (store.T0, "worker:bench", b"x" * ROW_BYTES, b"d" * 32)
    if url.startswith("sqlite"):
        bare = store.Floor(str(folder / "floor.db"))
        insert, close = bare.insert, bare.close
    else:
        await store_postgres.lay_floor(url)
        pool = store_postgres.Floor()
        await pool.open(url, 2)
        insert, close = pool.insert, None
    measured = await store.repeat(seconds, tasks, _turn_of(insert, row))
    if close is not None:
        close()
    else:
        await pool.close()
    return measured


def _turn_of(insert: Callable[[list[Any]], Awaitable[None]], row: Any) -> Callable[[int, int], Awaitable[object]]:
    async def turn(task: int, number: int) -> None:
        for rows in ROWS_OF_A_TURN:
            await insert([row] * rows)

    return turn


# --- whole turns ------------------------------------------------------------------------------------------------------


async def many(url: str, seconds: float, sessions: int) -> dict[str, Any]:
    """So many sessions at once, turn after turn."""
    async with Remanence(url, options=options()) as rt:
        opened = [await rt.open(AGENT, user="bench") for _ in range(sessions)]
        await asyncio.gather(*(session.send(SAID) for session in opened))
        settle()

        async def turn(task: int, number: int) -> None:
            await opened[task].send(SAID)

        measured = await store.repeat(seconds, sessions, turn)
        before = (await rt.database.views.stats())["bytes"]
        for _ in range(20):
            await asyncio.gather(*(session.send(SAID) for session in opened))
        after = (await rt.database.views.stats())["bytes"]
        measured["bytes_per_turn"] = round((after - before) / 20 / sessions)
    return measured


def many_in_processes(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same, with the sessions shared out to some processes, each with a worker and an agent of its own."""
    share = arguments.sessions // arguments.processes
    command = [sys.executable, "-m", "bench.turns", "--share", str(share), "--url", url]
    command += ["--seconds", str(arguments.seconds)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=HERE, stdin=PIPE, stdout=PIPE, text=True))
            for _ in range(arguments.processes)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # it is ready
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()  # go
        measured = [json.loads(process.stdout.read()) for process in processes if process.stdout is not None]
    return {
        "processes": arguments.processes,
        "per_s": sum(one["per_s"] for one in measured),
        "cpu_us_each": round(statistics.mean(one["cpu_us_each"] for one in measured), 1),
        "ms_median": round(statistics.mean(one["ms_median"] for one in measured), 3),
        "ms_p99": max(one["ms_p99"] for one in measured),
    }


async def be_one_of_many(url: str, seconds: float, sessions: int) -> dict[str, Any]:
    """Inside one of the processes."""
    agent = Agent(f"bench-{os.getpid()}", model="scripted", instructions="Answer.", tools=[find])
    async with Remanence(url, options=options()) as rt:
        opened = [await rt.open(agent, user="bench") for _ in range(sessions)]
        await asyncio.gather(*(session.send(SAID) for session in opened))
        settle()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)

        async def turn(task: int, number: int) -> None:
            await opened[task].send(SAID)

        return await store.repeat(seconds, sessions, turn)


async def one(url: str, turns: int) -> dict[str, Any]:
    """One session alone: what a turn takes at its beginning and at its end."""
    took: list[float] = []
    async with Remanence(url, options=options()) as rt:
        session = await rt.open(AGENT, user="bench")
        for _ in range(turns + 100):
            before = time.perf_counter()
            await session.send(SAID)
            took.append((time.perf_counter() - before) * 1e3)
    early, late = statistics.median(took[10:110]), statistics.median(took[turns : turns + 100])
    return {
        "ms_at_turn_10": round(early, 3),
        f"ms_at_turn_{turns}": round(late, 3),
        "late_to_early": round(late / early, 3),
        "ms_median": round(statistics.median(took), 3),
    }


# --- a fresh process --------------------------------------------------------------------------------------------------


async def fresh(url: str, turns: int, tries: int) -> dict[str, Any]:
    """Milliseconds, after import, until a new process is ready to take the next turn of a session of so many turns."""
    database = await open_database(url)
    session = await lay_down(database, AGENT.spec, turns)
    await database.close()
    took = [_fresh_process(url, session) for _ in range(tries)]
    return {key: round(statistics.median(t[key] for t in took), 2) for key in took[0]}


def _fresh_process(url: str, session: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.turns", "--fresh", session, "--url", url]
    done = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


async def be_fresh(url: str, session: str) -> dict[str, float]:
    """Inside the fresh process: `ready` is state and window in memory, `called` the model call of the next turn."""
    started = time.perf_counter()
    called: list[float] = []
    async with Remanence(url, agents=[AGENT], options=options(lambda: called.append(time.perf_counter()))) as rt:
        handle = Session(rt, session)
        state = await handle.state()
        window = await rt.database.store.read(session, after=state.window.from_position - 1)
        ready = time.perf_counter()
        async for item in handle.send(SAID):
            if isinstance(item, Recorded) and called:
                break
    return {"ready_ms": (ready - started) * 1e3, "called_ms": (called[0] - ready) * 1e3, "window_records": len(window)}


# --- forks ------------------------------------------------------------------------------------------------------------


async def forks(url: str, turns: int, tries: int) -> dict[str, Any]:
    """Milliseconds to fork one long session near its beginning and near its end, turn and turn about."""
    async with Remanence(url, agents=[AGENT], options=options(), worker=False) as rt:
        session = Session(rt, await lay_down(rt.database, AGENT.spec, turns))
        took: dict[int, list[float]] = {turns // 50: [], turns - turns // 50: []}
        for _ in range(tries * 4):
            for turn, times in took.items():
                before = time.perf_counter()
                await session.fork(turn=turn)
                times.append((time.perf_counter() - before) * 1e3)
    early, late = (statistics.median(times) for times in took.values())
    at = {f"ms_at_turn_{turn}": round(statistics.median(times), 2) for turn, times in took.items()}
    return {**at, "early_to_late": round(early / late, 2)}


# --- all of it --------------------------------------------------------------------------------------------------------


async def measure(url: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one store."""
    result: dict[str, Any] = {"cores": os.cpu_count(), "sessions": arguments.sessions}
    result["floor_turns"] = await floor(url, folder, arguments.seconds, arguments.sessions)
    result["turns"] = await many(url, arguments.seconds, arguments.sessions)
    result["of_the_floor"] = round(result["turns"]["per_s"] / result["floor_turns"]["per_s"], 2)
    result["turns_in_processes"] = await asyncio.to_thread(many_in_processes, url, arguments)
    result["of_the_floor_in_processes"] = round(
        result["turns_in_processes"]["per_s"] / result["floor_turns"]["per_s"], 2
    )
    result["one_session"] = await one(url, arguments.turns)
    result["fresh_at_turn_1001"] = await fresh(url, 1_000, arguments.tries)
    result["forks"] = await forks(url, 5_000, arguments.tries)
    late = await fresh(url, arguments.long, arguments.tries)
    result[f"fresh_at_turn_{arguments.long + 1}"] = late
    result["fresh_late_to_early"] = round(late["ready_ms"] / result["fresh_at_turn_1001"]["ready_ms"], 2)
    return result


def main() -> None:
    """Measure one store, or be the fresh process of a measurement."""
    parser = argparse.ArgumentParser(description="How fast whole turns are, beside the floor.")
    parser.add_argument("--store", default="sqlite", choices=("sqlite", "postgres"))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2_000)
    parser.add_argument("--long", type=int, default=100_000)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--out")
    parser.add_argument("--fresh", help=argparse.SUPPRESS)
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fresh:
        sys.stdout.write(json.dumps(asyncio.run(be_fresh(arguments.url, arguments.fresh))))
        return
    if arguments.share:
        measured = asyncio.run(be_one_of_many(arguments.url, arguments.seconds, arguments.share))
        sys.stdout.write(json.dumps(measured))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".", prefix="bench-"))).resolve()
        url = f"sqlite:///{folder}/turns.db"
        if arguments.store == "postgres":
            url = stack.enter_context(postgres_database(stack.enter_context(postgres_server(durable=True))))
        text = json.dumps(asyncio.run(measure(url, folder, arguments)), indent=2)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
