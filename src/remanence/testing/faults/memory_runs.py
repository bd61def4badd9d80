"""Runs of `remembering`: workers killed one after another, and what must hold of the memory afterwards."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import kill
from pathlib import Path
from signal import SIGTERM
from typing import Any

from remanence.app import Options, Remanence, open_database
from remanence.commands import erasure, sessions
from remanence.commands.caller import state_of
from remanence.commands.memory import Looking
from remanence.commands.proof import check_receipt
from remanence.commands.receipts import tracer_of
from remanence.content import text_of
from remanence.events import InputReceived, MemoryKept, ToolReturned
from remanence.ports import SessionQuery
from remanence.recollections import Memory
from remanence.runtime.clock import SystemClock
from remanence.stores.verify import verify_session
from remanence.testing.faults.processes import Ward, nursery
from remanence.testing.faults.remembering import AGENT, inputs_of, rare_word, texts_of
from remanence.testing.faults.sums import Sums

__all__ = ["MemoryFigures", "kill_rememberers"]

POINTS_MAX = 60
ERASING_POINTS_MAX = 40
DEATHS_MAX = 5
"""How often whoever erases dies before it is let go on."""
RUN_S_MAX = 120.0
_LOOK_S = 0.01
_LONG = 10_000


class MemoryFigures(Sums):
    """What came of the notes and erasures of runs. The stories are of receipts that do not hold."""

    KEPT = ("runs", "kills", "notes", "given_up", "erased")

    notes: int = 0
    given_up: int = 0
    """Sessions in which a worker died so often in one call that the model was told so, and nothing was noted."""
    erased: int = 0
    lost_notes: int = 0
    duplicate_notes: int = 0
    traces_left: int = 0
    false_receipts: int = 0
    differing_indexes: int = 0
    stuck_sessions: int = 0
    broken_journals: int = 0


async def kill_rememberers(
    url: str, folder: Path, kills: int, *, seed: int = 0, tell: Callable[[MemoryFigures], None] | None = None
) -> MemoryFigures:
    """Runs, until so many workers were killed."""
    total, dice = MemoryFigures(), random.Random(seed)
    database = await open_database(url)
    looking = Remanence(url, agents=[AGENT], worker=False, options=Options(database=database))
    async with nursery() as born, looking as rt:
        while total.kills < kills:
            ward = Ward(born, url, folder / "no-world.db", dice)
            total.add(await _Run(rt, ward, f"{seed}-{total.runs}").run())
            if tell is not None:
                tell(total)
    await database.close()
    return total


class _Run:
    """Two people, three sessions, and the workers that die over them."""

    def __init__(self, rt: Remanence, ward: Ward, name: str) -> None:
        self._rt = rt
        self._ward = ward
        self._ada, self._ben = f"ada-{name}", f"ben-{name}"
        self._figures = MemoryFigures(runs=1)

    async def run(self) -> MemoryFigures:
        """Talk, erase, look."""
        talks = [(self._ada, 1), (self._ada, 2), (self._ben, 3)]
        said = asyncio.gather(*(self._talk(user, number) for user, number in talks))
        await self._until(said, dying=True)
        await self._until(asyncio.ensure_future(self._at_rest()), dying=False)
        await self._rt.memory.catch_up()
        await self._check_notes(talks)
        theirs = await self._rows(self._ada)
        await self._erase()
        await self._check_erased(theirs)
        await self._check_index()
        self._figures.kills = self._ward.kills
        return self._figures

    async def _talk(self, user: str, number: int) -> None:
        """One session, each input once the one before is answered."""
        session = await self._rt.open(AGENT, user=user)
        for place, text in enumerate(inputs_of(user, number)):
            await sessions.send(self._rt.caller, session.id, text, key=f"say-{place}")
            await self._answered(session.id)

    async def _answered(self, session: str) -> None:
        s = await state_of(self._rt.caller, session)
        while s.turn is not None or s.queue:
            await SystemClock().sleep(_LOOK_S)
            s = await state_of(self._rt.caller, session)

    async def _at_rest(self) -> None:
        for row in await self._rt.database.views.sessions(SessionQuery(project="default", limit=_LONG)):
            await self._answered(row.session)

    async def _until(self, task: asyncio.Future[Any], *, dying: bool) -> None:
        """Let workers live, one after the other, until the task is done."""
        deadline = asyncio.get_running_loop().time() + RUN_S_MAX
        while not task.done() and asyncio.get_running_loop().time() < deadline:
            at = self._ward.dice.randint(1, POINTS_MAX) if dying else 0
            act = self._ward.dice.choice(("work", "work", "consolidate")) if dying else "work"
            await self._ward.bear(kill_at=at, act=act)
            death = asyncio.create_task(self._ward.death())
            await asyncio.wait((task, death), timeout=RUN_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            if not death.done():
                with suppress(ProcessLookupError):
                    kill(self._ward.pid, SIGTERM)
            await death
        self._figures.stuck_sessions += not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=not task.done())

    async def _erase(self) -> None:
        """Somebody erases a user, and dies over it, and another; at last one lives, and what was left is carried on."""
        for death in range(DEATHS_MAX + 1):
            at = self._ward.dice.randint(1, ERASING_POINTS_MAX) if death < DEATHS_MAX else 0
            before = self._ward.kills
            await self._ward.bear(kill_at=at, act="erase", user=self._ada)
            await self._ward.death()
            if self._ward.kills == before:
                break
        await erasure.resume(self._rt.caller)
        await self._rt.memory.catch_up()

    # --- what must hold -----------------------------------------------------------------------------------------------

    async def _check_notes(self, talks: Sequence[tuple[str, int]]) -> None:
        """Each note is there once, as it was last corrected; no version was written twice."""
        author = f"agent:{AGENT.spec.name}"
        for user, number in talks:
            found = [m for m in await self._notes(user) if m.author == author and f"number {number} " in m.text]
            wanted = await self._wanted(user, number)
            self._figures.given_up += not wanted
            self._figures.notes += len(found)
            self._figures.lost_notes += len(wanted - {memory.text for memory in found})
            self._figures.duplicate_notes += max(0, len(found) - len(texts_of(user, number)))
        for user in {user for user, _ in talks}:
            for row in await self._rows(user):
                facts = [r.event for r in await self._rt.database.store.read(row) if isinstance(r.event, MemoryKept)]
                twice = Counter((fact.memory, fact.version) for fact in facts)
                self._figures.duplicate_notes += sum(count - 1 for count in twice.values())

    async def _wanted(self, user: str, number: int) -> frozenset[str]:
        """What has to be noted; nothing where a call was given up, which the journal says and the model knows."""
        said = inputs_of(user, number)[0]
        for row in await self._rows(user):
            facts = [record.event for record in await self._rt.database.store.read(row)]
            if any(isinstance(fact, InputReceived) and text_of(fact.parts) == said for fact in facts):
                failed = [text_of(fact.parts) for fact in facts if isinstance(fact, ToolReturned) and fact.error]
                return frozenset() if any("worker died" in text for text in failed) else texts_of(user, number)
        raise AssertionError(f"The session of {user} with number {number} is gone.")

    async def _check_erased(self, rows: Sequence[str]) -> None:
        """Nothing of the one who was erased is found, nor who it was; all of the other's is; every receipt holds."""
        rare = rare_word(self._ada).encode()
        for session in rows:
            raw = await self._rt.database.raw(session, after=0, limit=_LONG)
            self._figures.traces_left += sum(rare in row.payload for row in raw)
        self._figures.traces_left += len(await self._rt.database.naming([self._ada])) + len(await self._rows(self._ada))
        self._figures.traces_left += len(await self._notes(self._ada))
        hits = await self._rt.memory.search(rare_word(self._ada), Looking(closed=True))
        self._figures.traces_left += sum(rare_word(self._ada) in hit.memory.text for hit in hits)
        wanted = await self._wanted(self._ben, 3)
        self._figures.lost_notes += len(wanted - {m.text for m in await self._notes(self._ben)})
        tracer = await tracer_of(self._rt.caller)
        for receipt in await erasure.receipts(self._rt.caller):
            if receipt.order.name == tracer.pseudonym(receipt.order.id, self._ada):
                self._figures.erased += len(receipt.records)
                checks = await check_receipt(self._rt.caller, receipt, name=self._ada)
                false = [f"{receipt.order.id}, {check.what}: {check.found}" for check in checks if not check.holds]
                self._figures.false_receipts += bool(false)
                self._figures.stories += false
        self._figures.false_receipts += not self._figures.erased
        for session in (*rows, *await self._rows(self._ben)):
            self._figures.broken_journals += len((await verify_session(self._rt.database, session)).flaws)

    async def _check_index(self) -> None:
        """The index made again from the journals is the one that was there, and holds nothing that was erased."""
        before = await self._everything()
        await self._rt.memory.rebuild()
        self._figures.differing_indexes += await self._everything() != before

    async def _everything(self) -> list[Memory]:
        return sorted([one async for one in self._rt.memory.export()], key=lambda one: (one.id, one.version))

    async def _notes(self, user: str) -> list[Memory]:
        looking = Looking(scopes=(f"user:{user}",), kinds=("note",), limit=_LONG)
        return list(await self._rt.memory.list(looking))

    async def _rows(self, user: str) -> list[str]:
        query = SessionQuery(project="default", user=user, limit=_LONG)
        return [row.session for row in await self._rt.database.views.sessions(query)]
