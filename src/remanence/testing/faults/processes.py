"""Real workers, really killed: `SIGKILL` before and after store writes and effects, on SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from os import kill
from pathlib import Path
from typing import Any

from remanence.app import make_id, open_database
from remanence.commands.caller import Caller
from remanence.commands.sessions import open_session
from remanence.ports import Database
from remanence.runtime.clock import SystemClock
from remanence.runtime.live import Hub
from remanence.stores.verify import verify_session
from remanence.testing.faults.check import Figures, Pause, check
from remanence.testing.faults.nursery import TIMES
from remanence.testing.faults.scenario import Person, spec_of
from remanence.testing.faults.world import World

__all__ = ["Ward", "kill_workers", "nursery", "pause_workers"]

POINTS_MAX = 30
"""A worker dies at one of its first so many points: a session of about a hundred meets several deaths."""
RUN_S_MAX = 60.0
"""How long a session may take before it counts as stuck."""
_LOOK_S = 0.004
_NUMBERS = count(1)


async def kill_workers(
    url: str, folder: Path, kills: int, *, seed: int = 0, tell: Callable[[Figures], None] | None = None
) -> Figures:
    """Run sessions, each over as many worker deaths as it meets, until `kills` workers were killed."""
    total = Figures()
    dice = random.Random(seed)
    database = await open_database(url)
    async with nursery() as born:
        while total.kills < kills:
            world = folder / f"world-{total.runs}.db"
            total.add(await _run(Ward(born, url, world, dice), database))
            if tell is not None:
                tell(total)
    await database.close()
    return total


async def pause_workers(
    url: str, folder: Path, pauses: int, *, seed: int = 0, tell: Callable[[Figures], None] | None = None
) -> Figures:
    """Make zombies: stop a worker in the middle of its work, let another take over, and let the first go on.

    `kills` of the figures counts the pauses. A zombie may change nothing: what it still writes is refused.
    """
    total = Figures()
    dice = random.Random(seed)
    database = await open_database(url)
    async with nursery() as first, nursery() as second:
        while total.kills < pauses:
            world = folder / f"paused-{total.runs}.db"
            wards = Ward(first, url, world, dice), Ward(second, url, world, dice)
            total.add(await _haunt(*wards, database))
            if tell is not None:
                tell(total)
    await database.close()
    return total


async def _haunt(one: Ward, other: Ward, database: Database) -> Figures:
    """One session that two workers take from each other, each stopped past its lease in turn."""
    person = await _person(database, World(one.world))
    talk = asyncio.create_task(_talk(person))
    await one.bear(kill_at=0)
    await other.bear(kill_at=0)
    pauses: list[Pause] = []
    deadline = asyncio.get_running_loop().time() + RUN_S_MAX
    while not talk.done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(one.dice.uniform(0.0, 0.05))
        ward = (one, other)[len(pauses) % 2]
        clock = SystemClock()
        began = clock.now()
        kill(ward.pid, signal.SIGSTOP)
        await asyncio.sleep(2 * TIMES.lease_s)
        pauses.append(Pause(ward.pid, began, clock.now()))
        kill(ward.pid, signal.SIGCONT)
    figures = await _figures(person, database, talk, pauses)
    figures.kills = len(pauses)
    for ward in (one, other):
        kill(ward.pid, signal.SIGTERM)
        await ward.death()
    return figures


@asynccontextmanager
async def nursery() -> AsyncGenerator[Process]:
    """The warm process that forks workers."""
    born = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "remanence.testing.faults.nursery", stdin=PIPE, stdout=PIPE
    )
    try:
        yield born
    finally:
        if born.stdin is not None:
            born.stdin.close()
        await born.wait()


class Ward:
    """The workers of one session, one after another."""

    def __init__(self, born: Process, url: str, world: Path, dice: random.Random) -> None:
        self._nursery = born
        self._url = url
        self.dice = dice
        self.world = world
        self.kills = 0
        self.pid = 0

    async def bear(self, *, kill_at: int, **more: str) -> None:
        """Fork the next worker, with a point to die at (0: none); `more` says what it is for (see the nursery)."""
        order = {
            "database": self._url,
            "world": str(self.world),
            "kill_at": kill_at,
            "name": f"worker-{next(_NUMBERS)}",
            **more,
        }
        if self._nursery.stdin is None:
            raise RuntimeError("the nursery has no standard input")
        self._nursery.stdin.write(json.dumps(order).encode() + b"\n")
        self.pid = (await self._line())["pid"]

    async def death(self) -> None:
        """Wait for the end of the worker; a kill is counted, any other end is a failure of the run."""
        status = (await self._line())["status"]
        if status not in (-signal.SIGKILL, -signal.SIGTERM, 0):
            raise RuntimeError(f"a worker ended with status {status}; its standard error says why")
        self.kills += status == -signal.SIGKILL

    async def _line(self) -> dict[str, Any]:
        if self._nursery.stdout is None:
            raise RuntimeError("the nursery has no standard output")
        return json.loads(await self._nursery.stdout.readline())


async def _run(ward: Ward, database: Database) -> Figures:
    """One session from its first input to its rest, over as many workers as it takes."""
    world = World(ward.world)
    person = await _person(database, world)
    talk = asyncio.create_task(_talk(person))
    deadline = asyncio.get_running_loop().time() + RUN_S_MAX
    while not talk.done() and asyncio.get_running_loop().time() < deadline:
        await ward.bear(kill_at=ward.dice.randint(1, POINTS_MAX))
        death = asyncio.create_task(ward.death())
        await asyncio.wait((talk, death), timeout=RUN_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        if not death.done():
            with suppress(ProcessLookupError):  # it has just died; its death is on the way here
                kill(ward.pid, signal.SIGTERM)
        await death
    figures = await _figures(person, database, talk)
    figures.kills = ward.kills
    return figures


async def _person(database: Database, world: World) -> Person:
    clock = SystemClock()
    caller = Caller(database, Hub(clock), clock, make_id, actor="user:ada")
    return Person(caller, await open_session(caller, spec_of()), world)


async def _figures(
    person: Person, database: Database, talk: asyncio.Task[None], pauses: Sequence[Pause] = ()
) -> Figures:
    """Hold the finished session against the world."""
    settled = talk.done()
    talk.cancel()
    await asyncio.gather(talk, return_exceptions=not settled)
    budgets = await database.controls.budgets(f"session:{person.session}")
    records = await database.store.read(person.session)
    figures = check(records, person.world, person.told, budgets, pauses, settled=settled)
    figures.broken_journals = len((await verify_session(database, person.session)).flaws)
    person.world.close()
    return figures


async def _talk(person: Person) -> None:
    while await person.step():
        await SystemClock().sleep(_LOOK_S)
