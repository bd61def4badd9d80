"""What the `memory` commands ask for, and both who answer: the database itself, or a server that runs for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec.structs import asdict

from remanence.app import Remanence
from remanence.cli.client import Client
from remanence.commands import erasure, memory, memory_stores, saved
from remanence.commands.consolidation import Consolidating
from remanence.commands.erasure import LegalHold
from remanence.commands.memory import Looking, Writing
from remanence.commands.memory_attachments import Access, attachments
from remanence.commands.memory_shapes import (
    AttachedShape,
    AttachmentShape,
    BegunShape,
    GrantShape,
    HitShape,
    MemoryShape,
    RebuiltShape,
    SourceShape,
    StoreShape,
)
from remanence.commands.proof import Check, check_receipt
from remanence.commands.receipts import Receipt, What
from remanence.recollections import Place
from remanence.spec import MemoryScope

__all__ = ["MemoryAtServer", "MemoryAtStore", "Remembering"]


class Remembering(Protocol):
    """Long-term memory: looking, changing, who may, and erasing for good."""

    async def search(self, text: str, looking: Looking) -> list[HitShape]: ...
    async def list(self, looking: Looking) -> list[MemoryShape]: ...
    async def get(self, memory_id: str, version: int | None = None) -> MemoryShape: ...
    async def source(self, memory_id: str, version: int | None = None) -> SourceShape: ...
    async def history(self, memory_id: str) -> Sequence[MemoryShape]: ...
    def export(self, looking: Looking) -> AsyncGenerator[MemoryShape]: ...

    async def keep(self, writing: Writing) -> MemoryShape: ...
    async def set_block(self, place: Place, name: str, text: str) -> MemoryShape: ...
    async def edit(self, memory_id: str, text: str, seen: int | None) -> MemoryShape: ...
    async def forget(self, memory_id: str, reason: str) -> MemoryShape: ...
    async def undo(self, memory_id: str) -> MemoryShape: ...
    async def consolidate(self, how: Consolidating) -> Sequence[BegunShape]: ...
    async def rebuild(self) -> RebuiltShape: ...

    async def stores(self) -> Sequence[StoreShape]: ...
    async def create_store(self, name: str, description: str) -> StoreShape: ...
    async def grants(self, store: str | None, to: str | None) -> Sequence[GrantShape]: ...
    async def grant(
        self, store: str, to: str, reads: Sequence[MemoryScope], writes: Sequence[MemoryScope]
    ) -> GrantShape: ...
    async def attachments(self, store: str | None, to: str | None) -> Sequence[AttachmentShape]: ...
    async def attach(self, to: str, access: Access, store: str | None) -> AttachedShape: ...

    async def erase(self, what: What, name: str, reason: str) -> Receipt: ...
    async def redact(self, memory_id: str, reason: str) -> Receipt: ...
    async def receipts(self) -> Sequence[Receipt]: ...
    async def receipt(self, order: str) -> Receipt: ...
    async def verify(self, receipt: Receipt, name: str = "") -> Sequence[Check]: ...
    async def hold(self, scope: str, reason: str) -> LegalHold: ...
    async def unhold(self, scope: str) -> LegalHold: ...
    async def holds(self) -> Sequence[LegalHold]: ...


class MemoryAtStore:
    """The database itself. The index is brought up to the journals before it is asked."""

    def __init__(self, rt: Remanence) -> None:
        self._caller = rt.caller
        self._memory = rt.memory

    async def search(self, text: str, looking: Looking) -> list[HitShape]:
        await self._memory.catch_up()
        return [HitShape.of(hit) for hit in await self._memory.search(text, looking)]

    async def list(self, looking: Looking) -> list[MemoryShape]:
        await self._memory.catch_up()
        return [MemoryShape.of(one) for one in await self._memory.list(looking)]

    async def get(self, memory_id: str, version: int | None = None) -> MemoryShape:
        await self._memory.catch_up()
        return MemoryShape.of(await self._memory.get(memory_id, version=version))

    async def source(self, memory_id: str, version: int | None = None) -> SourceShape:
        found = await self._memory.get(memory_id, version=version)
        return SourceShape(*await memory.source_of(self._caller, found))

    async def history(self, memory_id: str) -> Sequence[MemoryShape]:
        await self._memory.catch_up()
        return [MemoryShape.of(one) for one in await self._memory.history(memory_id)]

    async def export(self, looking: Looking) -> AsyncGenerator[MemoryShape]:
        await self._memory.catch_up()
        async for one in self._memory.export(looking):
            yield MemoryShape.of(one)

    async def keep(self, writing: Writing) -> MemoryShape:
        return MemoryShape.of(await memory.keep(self._caller, writing))

    async def set_block(self, place: Place, name: str, text: str) -> MemoryShape:
        return MemoryShape.of(await memory.set_block(self._caller, place, name, text))

    async def edit(self, memory_id: str, text: str, seen: int | None) -> MemoryShape:
        await self._memory.catch_up()
        return MemoryShape.of(await self._memory.edit(memory_id, text, seen=seen))

    async def forget(self, memory_id: str, reason: str) -> MemoryShape:
        await self._memory.catch_up()
        return MemoryShape.of(await self._memory.forget(memory_id, reason=reason))

    async def undo(self, memory_id: str) -> MemoryShape:
        await self._memory.catch_up()
        return MemoryShape.of(await self._memory.undo(memory_id))

    async def consolidate(self, how: Consolidating) -> Sequence[BegunShape]:
        return [BegunShape(session) for session in await self._memory.consolidate(how, now=True)]

    async def rebuild(self) -> RebuiltShape:
        return RebuiltShape(await self._memory.rebuild())

    async def stores(self) -> Sequence[StoreShape]:
        return [StoreShape.of(store) for store in await memory_stores.list_stores(self._caller)]

    async def create_store(self, name: str, description: str) -> StoreShape:
        return StoreShape.of(await memory_stores.create_store(self._caller, name, description=description))

    async def grants(self, store: str | None, to: str | None) -> Sequence[GrantShape]:
        return [GrantShape.of(one) for one in await memory_stores.list_grants(self._caller, store=store, to=to)]

    async def grant(
        self, store: str, to: str, reads: Sequence[MemoryScope], writes: Sequence[MemoryScope]
    ) -> GrantShape:
        return GrantShape.of(await memory_stores.grant(self._caller, store, to, reads=reads, writes=writes))

    async def attachments(self, store: str | None, to: str | None) -> Sequence[AttachmentShape]:
        return [AttachmentShape.of(one) for one in await attachments(self._caller, store=store, to=to)]

    async def attach(self, to: str, access: Access, store: str | None) -> AttachedShape:
        from remanence.api.agents.attach import attach  # here, not above: it brings the whole face along

        return await attach(self._caller, partial(saved.find_agent, self._caller), to, access, store)

    async def erase(self, what: What, name: str, reason: str) -> Receipt:
        return await self._memory.erase(what, name, reason=reason)

    async def redact(self, memory_id: str, reason: str) -> Receipt:
        return await self._memory.erase("memory", memory_id, reason=reason)

    async def receipts(self) -> Sequence[Receipt]:
        return await erasure.receipts(self._caller)

    async def receipt(self, order: str) -> Receipt:
        return await erasure.receipt_of(self._caller, order)

    async def verify(self, receipt: Receipt, name: str = "") -> Sequence[Check]:
        return await check_receipt(self._caller, receipt, name=name)

    async def hold(self, scope: str, reason: str) -> LegalHold:
        return await erasure.hold(self._caller, scope, reason=reason)

    async def unhold(self, scope: str) -> LegalHold:
        return await erasure.unhold(self._caller, scope)

    async def holds(self) -> Sequence[LegalHold]:
        return await erasure.holds(self._caller)


class MemoryAtServer:
    """A running server, which brings its index up to the journals by itself, within a second or so."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def search(self, text: str, looking: Looking) -> list[HitShape]:
        query = {**_where(looking), "query": text, "limit": min(looking.limit, 100)}
        return (await self._client.listed("/memory/search", HitShape, **query))[0]

    async def list(self, looking: Looking) -> list[MemoryShape]:
        query = {**_where(looking), "closed": looking.closed}
        return (await self._client.pages("/memory/memories", MemoryShape, looking.limit, **query))[0]

    async def get(self, memory_id: str, version: int | None = None) -> MemoryShape:
        return await self._client.get("/memory/memory", MemoryShape, id=memory_id, version=version)

    async def source(self, memory_id: str, version: int | None = None) -> SourceShape:
        return await self._client.get("/memory/source", SourceShape, id=memory_id, version=version)

    async def history(self, memory_id: str) -> Sequence[MemoryShape]:
        return (await self._client.listed("/memory/history", MemoryShape, id=memory_id))[0]

    async def export(self, looking: Looking) -> AsyncGenerator[MemoryShape]:
        async for one in self._client.walk("/memory/export", MemoryShape, **_where(looking)):
            yield one

    async def keep(self, writing: Writing) -> MemoryShape:
        body = {"text": writing.text, "subjects": writing.subjects, **_in(writing.place), **asdict(writing.dates)}
        return await self._client.post("/memory/memories", MemoryShape, body)

    async def set_block(self, place: Place, name: str, text: str) -> MemoryShape:
        return await self._client.put("/memory/blocks", MemoryShape, {"name": name, "text": text, **_in(place)})

    async def edit(self, memory_id: str, text: str, seen: int | None) -> MemoryShape:
        return await self._client.put("/memory/memory", MemoryShape, {"text": text, "seen": seen}, id=memory_id)

    async def forget(self, memory_id: str, reason: str) -> MemoryShape:
        return await self._client.delete("/memory/memory", MemoryShape, id=memory_id, reason=reason)

    async def undo(self, memory_id: str) -> MemoryShape:
        return await self._client.post("/memory/undo", MemoryShape, None, id=memory_id)

    async def consolidate(self, how: Consolidating) -> Sequence[BegunShape]:
        body = {"model": how.model, "usd_micros": how.usd_micros}
        return await self._client.post("/memory/consolidate", list[BegunShape], body)

    async def rebuild(self) -> RebuiltShape:
        return await self._client.post("/memory/rebuild", RebuiltShape, None)

    async def stores(self) -> Sequence[StoreShape]:
        return (await self._client.listed("/memory/stores", StoreShape))[0]

    async def create_store(self, name: str, description: str) -> StoreShape:
        return await self._client.post("/memory/stores", StoreShape, {"name": name, "description": description})

    async def grants(self, store: str | None, to: str | None) -> Sequence[GrantShape]:
        return (await self._client.listed("/memory/grants", GrantShape, store=store, to=to))[0]

    async def grant(
        self, store: str, to: str, reads: Sequence[MemoryScope], writes: Sequence[MemoryScope]
    ) -> GrantShape:
        body = {"store": store, "to": to, "reads": reads, "writes": writes}
        return await self._client.put("/memory/grants", GrantShape, body)

    async def attachments(self, store: str | None, to: str | None) -> Sequence[AttachmentShape]:
        return (await self._client.listed("/memory/attachments", AttachmentShape, store=store, to=to))[0]

    async def attach(self, to: str, access: Access, store: str | None) -> AttachedShape:
        body = {"to": to, "access": access, "store": store}
        return await self._client.put("/memory/attachments", AttachedShape, body)

    async def erase(self, what: What, name: str, reason: str) -> Receipt:
        return await self._client.post("/memory/erasures", Receipt, {"what": what, "name": name, "reason": reason})

    async def redact(self, memory_id: str, reason: str) -> Receipt:
        return await self._client.post("/memory/redact", Receipt, None, id=memory_id, reason=reason)

    async def receipts(self) -> Sequence[Receipt]:
        return (await self._client.listed("/memory/erasures", Receipt))[0]

    async def receipt(self, order: str) -> Receipt:
        return await self._client.get(f"/memory/erasures/{order}", Receipt)

    async def verify(self, receipt: Receipt, name: str = "") -> Sequence[Check]:
        body = msgspec.to_builtins(receipt)
        page = await self._client.post("/memory/erasures/verify", _Checks, {**body, "name": name} if name else body)
        return page.data

    async def hold(self, scope: str, reason: str) -> LegalHold:
        return await self._client.put("/memory/holds", LegalHold, {"scope": scope, "reason": reason})

    async def unhold(self, scope: str) -> LegalHold:
        return await self._client.delete("/memory/holds", LegalHold, scope=scope)

    async def holds(self) -> Sequence[LegalHold]:
        return (await self._client.listed("/memory/holds", LegalHold))[0]


class _Checks(msgspec.Struct):
    data: list[Check]


def _in(place: Place) -> dict[str, str]:
    return {"store": place.store, "scope": place.scope}


def _where(looking: Looking) -> dict[str, Any]:
    return {
        "store": list(looking.stores),
        "scope": list(looking.scopes),
        "kind": list(looking.kinds),
        "believed_at": looking.believed_at,
        "valid_at": looking.valid_at,
    }
