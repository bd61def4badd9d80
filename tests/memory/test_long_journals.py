"""A store of memories that grew long is written to as one that is new: its journal has no worker to look after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from remanence import Remanence
from remanence.commands.verification import verify_session
from remanence.core.memory.journal import journal_of
from remanence.core.snapshots import SNAPSHOT_EVERY_RECORDS
from remanence.recollections import Place

ADAS = Place("default", "user:ada")
JOURNAL = journal_of("default", "default")
MANY = SNAPSHOT_EVERY_RECORDS * 2 + 10


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.fixture
async def rt(url: str) -> AsyncIterator[Remanence]:
    async with Remanence(url, worker=False) as opened:
        yield opened


async def to_read(rt: Remanence) -> int:
    """So many records are read to know the journal."""
    return len((await rt.database.store.load(JOURNAL)).records)


async def test_what_a_write_reads_of_its_store_does_not_grow(rt: Remanence) -> None:
    kept = [await rt.memory.keep(f"The ladder {number} is lent.", ADAS) for number in range(MANY)]
    assert await to_read(rt) <= SNAPSHOT_EVERY_RECORDS
    await rt.memory.erase("memory", kept[0].id, reason="asked")
    await rt.memory.edit(kept[1].id, "The ladder is back.")
    assert await to_read(rt) <= SNAPSHOT_EVERY_RECORDS
    found = await verify_session(rt.caller, JOURNAL)
    assert found.sound
    assert found.snapshots > 0
