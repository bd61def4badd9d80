"""A worker that ends while a claim of its own is on the way gives back what that claim took."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace
from tests.runtime.shop import FAST, Shop, script, until

from remanence import Remanence
from remanence.app import Options
from remanence.models.scripted import Scripted
from remanence.ports import Database, Lease, Loaded, Store
from remanence.runtime.around import DatabaseAround
from remanence.stores.sqlite.database import open_sqlite


class Slow:
    """A store that claims, and says what it claimed when it is let."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.claimed, self.answers = asyncio.Event(), asyncio.Event()
        for name in ("append", "load", "read", "renew", "release", "behind", "wait"):
            setattr(self, name, getattr(store, name))

    async def claim(self, worker: str, **more: Any) -> Sequence[Lease]:
        leases = await self._store.claim(worker, **more)
        if leases:
            self.claimed.set()
            await self.answers.wait()
        return leases


def slow(database: Database) -> tuple[Database, Slow]:
    around, store = DatabaseAround(database), Slow(database.store)
    around.store = cast("Store", store)
    return around, store


class Silent:
    """A store that tells nobody what is in a journal."""

    def __init__(self, store: Store) -> None:
        self.asked = asyncio.Event()
        for name in ("append", "claim", "read", "renew", "release", "behind", "wait"):
            setattr(self, name, getattr(store, name))

    async def load(self, session: str, *, upto: int | None = None) -> Loaded:
        self.asked.set()
        return await asyncio.get_running_loop().create_future()


async def test_an_input_that_was_claimed_and_given_back_unread_waits_in_lists(tmp_path: Path) -> None:
    shop = Shop()
    database = await open_sqlite(f"{tmp_path}/shop.db")
    around, store = DatabaseAround(database), Silent(database.store)
    around.store = cast("Store", store)
    async with Remanence(agents=[shop.agent()], worker=False, options=Options(database=database)) as rt:
        session = await rt.open(shop.agent())
        await session.submit("hello")
        times = replace(FAST, drain_s=0.1)
        claiming = Remanence(agents=[shop.agent()], options=Options(times=times, database=around))
        await claiming.start()
        await store.asked.wait()
        claimed = await database.views.session(session.id)
        assert (claimed.epoch, claimed.summary.status) == (1, "queued")
        await claiming.stop()
        row = await database.views.session(session.id)
        assert (row.lease_until, row.summary.status) == (None, "queued")
    await database.close()


async def test_what_the_last_claim_took_is_given_back(tmp_path: Path) -> None:
    shop = Shop()
    database = await open_sqlite(f"{tmp_path}/shop.db")
    late, store = slow(database)
    async with Remanence(agents=[shop.agent()], worker=False, options=Options(database=database)) as rt:
        session = await rt.open(shop.agent())
        await session.submit("hello")
        claiming = Remanence(agents=[shop.agent()], options=Options(times=FAST, database=late, model=Scripted(script)))
        await claiming.start()
        await store.claimed.wait()
        ending = asyncio.create_task(claiming.stop())
        await asyncio.wait((ending,), timeout=0.3)
        store.answers.set()
        await ending
        assert (await database.views.session(session.id)).lease_until is None
        options = Options(times=FAST, database=database, model=Scripted(script))
        async with Remanence(agents=[shop.agent()], options=options):
            await until(session, lambda s: s.turn is None and s.turns)
    await database.close()
