"""The crash sweep in one process: thousands of runs, every point of death, real SQLite, a clock moved by hand.

A dead worker's generation is abandoned as a SIGKILL would leave it: nothing it still holds can write or act, its lease
runs out, and the next generation claims the session under a higher epoch.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any

from remanence.commands.caller import Caller
from remanence.commands.sessions import open_session
from remanence.models.scripted import Scripted
from remanence.ports import Clock, Database, Tool
from remanence.runtime.live import Hub
from remanence.runtime.services import Services, Times
from remanence.runtime.worker import Worker
from remanence.spec import ToolSpec
from remanence.stores.sqlite.database import open_sqlite
from remanence.stores.verify import verify_session
from remanence.testing.clock import FakeClock
from remanence.testing.faults.check import Figures, check
from remanence.testing.faults.fuse import FaultyDatabase, FaultyModel, FaultyTool, Fuse, Killed
from remanence.testing.faults.scenario import Person, script, spec_of, tools_of
from remanence.testing.faults.world import World

__all__ = ["run_once", "sweep"]

LEASE_S = 30.0
STEPS_MAX = 4_000
"""How many looks a run may take before its session counts as stuck."""


class Kit:
    """The code of one agent's tools: `ports.Toolbox`."""

    def __init__(self, tools: dict[str, Tool]) -> None:
        self._tools = tools

    def find(self, agent: str, tool: str) -> Tool | None:
        return self._tools.get(tool)

    def remote(self, spec: ToolSpec) -> Tool | None:
        return None

    def agents(self) -> tuple[str, ...]:
        return ("faults",)


def worker_of(
    database: Database, world: World, clock: Clock, fuse: Fuse, *, name: str, times: Times | None = None
) -> tuple[Worker, Hub]:
    """A worker whose every write and effect is a point of the fuse."""
    hub = Hub(clock)
    services = Services(
        database=FaultyDatabase(database, fuse),
        model=FaultyModel(Scripted(script), fuse),
        tools=Kit({tool: FaultyTool(known, fuse) for tool, known in tools_of(world).items()}),
        live=hub,
        clock=clock,
        dice=random.Random(1),
        worker=name,
        times=times or Times(lease_s=LEASE_S, linger_s=0.5, poll_s=0.002, retry_base_s=0.01),
    )
    return Worker(services), hub


async def run_once(kills: Iterable[int]) -> tuple[Figures, int]:
    """One session from its first input to its rest, killed after each of `kills` points; (figures, points passed)."""
    asyncio.get_running_loop().set_exception_handler(_silence_the_dead)
    database = await open_sqlite(":memory:", ephemeral=True)
    world, clock = World(), FakeClock()
    passed = killed = 0
    try:
        caller = Caller(database, Hub(clock), clock, _ids(), actor="user:ada")
        session = await open_session(caller, spec_of())
        person = Person(caller, session, world)
        settled = False
        for at in (*kills, 0):
            blown = asyncio.Event()
            fuse = Fuse(at, blown.set)
            worker, hub = worker_of(database, world, clock, fuse, name=f"worker-{killed}")
            person.caller = Caller(database, hub, clock, caller.make_id, actor="user:ada")
            settled = await _live(worker, person, clock, fuse)
            passed += fuse.points
            if settled:
                break
            killed += fuse.blown
            clock.advance(LEASE_S + 1)
        records = await database.store.read(session)
        budgets = await database.controls.budgets(f"session:{session}")
        figures = check(records, world, person.told, budgets, settled=settled)
        figures.kills = killed
        figures.broken_journals = len((await verify_session(database, session)).flaws)
        return figures, passed
    finally:
        await database.close()
        world.close()


async def _live(worker: Worker, person: Person, clock: FakeClock, fuse: Fuse) -> bool:
    """Let a worker live until the session rests (True) or the fuse blows (False)."""
    await worker.start()
    try:
        head = -1
        for _ in range(STEPS_MAX):
            if fuse.blown:
                return False
            if not await person.step():
                return True
            s = await person.caller.database.views.session(person.session)
            if s.head == head:
                clock.advance(0.25)
            head = s.head
            await asyncio.sleep(0.0005)
        fuse.blown = True
        return False
    finally:
        if fuse.blown:
            await worker.abandon()
        else:
            await worker.stop()


def _silence_the_dead(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tasks of a killed generation end in `Killed`, which nobody awaits; everything else is reported as always."""
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)


def _ids() -> Callable[[str], str]:
    count = iter(range(1, 1_000_000))
    return lambda prefix: f"{prefix}_{next(count)}"


async def sweep(runs: int, *, seed: int = 0, tell: Callable[[Figures], None] | None = None) -> Figures:
    """Every single point of death first, then runs with several deaths at random points, until `runs` are done."""
    total, points = await run_once(())
    dice = random.Random(seed)
    for run in range(1, runs):
        kills = (run,) if run <= points else tuple(dice.randint(1, points) for _ in range(dice.randint(1, 6)))
        figures, _ = await run_once(kills)
        total.add(figures)
        if tell is not None:
            tell(total)
    return total
