"""One order of erasure that two carry out at once: whoever signs last says all that was erased under it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace
from test_erasure import AGENT, SECRET, commanded

from remanence import Remanence
from remanence.app import Options
from remanence.commands import erasure
from remanence.commands.proof import check_receipt
from remanence.events import Redacted
from remanence.models.scripted import Scripted
from remanence.ports import Appended, Store, Write
from remanence.recollections import Place
from remanence.runtime.around import DatabaseAround


class Slow(DatabaseAround):
    """A database whose process stands still before its first redaction, while others go on."""

    def __init__(self, rt: Remanence, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(rt.database)
        self.store = _SlowStore(rt.database.store, meanwhile)  # pyright: ignore[reportAttributeAccessIssue]


class _SlowStore:
    def __init__(self, store: Store, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        self._store = store
        self._meanwhile: Callable[[], Awaitable[Any]] | None = meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, write: Write) -> Appended:
        if self._meanwhile is not None and any(isinstance(event, Redacted) for event in write.events):
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return await self._store.append(write)


async def test_what_another_process_erased_under_the_order_is_in_the_receipt() -> None:
    async with Remanence("sqlite:///:memory:", options=Options(model=Scripted(commanded))) as rt:
        session = await rt.open(AGENT, user="ada")
        await session.send(f"Remember: {SECRET}.")
        later: list[tuple[str, int]] = []

        async def carried_on() -> None:
            """One thing more is noted about her, which whoever takes the order for one that was left finds, too."""
            kept = await rt.memory.keep("She is allergic to nuts and walnuts.", Place("default", "user:ada"))
            later.append((kept.session, kept.position))
            (receipt,) = await erasure.resume(rt.caller)
            assert later[0] in {(one.session, one.position) for one in receipt.records}

        slow = replace(rt.caller, database=Slow(rt, carried_on))  # pyright: ignore[reportArgumentType]
        receipt = await erasure.erase(slow, "user", "ada", reason="asked to")
        said = {(one.session, one.position) for one in receipt.records}
        assert {(session.id, 2), *later} <= said
        assert list(await erasure.receipts(rt.caller)) == [receipt]
        assert all(check.holds for check in await check_receipt(rt.caller, receipt, name="ada"))
