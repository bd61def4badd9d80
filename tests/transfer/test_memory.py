"""Moving a session takes memory for a page of it, not for the whole."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from moving import World, runtime

from remanence.app import open_database
from remanence.commands.caller import commit
from remanence.commands.copying import copy_database
from remanence.commands.sessions import Opening
from remanence.commands.transfer import export_session, import_session, verify_session
from remanence.events import MemoryKept
from remanence.ports import Write

RECORDS = 2_000
TEXT = "a fact worth keeping " * 1_000
BUDGET_BYTES = 30_000_000
"""The journal holds 42 MB of text."""


async def test_memory_does_not_grow_with_the_session(tmp_path: Path) -> None:
    async with runtime(f"sqlite:///{tmp_path}/a.db", World(), worker=False) as rt:
        await rt.open("support", opening=Opening(session="s1"))
        for number in range(0, RECORDS, 50):
            facts = tuple(MemoryKept("notes", f"m{number + i}", TEXT) for i in range(50))
            await commit(rt.caller, Write("s1", facts, rt.caller.clock.now(), "ada"))
        tracemalloc.start()
        try:
            await export_session(rt.caller, "s1", tmp_path / "s.zip")
            assert (await verify_session(rt.caller, "s1")).intact
            assert (await import_session(rt.caller, tmp_path / "s.zip", as_session="s2")).records == RECORDS + 1
            target = await open_database(f"sqlite:///{tmp_path}/b.db")
            copied = await copy_database(rt.database, target)
            await target.close()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert copied.sessions == 2
    assert peak < BUDGET_BYTES
