"""A load run: so many people at once over one site, whose processes are killed and restarted meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx2
from msgspec import Struct

from remanence.app import open_database
from remanence.ports import Clock
from remanence.runtime.bell import Bell
from remanence.testing.load.check import Figures, check
from remanence.testing.load.person import Person
from remanence.testing.load.responder import Responder
from remanence.testing.load.sender import Sender
from remanence.testing.load.site import Site

__all__ = ["Load", "run_load"]

_MICROS = 1_000_000
_LOOK_S = 0.01


class Load(Struct, frozen=True):
    """How much. A worker is killed about every `turns_to_kill` turns of all sessions together, the server restarted
    about every `turns_to_restart`: faults come with progress, so a slow machine meets as many as a fast one. A session
    that is not done after `seconds_max` is wedged."""

    sessions: int = 200
    turns: int = 20
    workers: int = 2
    turns_to_kill: int = 80
    turns_to_restart: int = 400
    seconds_max: float = 900.0
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
                (Person, Responder)[number % 2](client, number, clock=clock, dice=random.Random(dice.random()))
                for number in range(load.sessions)
            ]
            began_at, over = clock.now(), Bell()
            lives = [asyncio.create_task(person.live(load.turns)) for person in people]
            ways = clock, dice, over
            fates = (
                _befall(lambda: site.kill_worker(dice), load.turns_to_kill, people, ways),
                _befall(site.restart_server, load.turns_to_restart, people, ways),
            )
            fate = [asyncio.create_task(one) for one in fates]
            try:
                finished = await _wait(lives, fate, people, load, tell)
                over.set()
                await asyncio.gather(*fate)
            finally:
                await _end([*lives, *fate])
            figures.seconds = round((clock.now() - began_at) / _MICROS, 1)
            figures.kills, figures.restarts = site.kills, site.restarts
            await _judge(figures, database, list(zip(people, finished, strict=True)), load)
            site.check()
    return figures


async def _wait(
    lives: list[asyncio.Task[None]],
    fate: list[asyncio.Task[None]],
    people: Sequence[Sender],
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


async def _befall(
    act: Callable[[], Awaitable[None]], every: int, people: Sequence[Sender], ways: tuple[Clock, random.Random, Bell]
) -> None:
    """Do something about every so many turns, until it is over."""
    clock, dice, over = ways
    due = 0.0
    while not over.is_set():
        due += every * dice.uniform(0.5, 1.5)
        while sum(person.turns_done for person in people) < due:
            if await clock.wait(over, _LOOK_S):
                return
        await act()


async def _judge(figures: Figures, url: str, lives: list[tuple[Person | Responder, bool]], load: Load) -> None:
    database = await open_database(url)
    try:
        for person, finished in lives:
            await check(figures, database, person, load.turns, finished=finished)
    finally:
        await database.close()
