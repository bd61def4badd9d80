"""Processes that race on one database, and the one that sends them: `races.py` says over what.

A racer may be killed (`SIGKILL`) or stopped past its leases at any moment. What it was doing then is unknown to whoever
asked, as it is to anybody whose server dies: it happened once, or not at all.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from remanence.app import Options, Remanence
from remanence.commands.receipts import What
from remanence.commands.verification import sessions_all, verify_session
from remanence.core.state import Session
from remanence.events import InputJoined, InputReceived, Recorded, TurnStarted
from remanence.testing.faults.racer import TIMES
from remanence.testing.faults.sums import Sums
from remanence.testing.faults.world import World

__all__ = [
    "Answer",
    "Course",
    "Raced",
    "Racer",
    "make_trouble",
    "onlooker",
    "only",
    "rests",
    "settled_state",
    "stand_still",
]

RACERS: Final = 3
SETTLE_S: Final = 120.0
_LOOK_S: Final = 0.005
_ORDERS = count(1)
_NAMES: Final = re.compile(r"[a-z]+_[0-9a-f]{20,}|/\S+|\b[0-9a-f]{8,}\b|\d+")


class Raced(Sums):
    """What came of races. `stories` tells every law that was broken."""

    KEPT = ("runs", "kills", "pauses", "orders", "refusals", "unknown")

    pauses: int = 0
    orders: int = 0
    refusals: int = 0
    unknown: int = 0
    crashes: int = 0
    broken_laws: int = 0
    lost_inputs: int = 0
    stuck_sessions: int = 0
    broken_journals: int = 0
    said: list[str] = msgspec.field(default_factory=list[str])
    """Every sentence somebody was refused with, for whoever wants to read them."""


class Answer(msgspec.Struct, frozen=True):
    """What came of an order: `ok`, the error it was `refused` with, a `crash`, or nothing, when the racer died."""

    ok: Any = None
    refused: str = ""
    message: str = ""
    crashed: str = ""
    died: bool = False

    @property
    def good(self) -> bool:
        return not (self.refused or self.crashed or self.died)


class Racer:
    """One process at a time; the next one takes the place of one that was killed."""

    def __init__(self, url: str, world: Path, name: str) -> None:
        self._arguments = (url, str(world), name)
        self._process: Process | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "remanence.testing.faults.racer", *self._arguments, stdin=PIPE, stdout=PIPE
        )
        ready = self._waiting[0] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(self._process))
        if (await ready).died:
            raise RuntimeError("a racer ended before it began; its standard error says why")

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if line.endswith(b"\n"):
                told: dict[str, Any] = json.loads(line)
                asked = self._waiting.pop(told.pop("order"))
                if not asked.done():  # whoever waited for it to begin may have been told to end
                    asked.set_result(msgspec.convert(told, Answer))
        for asked in self._waiting.values():
            if not asked.done():
                asked.set_result(Answer(died=True))
        self._waiting.clear()

    async def ask(self, verb: str, **arguments: Any) -> Answer:
        """Have a verb done. One that is dead has nothing done."""
        process = self._process
        if process is None or process.stdin is None or self._reading is None or self._reading.done():
            return Answer(died=True)
        order = next(_ORDERS)
        asked = self._waiting[order] = asyncio.get_running_loop().create_future()
        process.stdin.write(json.dumps({"order": order, "verb": verb, **arguments}).encode() + b"\n")
        return await asked

    async def kill(self) -> None:
        """SIGKILL, and a new one in its place."""
        self._alive().kill()
        await self._over()
        await self.start()

    async def pause(self) -> None:
        """Stand still past every lease it holds, then go on."""
        await stand_still(self._alive())

    async def stop(self) -> None:
        """Let it finish."""
        orders = self._alive().stdin
        if orders is not None:
            orders.close()
        await self._over()

    def _alive(self) -> Process:
        if self._process is None:
            raise RuntimeError("the racer was not started")
        return self._process

    async def _over(self) -> None:
        process = self._alive()
        await process.wait()
        if process.stdin is not None:
            with suppress(ConnectionError):  # an order that came too late: nobody is there to read it
                process.stdin.close()
                await process.stdin.wait_closed()
        if self._reading is not None:
            await self._reading


class Course:
    """The database, the world, the racers, and what is counted."""

    def __init__(self, rt: Remanence, world: World, folder: Path, dice: random.Random) -> None:
        self.rt = rt
        self.world = world
        self.folder = folder
        self.dice = dice
        self.figures = Raced()
        self.messages: Counter[str] = Counter()
        self.told: dict[str, dict[int, str]] = {}
        """Acknowledged inputs: the session's, by position, with the words."""
        self.gone: set[str] = set()
        """Sessions that were deleted or erased, whose inputs nobody owes an answer."""
        self.brought: set[str] = set()
        """Sessions that were brought in, which may have been erased of something where they came from."""
        self.erased: dict[str, str] = {}
        """Rare words that a signed receipt is about, each with what was done meanwhile."""
        self.unknown: list[tuple[What, str, Sequence[str]]] = []
        """Orders whose processes died: what of whom, and the rare words."""
        self.frozen = asyncio.Lock()
        """For whoever freezes the agent `frozen`."""
        self.racers = [Racer(rt.url, folder / "world.db", f"racer-{n}") for n in range(RACERS)]

    def broken(self, what: str) -> None:
        """A law does not hold."""
        self.figures.broken_laws += 1
        self.figures.stories.append(what)

    async def ask(self, racer: int, verb: str, **arguments: Any) -> Answer:
        """Have one racer do a verb, a little later or not, and look at the answer as anybody would."""
        await asyncio.sleep(self.dice.choice((0, 0, 0, 0.001, 0.003, 0.01)))
        answer = await self.racers[racer].ask(verb, **arguments)
        self.figures.orders += 1
        self.figures.unknown += answer.died
        if answer.crashed:
            self.figures.crashes += 1
            self.figures.stories.append(f"{verb} {arguments}: {answer.crashed}")
        if answer.refused:
            self.figures.refusals += 1
            self.messages[f"{verb}: {answer.refused}: {_NAMES.sub('...', answer.message)}"] += 1
            if not answer.message.endswith((".", ")", "`")) or len(answer.message) < 30:
                self.broken(f"{verb} was refused with {answer.message!r}, which helps nobody")
        if verb == "bring":
            self.brought.add(arguments["session"])
        if answer.good and verb == "send":
            self.told.setdefault(arguments["session"], {})[answer.ok] = arguments["text"]
        return answer

    async def all(self, *orders: tuple[str, dict[str, Any]]) -> list[Answer]:
        """Orders at once, dealt to the racers in turn from any of them on."""
        first = self.dice.randrange(RACERS)
        asked = [self.ask((first + n) % RACERS, verb, **given) for n, (verb, given) in enumerate(orders)]
        return await asyncio.gather(*asked)

    async def each(self, verb: str, *given: dict[str, Any]) -> list[Answer]:
        """The same verb by every racer at once, each with arguments of its own, or all with the same."""
        return await self.all(*((verb, given[n % len(given)]) for n in range(RACERS)))

    async def surely(self, verb: str, **arguments: Any) -> Any:
        """Do a verb, by whoever lives; only for what may be asked for again."""
        while True:
            answer = await self.ask(self.dice.randrange(RACERS), verb, **arguments)
            if not answer.died:
                return answer.ok
            await asyncio.sleep(_LOOK_S)

    async def until(self, session: str, wanted: Callable[[Session], bool]) -> Session | None:
        """The state of a session once it is as wanted; None, and counted as stuck, when it does not get there."""
        return await settled_state(self, session, wanted)

    async def records(self, session: str) -> Sequence[Recorded]:
        return await self.rt.database.store.read(session)

    async def audit(self) -> None:
        """When all is over: every session rests, every journal is whole, every input was taken once and in order."""
        for session in [session async for session in sessions_all(self.rt.caller)]:
            row = await self.rt.database.views.session(session)
            if row.summary.status != "deleted" and session not in self.gone:
                await self.until(session, rests)
            found = await verify_session(self.rt.caller, session, inherited=False)
            if not found.sound:
                self.figures.broken_journals += 1
                self.figures.stories.append(f"{session}: {found.fault} {found.wrong_snapshots}")
        for session in self.told.keys() - self.gone:
            self._audit_inputs(session, await self.records(session))

    def _audit_inputs(self, session: str, records: Sequence[Recorded]) -> None:
        received = {r.position for r in records if isinstance(r.event, InputReceived)}
        taken: list[int] = []
        for r in records:
            if isinstance(r.event, TurnStarted):
                taken += r.event.inputs
            elif isinstance(r.event, InputJoined):
                taken.append(r.event.position)
        lost = [position for position in self.told[session] if position not in received or position not in taken]
        if lost or len(taken) != len(set(taken)):
            self.figures.lost_inputs += 1
            self.figures.stories.append(f"{session}: told {self.told[session]}, lost {lost}, taken {taken}")


class Mortal(Protocol):
    """A process that may be killed, and stand still."""

    async def kill(self) -> None: ...

    async def pause(self) -> None: ...


async def stand_still(process: Process) -> None:
    """Stop a process past every lease it holds, then let it go on."""
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2 * TIMES.lease_s)
    process.send_signal(signal.SIGCONT)


async def make_trouble(c: Course, among: Sequence[Mortal], every: int, *, midst_s: float = 0.0) -> None:
    """Kill one of some processes, or stop it past its leases, about once in so many races; with 0, never. `midst_s`:
    how long after the beginning of a race at most."""
    due = every
    while every:
        await asyncio.sleep(0.01)
        if c.figures.runs < due:
            continue
        due = c.figures.runs + c.dice.randrange(1, 2 * every)
        await asyncio.sleep(midst_s and c.dice.uniform(0, midst_s))
        one = c.dice.choice(among)
        if c.dice.random() < 0.25:
            c.figures.pauses += 1
            await one.pause()
        else:
            c.figures.kills += 1
            await one.kill()


def only(c: Course, answers: Sequence[Answer], allowed: str, what: str) -> None:
    """Nobody is refused for another reason than these."""
    for answer in answers:
        if answer.refused and answer.refused not in allowed.split():
            c.broken(f"{what}: refused with {answer.refused}: {answer.message}")


def rests(s: Session) -> bool:
    """Whether nothing more is to be expected of a session: a fork of a frozen one is frozen, and of a call whose
    process died and whose arguments were erased only a person can say what became."""
    if s.deleted or s.frozen is not None:
        return True
    if s.turn is None:
        return not s.queue
    return any(call.state == "in_doubt" and call.erased for call in s.turn.calls)


async def settled_state(course: Course, session: str, wanted: Callable[[Session], bool]) -> Session | None:
    """See `Course.until`."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    handle = await course.rt.get(session)
    while not wanted(s := await handle.state()):
        if asyncio.get_running_loop().time() > deadline:
            course.figures.stuck_sessions += 1
            row = await course.rt.database.views.session(session)
            course.figures.stories.append(
                f"{session} does not get on: {s.turn}, queue {s.queue}, pause {s.pause}, {row}"
            )
            return None
        await asyncio.sleep(_LOOK_S)
    return s


def onlooker(url: str) -> Remanence:
    """Who sets the races up and looks at what came of them: it has no worker."""
    return Remanence(url, worker=False, options=Options(actor="steward"))
