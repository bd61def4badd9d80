"""Where the scenes play: one directory with the journal and the ledger, runtimes opened on it, and worker processes.

A worker process is a real one: its own interpreter, its own connection to the same files. It ends when its standard
input does, so it never outlives the tour, and it dies when it is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from remanence.agent import Agent
from remanence.app import Options, Remanence, Session
from remanence.commands.sessions import Opening
from remanence.demo.agents import remembering_agent, support_agent
from remanence.demo.script import reply
from remanence.demo.shop import order_book
from remanence.demo.stage import Stage
from remanence.demo.world import World
from remanence.events import BudgetReached, CallJudged, Event, Recorded, ToolLost, TurnEnded
from remanence.models.configuration import ModelConfig
from remanence.models.prices import Prices
from remanence.models.scripted import Scripted
from remanence.ports import Model
from remanence.runtime.services import Times

__all__ = [
    "PATIENCE_S",
    "SCRIPTED",
    "WORKER_TIMES",
    "Theatre",
    "WorkerProcess",
    "agents_of",
    "asked",
    "models",
    "rests",
    "until",
]

SCRIPTED = "scripted:tour"
PRICES = Prices(input=3_000_000, output=15_000_000)
"""The script's pretended prices, in micro-USD per million tokens, so that budgets have something to count."""

WORKER_TIMES = Times(lease_s=2.5, linger_s=0.5, drain_s=5.0, poll_s=0.1)
"""A short lease, so that the tour need not wait half a minute until a dead worker is missed."""

PATIENCE_S = 90.0
"""How long a scene waits for a turn. A script needs milliseconds; a model may think."""


def models() -> Mapping[str, Model]:
    """The scripted model of the tour, by its name."""
    return {SCRIPTED: Scripted(reply, prices=PRICES)}


def agents_of(world: World, model: str) -> tuple[Agent, Agent]:
    """The tour's agents, the same in every process: the one that acts, and the one that remembers.

    The script is brief; a model may think before it speaks.
    """
    tokens = 300 if model == SCRIPTED else 2_000
    return support_agent(world, model, output_tokens=tokens), remembering_agent(world, model, output_tokens=tokens)


class Theatre:
    """One tour: its stage, its files, its model. `configs` are the project's model aliases."""

    def __init__(
        self,
        stage: Stage,
        directory: Path,
        model: str = SCRIPTED,
        configs: Mapping[str, ModelConfig] | None = None,
    ) -> None:
        self.stage = stage
        self.directory = directory
        self.model = model
        self.configs = configs or {}
        self.url = f"sqlite:///{directory / 'remanence.db'}"
        self.ledger = directory / "ledger.db"
        self.world = World(self.ledger)
        self.world.charge({order.order: order.cents for order in order_book().values()})
        self.agent, self.remembering = agents_of(self.world, model)

    @property
    def scripted(self) -> bool:
        return self.model == SCRIPTED

    def close(self) -> None:
        self.world.close()

    @asynccontextmanager
    async def runtime(self, *, worker: bool = True) -> AsyncGenerator[Remanence, None]:
        """A runtime of this process. Without `worker` it only reads and writes; another process does the work."""
        async with Remanence(
            self.url,
            agents=[self.agent, self.remembering],
            models=models(),
            model_configs=self.configs,
            worker=worker,
            options=Options(times=WORKER_TIMES, actor="you"),
        ) as rt:
            yield rt

    async def open(self, rt: Remanence, session: str, *, user: str = "desk", remembering: bool = False) -> Session:
        """A new session under a name that reads well."""
        agent = self.remembering if remembering else self.agent
        return await rt.open(agent, opening=Opening(session=session, user=user))

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[WorkerProcess, None]:
        """A worker process on the same files."""
        configs = msgspec.json.encode(list(self.configs.values())).decode()
        with (self.directory / "worker.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "remanence.demo.worker", self.url, str(self.ledger), self.model, configs),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        worker = WorkerProcess(process)
        try:
            yield worker
        finally:
            await worker.stop()


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def kill(self) -> int:
        """SIGKILL: no last word, no clean-up. Returns what the system says of its end (-9)."""
        os.kill(self.pid, signal.SIGKILL)
        return await self._process.wait()

    async def stop(self) -> None:
        """Let it give its sessions back and end; after a while, insist."""
        if self._process.returncode is not None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(WORKER_TIMES.drain_s + 5):
                await self._process.wait()
        except TimeoutError:
            await self.kill()


# --- waiting ----------------------------------------------------------------------------------------------------------


def rests(event: Event) -> bool:
    """Whether a session goes no further by itself after this: a turn ended, or it waits for somebody."""
    match event:
        case TurnEnded() | BudgetReached():
            return True
        case CallJudged(verdict=verdict):
            return verdict == "ask"
        case _:
            return False


def lost(event: Event) -> bool:
    """An outcome nobody can vouch for."""
    return isinstance(event, ToolLost)


async def until(
    session: Session, ends: Callable[[Event], bool] = rests, *, after: int = 0, times: int = 1
) -> list[Recorded]:
    """The records after a position, up to the one that `ends`, or the last of so many. Raises TimeoutError."""
    records: list[Recorded] = []
    async with asyncio.timeout(PATIENCE_S):
        async for item in session.events(after=after):
            if not isinstance(item, Recorded):
                continue
            records.append(item)
            times -= ends(item.event)
            if times == 0:
                return records
    return records


async def asked(session: Session, text: str) -> list[Recorded]:
    """Say something and wait until the session rests: the records from the input on."""
    accepted = await session.submit(text)
    return await until(session, after=accepted.head - 1)
