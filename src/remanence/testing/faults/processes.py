"""Real workers, really killed: `SIGKILL` before and after store writes and effects, on SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from os import kill
from pathlib import Path
from typing import Any

from remanence.app import make_id, open_database
from remanence.commands.caller import Caller
from remanence.commands.sessions import open_session
from remanence.ports import Database
from remanence.runtime.clock import SystemClock
from remanence.runtime.live import Hub
from remanence.testing.faults.check import Figures, check
from remanence.testing.faults.scenario import Person, spec_of
from remanence.testing.faults.world import World

__all__ = ["kill_workers"]

POINTS_MAX = 30
"""A worker dies at one of its first so many points: a session of about a hundred meets several deaths."""
RUN_S_MAX = 60.0
"""How long a session may take before it counts as stuck."""
_LOOK_S = 0.004


async def kill_workers(
    url: str, folder: Path, kills: int, *, seed: int = 0, tell: Callable[[Figures], None] | None = None
) -> Figures:
    """Run sessions, each over as many worker deaths as it meets, until `kills` workers were killed."""
    total = Figures()
    dice = random.Random(seed)
    database = await open_database(url)
    nursery = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "remanence.testing.faults.nursery", stdin=PIPE, stdout=PIPE
    )
    try:
        while total.kills < kills:
            world = folder / f"world-{total.runs}.db"
            total.add(await _run(Ward(nursery, url, world, dice), database))
            if tell is not None:
                tell(total)
    finally:
        if nursery.stdin is not None:
            nursery.stdin.close()
        await nursery.wait()
        await database.close()
    return total


class Ward:
    """The workers of one session, one after another."""

    def __init__(self, nursery: Process, url: str, world: Path, dice: random.Random) -> None:
        self._nursery = nursery
        self._url = url
        self._dice = dice
        self.world = world
        self.kills = 0
        self.pid = 0

    async def bear(self) -> None:
        """Fork the next worker, with a point to die at."""
        order = {
            "database": self._url,
            "world": str(self.world),
            "kill_at": self._dice.randint(1, POINTS_MAX),
            "name": f"worker-{self.kills}",
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
    """One session from its first input to its rest."""
    clock, world = SystemClock(), World(ward.world)
    caller = Caller(database, Hub(clock), clock, make_id, actor="user:ada")
    session = await open_session(caller, spec_of())
    person = Person(caller, session, world)
    talk = asyncio.create_task(_talk(person))
    deadline = asyncio.get_running_loop().time() + RUN_S_MAX
    while not talk.done() and asyncio.get_running_loop().time() < deadline:
        await ward.bear()
        death = asyncio.create_task(ward.death())
        await asyncio.wait((talk, death), timeout=RUN_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        if not death.done():
            kill(ward.pid, signal.SIGTERM)
        await death
    settled = talk.done()
    talk.cancel()
    await asyncio.gather(talk, return_exceptions=not settled)
    figures = check(
        await database.store.read(session),
        world,
        person.told,
        await database.controls.budgets(f"session:{session}"),
        settled=settled,
    )
    figures.kills = ward.kills
    world.close()
    return figures


async def _talk(person: Person) -> None:
    while await person.step():
        await SystemClock().sleep(_LOOK_S)
