"""Erasure against everything that may happen at the same time: recalls, notes, forks, exports, crashes, rebuilds."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_erasure import AGENT, RARE, SECRET, Broken, bytes_with, commanded

from remanence import Remanence
from remanence.app import Options, Session
from remanence.commands import erasure, sessions
from remanence.commands.consolidation import Consolidating
from remanence.commands.proof import check_receipt
from remanence.commands.transfer import export_session
from remanence.commands.verification import verify_session
from remanence.errors import NotFound, StoreUnavailable
from remanence.events import Recorded, TurnEnded
from remanence.models.scripted import Scripted
from remanence.ports import SessionQuery

ADA, NAME, BLOCK = "ada@quokkawell.example", b"quokkawell", b"zelmira"
MOVES = ("tell", "note", "block", "ask", "fork", "export", "crash", "erase", "rebuild", "ben", "help", "consolidate")


class Play:
    """A few people and what they do, one thing after the other or two at once."""

    def __init__(self, rt: Remanence) -> None:
        self.rt = rt
        self.sessions: list[Session] = []

    async def move(self, name: str) -> None:
        match name:
            case "tell" | "note" | "block" | "ask":
                await self._speak(name, user=ADA)
            case "help":
                await self._help()
            case "ben":
                await self._speak("ask", user="ben")
            case "fork":
                if self.sessions:
                    self.sessions.append(await self.sessions[-1].fork())
            case "export":
                if self.sessions:
                    await export_session(self.rt.caller, self.sessions[-1].id, io.BytesIO())
            case "crash":
                broken = replace(self.rt.caller, database=Broken(self.rt.database, 1))  # pyright: ignore[reportArgumentType]
                await self._erase(broken)
            case "erase":
                await self._erase(self.rt.caller)
            case "consolidate":
                await self.rt.memory.consolidate(Consolidating("scripted"), now=True)
            case _:
                await self.rt.memory.rebuild()

    async def _speak(self, what: str, *, user: str) -> None:
        session = await self.rt.open(AGENT, user=user)
        said = {
            "tell": f"Remember: {SECRET}.",
            "note": f'memory_write {{"text": "{SECRET}"}}',
            "block": f'memory_block {{"name": "daughter_zelmira", "text": "{SECRET}"}}',
            "ask": "Where is the spare key?",
        }
        await session.send(said[what])
        self.sessions.append(session)

    async def _help(self) -> None:
        """She does something in another person's session."""
        session = await self.rt.open(AGENT, user="ben")
        await sessions.freeze(replace(self.rt.caller, actor=ADA), session.id)
        await sessions.thaw(replace(self.rt.caller, actor=ADA), session.id)
        self.sessions.append(session)

    async def _erase(self, caller: erasure.Caller) -> None:
        try:
            await erasure.erase(caller, "user", ADA, reason=f"{ADA} asked to")
        except (NotFound, StoreUnavailable):
            return  # there was nothing yet, or it died on the way


async def play(url: str, moves: Sequence[tuple[str, ...]]) -> None:
    async with Remanence(url, options=Options(model=Scripted(commanded))) as rt:
        acts = Play(rt)
        await acts.move("tell")
        for together in moves:
            await asyncio.gather(*(acts.move(name) for name in together))
        await erasure.resume(rt.caller)
        await at_rest(rt)  # what a model still has in view it may say again
        await acts.move("erase")
        await rt.memory.catch_up()
        for gone in (RARE, NAME, BLOCK):
            assert await bytes_with(rt, gone) == []
        for session in acts.sessions:
            assert (await verify_session(rt.caller, session.id)).intact
            out = io.BytesIO()
            await export_session(rt.caller, session.id, out)
            with zipfile.ZipFile(out) as bundle:
                texts = [bundle.read(name).lower() for name in bundle.namelist()]
                assert not any(gone in text for text in texts for gone in (RARE, NAME, BLOCK))
        await rt.memory.rebuild()
        for gone in (RARE, NAME, BLOCK):
            assert await bytes_with(rt, gone) == []
        for receipt in await erasure.receipts(rt.caller):
            assert all(check.holds for check in await check_receipt(rt.caller, receipt, name=ADA))


async def at_rest(rt: Remanence) -> None:
    """Wait until no turn runs."""
    for row in await rt.database.views.sessions(SessionQuery(limit=200)):
        session = await rt.get(row.session)
        state = await session.state()
        if state.turn is not None or state.queue:
            async for item in session.events(after=state.head):
                if isinstance(item, Recorded) and isinstance(item.event, TurnEnded):
                    break


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(st.sampled_from(MOVES), min_size=1, max_size=2).map(tuple), max_size=5))
def test_erasure_leaves_no_trace_whatever_happens_meanwhile(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, ...]]
) -> None:
    with TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        asyncio.run(play(f"sqlite:///{Path(folder)}/r.db", moves))
