"""What an operator reads while the database is away: one line when it begins, one when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from structlog.testing import capture_logs
from tests.runtime.shop import FAST, Shop, call, script, until

from remanence import Remanence
from remanence.app import Options
from remanence.errors import StoreFull, StoreUnavailable
from remanence.models.scripted import Scripted
from remanence.ports import Appended, Lease, Store, Write
from remanence.runtime.outage import RETRY_LAST_S, Outage
from remanence.stores.sqlite.database import open_sqlite
from remanence.testing.faults.fuse import FaultyDatabase, Fuse


class Away:
    """A store that is away for the worker while `away` is set; people reach it all the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.refused = 0
        for name in ("load", "read", "behind", "wait"):
            setattr(self, name, getattr(store, name))

    def _look(self, asked: bool = True) -> None:
        if self.away and asked:
            self.refused += 1
            raise StoreUnavailable("The server closed the connection.")

    async def append(self, write: Write) -> Appended:
        self._look(write.lease is not None)
        return await self._store.append(write)

    async def renew(self, leases: Sequence[Lease], *, until: int) -> Sequence[Lease]:
        self._look()
        return await self._store.renew(leases, until=until)

    async def release(self, lease: Lease, *, seen: int, wake_at: int | None) -> None:
        self._look()
        await self._store.release(lease, seen=seen, wake_at=wake_at)

    async def claim(
        self, worker: str, *, now: int, ttl_s: float, limit: int, agents: Sequence[str] | None = None
    ) -> Sequence[Lease]:
        self._look()
        return await self._store.claim(worker, now=now, ttl_s=ttl_s, limit=limit, agents=agents)


async def test_an_outage_is_two_lines_however_many_sessions_notice(tmp_path: Path) -> None:
    shop, database = Shop(), await open_sqlite(f"{tmp_path}/shop.db")
    faulty = FaultyDatabase(database, Fuse(0, lambda: None))
    faulty.store = store = Away(database.store)  # pyright: ignore[reportAttributeAccessIssue]
    options = Options(model=Scripted(script), times=FAST, database=faulty)
    with capture_logs() as lines:
        async with Remanence(agents=[shop.agent()], options=options) as rt:
            sessions = [await rt.open("shop") for _ in range(8)]
            for session in sessions:
                await session.submit(call("hold", n=1))
            async with asyncio.timeout(60):
                while shop.calls["hold"] < len(sessions):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                store.away = True
                shop.gate.set()
                while store.refused < 40:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            store.away = False
            for session in sessions:
                await until(session, lambda s: s.turn is None and s.turns)
            async with asyncio.timeout(60):
                while not any("answers again" in line["event"] for line in lines):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    said = [line["event"] for line in lines if line["log_level"] != "debug"]
    assert said == [
        "the database does not answer; what is known is kept, and tried again",
        "the database answers again",
    ]
    await database.close()


def test_another_kind_of_error_is_said_and_looks_come_ever_later() -> None:
    with capture_logs() as lines:
        outage, away, full = Outage(), StoreUnavailable("away"), StoreFull("full")
        waits = [outage.failed("claim", away, n) for n in range(8)]
        outage.failed("s", full, 9)
        outage.worked("claim", 10)
        outage.worked("renew", 10)
        outage.worked("s", 2_000_000)
        outage.worked("s", 3_000_000)
        outage.failed("claim", away, 4_000_000)
    assert waits == sorted(waits)
    assert waits[-1] == RETRY_LAST_S
    said = [line.get("error") or line["away_s"] for line in lines if line["log_level"] != "debug"]
    assert said == ["away", "full", 2.0, "away"]
