"""Earlier receipts: they lose a name that is erased, and an erasure costs the same however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.runtime.shop import Shop

from remanence import Remanence
from remanence.commands import erasure
from remanence.commands.caller import Caller
from remanence.commands.proof import check_receipt
from remanence.commands.receipts import Order, Receipt, flaw_of_signature, sign
from remanence.commands.sessions import Opening
from remanence.ports import Database, Entry, EntryQuery, Registry
from remanence.recollections import MemorySelector, Place

MANY = 12
LOOKS = 5
"""An order that is being carried out holds the name itself, and is seen whenever names are looked for."""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


class CountingRegistry:
    """The real registry; counts the orders and receipts that it hands out."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.orders = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    async def list(self, query: EntryQuery) -> Sequence[Entry]:
        found = await self._registry.list(query)
        self.orders += len(found) if query.kind == erasure.KIND else 0
        return found


class CountingDatabase:
    """The real database, with that registry."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.registry = CountingRegistry(database.registry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


async def ordered(rt: Remanence, by: str, reason: str) -> None:
    """An erasure of a session, about nobody."""
    session = await rt.open(Shop().agent(), opening=Opening(user="nobody"))
    await session.submit("hello")
    await erasure.erase(replace(rt.caller, actor=by), "session", session.id, reason=reason)


async def read_for(caller: Caller, user: str, rt: Remanence) -> int:
    """How many orders and receipts an erasure of this user reads."""
    await (await rt.open(Shop().agent(), opening=Opening(user=user))).submit("hello")
    database: Any = CountingDatabase(caller.database)
    await erasure.erase(replace(caller, database=database), "user", user, reason="asked")
    assert await erasure.resume(replace(caller, database=database)) == []
    return database.registry.orders


async def test_an_erasure_reads_only_the_receipts_that_name_who_goes(url: str) -> None:
    async with Remanence(url, worker=False) as rt:
        for number in range(MANY):
            await ordered(rt, "boss", f"asked, number {number}")
        assert await read_for(rt.caller, "Wyn Quill", rt) <= LOOKS  # no digest in a receipt can hold this name


async def test_earlier_receipts_lose_the_name_and_are_signed_anew(url: str) -> None:
    """Whether it says who ordered, or stands in a reason, and however JSON writes it."""
    name = 'Zo\u00eb "Z"'
    async with Remanence(url, worker=False) as rt:
        await ordered(rt, name, "asked")
        await ordered(rt, "boss", f"{name} asked for it")
        await ordered(rt, "boss", "asked")
        await read_for(rt.caller, name, rt)
        kept = await erasure.receipts(rt.caller)
        assert len(kept) == 4
        assert not any(
            name in (receipt.order.by, receipt.order.name) or name in receipt.order.reason for receipt in kept
        )
        assert sum("erased:" in receipt.order.by for receipt in kept) == 1
        assert sum("erased:" in receipt.order.reason for receipt in kept) == 1
        assert not any([(await flaw_of_signature(rt.caller, receipt))[0] for receipt in kept])


async def test_an_order_that_was_left_is_found_among_receipts(url: str) -> None:
    async with Remanence(url, worker=False) as rt:
        await ordered(rt, "boss", "asked")
        (entry,) = await rt.database.registry.list(EntryQuery(erasure.KIND))
        (receipt,) = await erasure.receipts(rt.caller)
        body = entry.body.replace(b'"signature":"' + receipt.signature.encode(), b'"signature":"')
        left = body.replace(b'"receipt":{', b'"unsigned":{').replace(b'"unsigned":null', b'"receipt":null')
        await rt.database.registry.put(replace(entry, id="erasure_left", body=left))
        assert [one.order.id for one in await erasure.resume(rt.caller)] == [receipt.order.id]


async def test_a_memory_that_an_older_release_left_in_a_journal_is_found_and_erased(url: str) -> None:
    """It took it from the index only, and signed a receipt that says nothing of the record."""
    async with Remanence(url, worker=False) as rt:
        caller = rt.caller
        note = await rt.memory.keep("Carol drives a vermilionvan", Place("default", "user:carol"), subjects=["carol"])
        positions = {"session": note.session, "positions": (note.position,)}
        await rt.database.memories.remove(MemorySelector(project=caller.project, **positions))
        order = Order("erasure_left", caller.project, "subject", "carol", "boss", "asked", caller.clock.now())
        left = await sign(caller, Receipt(order, caller.clock.now(), (), (note.id,), {"memories": 1}, (), ()))
        (memories,) = [check for check in await check_receipt(caller, left) if check.what == "memories"]
        assert not memories.holds
        assert memories.found == f"still there: {note.session}#{note.position} ({note.id})"
        receipt = await erasure.erase(caller, "memory", note.id, reason="asked again")
        assert [(one.session, one.position) for one in receipt.records] == [(note.session, note.position)]
        for one in (left, receipt):
            assert all(check.holds for check in await check_receipt(caller, one))
