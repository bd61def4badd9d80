"""An intent whose write was never answered lies in the journal; a freeze that came meanwhile holds for it as well."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.runtime.shop import FAST, Shop, call, script, until

from remanence import Remanence
from remanence.app import Options
from remanence.commands import controls, sessions
from remanence.commands.caller import Caller
from remanence.errors import StoreUnavailable
from remanence.events import ToolStarted
from remanence.models.scripted import Scripted
from remanence.ports import Appended, Database, Store, Write
from remanence.stores.sqlite import open_sqlite
from remanence.testing.faults.fuse import FaultyDatabase, Fuse


class Unanswered:
    """A store that does what it is told when an effect is about to start, and does not answer, once.

    Before its silence is over somebody freezes the scope.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.freezer: Caller | None = None
        self.scope = ""
        self.silent = asyncio.Event()
        for name in ("load", "read", "claim", "renew", "release", "behind", "wait"):
            setattr(self, name, getattr(store, name))

    async def append(self, write: Write) -> Appended:
        appended = await self._store.append(write)
        if self.freezer is None or not any(isinstance(event, ToolStarted) for event in write.events):
            return appended
        caller, self.freezer = self.freezer, None
        if self.scope:
            await controls.freeze_scope(caller, self.scope)
        else:
            await sessions.freeze(caller, write.session)
        self.silent.set()
        raise StoreUnavailable("The connection was cut before the answer came.")


def unanswered(database: Database) -> tuple[Database, Unanswered]:
    faulty, store = FaultyDatabase(database, Fuse(0, lambda: None)), Unanswered(database.store)
    faulty.store = store  # pyright: ignore[reportAttributeAccessIssue]
    return faulty, store


@pytest.mark.parametrize("scope", ["all", "agent:shop", ""], ids=["everything", "the agent", "the session"])
async def test_no_effect_starts_after_the_freeze(scope: str, tmp_path: Path) -> None:
    shop = Shop()
    database, store = unanswered(await open_sqlite(f"{tmp_path}/shop.db"))
    options = Options(model=Scripted(script), times=FAST, database=database)
    async with Remanence(agents=[shop.agent()], options=options) as rt:
        session = await rt.open(shop.agent())
        store.freezer, store.scope = rt.caller, scope
        await session.submit(call("refund", order="1", cents=1))
        await store.silent.wait()
        await asyncio.sleep(0.5)
        assert shop.keys == [], "the intent is in the journal, the call never left, and a freeze stands"
        await (rt.thaw(scope) if scope else session.thaw())
        state = await until(session, lambda s: s.turn is None)
        assert (len(shop.keys), state.doubts) == (1, ())
    await database.close()
