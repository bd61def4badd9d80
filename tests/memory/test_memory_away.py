"""A memory that cannot be asked, or fails, does not hold a turn up; the journal says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from test_remembering import AGENT, commanded

from remanence import Remanence
from remanence.app import Options, open_database
from remanence.errors import StoreUnavailable
from remanence.events import MemoryRecalled
from remanence.models.scripted import Scripted
from remanence.ports import Database


class Failing:
    """A database whose memory fails when it is searched; all the rest is real."""

    def __init__(self, whole: Any, error: Exception) -> None:
        self._whole = whole
        self._error = error

    def __getattr__(self, name: str) -> Any:
        if name == "memories":
            return Failing(self._whole.memories, self._error)
        return getattr(self._whole, name)

    async def search(self, query: object) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (StoreUnavailable("the index is away"), "could not be asked: the index is away"),
        (ZeroDivisionError("a mistake of ours"), "failed in an unforeseen way"),
    ],
)
async def test_a_turn_goes_on_without_its_memory(tmp_path: Path, error: Exception, says: str) -> None:
    real = await open_database(f"sqlite:///{tmp_path}/r.db")
    try:
        options = Options(model=Scripted(commanded), database=cast("Database", Failing(real, error)))
        async with Remanence(options=options) as rt:
            session = await rt.open(AGENT, user="ada")
            assert "Where do my parcels go?" in await session.send("Where do my parcels go?")
            (recalled,) = [r.event for r in await session.history() if isinstance(r.event, MemoryRecalled)]
            assert says in recalled.note
            assert "And now?" in await session.send("And now?")
    finally:
        await real.close()
