"""A load run: so many people at once over one site, whose processes are killed and restarted meanwhile."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from pathlib import Path

import httpx2
from msgspec import Struct

from remanence.app import open_database
from remanence.ports import Clock
from remanence.runtime.bell import Bell
from remanence.testing.load.check import Figures, check
from remanence.testing.load.person import Person
from remanence.testing.load.site import Site

__all__ = ["Load", "run_load"]

_MICROS = 1_000_000
_ENDS = (signal.SIGKILL, signal.SIGTERM)


class Load(Struct, frozen=True):
    """How much. A worker is killed every `kill_every_s`, the server restarted every `restart_every_s`; a session that
    is not done after `seconds_max` is wedged."""

    sessions: int = 200
    turns: int = 20
    workers: int = 2
    kill_every_s: float = 4.0
    restart_every_s: float = 15.0
    seconds_max: float = 600.0
    seed: int = 0


async def run_load(
    load: Load, database: str, folder: Path, *, clock: Clock, tell: Callable[[str], None] | None = None
) -> Figures:
    """Run it on a database that is empty or not there yet; `folder` takes settings and script. Returns what was found.

    Raises RuntimeError when a process ends that nobody killed, or a request is refused that should not be.
    """
    dice = random.Random(load.seed)
    figures = Figures()
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx2.Timeout(30, read=60)
    async with Site(database, folder, workers=load.workers, clock=clock) as site:
        headers = {"authorization": f"Bearer {site.key}", "openai-beta": "agents=v1"}
        async with httpx2.AsyncClient(base_url=site.url, headers=headers, limits=limits, timeout=timeout) as client:
            people = [
                Person(client, number, clock=clock, dice=random.Random(dice.random()))
                for number in range(load.sessions)
            ]
            began_at, over = clock.now(), Bell()
            lives = [asyncio.create_task(person.live(load.turns)) for person in people]
            fates = _kill(site, load, clock, dice, over), _restart(site, load, clock, over)
            fate = [asyncio.create_task(befall) for befall in fates]
            try:
                finished = await _wait(lives, fate, people, load, tell)
                over.set()
                await asyncio.gather(*fate)
            finally:
                await _end([*lives, *fate])
            figures.seconds = round((clock.now() - began_at) / _MICROS, 1)
            figures.kills, figures.restarts = site.kills, site.restarts
            await _judge(figures, database, client, list(zip(people, finished, strict=True)), load)
            site.check()
    return figures


async def _wait(
    lives: list[asyncio.Task[None]],
    fate: list[asyncio.Task[None]],
    people: list[Person],
    load: Load,
    tell: Callable[[str], None] | None,
) -> list[bool]:
    """Whether each has had its turns when all have, or the time is over. Raises what any of them raised."""
    try:
        async with asyncio.timeout(load.seconds_max):
            waiting: set[asyncio.Task[None]] = {*lives}
            while waiting:
                done, _ = await asyncio.wait({*waiting, *fate}, timeout=1, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                waiting -= done
                if tell is not None:
                    tell(f"{sum(person.turns_done for person in people)} turns, {len(waiting)} sessions to go")
    except TimeoutError:
        pass  # who is not done is counted as wedged
    return [life.done() for life in lives]


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _kill(site: Site, load: Load, clock: Clock, dice: random.Random, over: Bell) -> None:
    while not await clock.wait(over, load.kill_every_s * dice.uniform(0.5, 1.5)):
        await site.kill_worker(dice)


async def _restart(site: Site, load: Load, clock: Clock, over: Bell) -> None:
    while not await clock.wait(over, load.restart_every_s):
        await site.restart_server(_ENDS[site.restarts % len(_ENDS)])


async def _judge(
    figures: Figures, url: str, client: httpx2.AsyncClient, lives: list[tuple[Person, bool]], load: Load
) -> None:
    database = await open_database(url)
    try:
        for person, finished in lives:
            await check(figures, database, client, person, load.turns, finished=finished)
    finally:
        await database.close()
