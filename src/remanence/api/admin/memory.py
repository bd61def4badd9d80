"""`/admin/v1/memory`: search, look, write, edit, withdraw; stores and grants. Erasure has routes of its own."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import Depends, Query, Request, Response
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field

from remanence.api.admin.access import REFUSALS, Admin, Paged
from remanence.api.admin.erasure import ordered
from remanence.api.admin.shapes import json_answer, listed, page_answer, shown
from remanence.api.agents.agents import Serves, saved_agent
from remanence.api.agents.attach import attach
from remanence.api.bodies import JsonRoute
from remanence.api.once import IdempotencyKey, digest_of_request, once
from remanence.api.router import Face
from remanence.commands import memory, memory_stores
from remanence.commands.consolidation import Consolidating, consolidate_all
from remanence.commands.erasure import erase
from remanence.commands.given import Key
from remanence.commands.memory import Dates, Looking, Writing
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
from remanence.commands.receipts import Receipt
from remanence.errors import InvalidInput
from remanence.recollections import Place
from remanence.spec import MemoryScope

__all__ = ["memory_router"]

memory_router = Face(prefix="/memory", tags=["memory"], route_class=JsonRoute, responses=REFUSALS)

_Moment = Annotated[int | None, Field(ge=0, lt=2**62)]
_Word = Annotated[str, Field(min_length=1, max_length=200)]
_Id = Annotated[str, Query(alias="id", min_length=1, max_length=500, description="The id of a memory.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DatesBody(_Body):
    """When it is true and how long it is kept, in microseconds since 1970-01-01 UTC."""

    valid_from: _Moment = None
    valid_to: _Moment = None
    expires_at: _Moment = None


class KeepBody(DatesBody):
    """A note. `scope`: project, agent:NAME, user:ID or session:ID."""

    text: str
    scope: _Word
    store: _Word = memory_stores.DEFAULT_STORE
    subjects: Annotated[list[_Word], Field(max_length=20)] = []


class EditBody(_Body):
    """A new text. `seen` is the version you looked at: when there is a newer one, nothing is changed. `dates` replaces
    all three; without, they stay."""

    text: str
    seen: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    dates: DatesBody | None = None


class BlockBody(_Body):
    """The whole text of a block."""

    name: str
    text: str
    scope: _Word
    store: _Word = memory_stores.DEFAULT_STORE


class ConsolidateBody(_Body):
    """The model that takes notes, as agents name models; `usd_micros` is what each user's session may cost."""

    model: _Word
    usd_micros: Annotated[int | None, Field(ge=0, lt=2**62)] = None


class StoreBody(_Body):
    """A new store."""

    name: _Word
    description: Annotated[str, Field(max_length=1_000)] = ""


class GrantBody(_Body):
    """What `to` (agent:NAME or session:ID) may read and write from now on; nothing: every right is taken away."""

    store: _Word = memory_stores.DEFAULT_STORE
    to: _Word
    reads: list[MemoryScope] = []
    writes: list[MemoryScope] = []


class AttachBody(_Body):
    """Either `to` (agent:ID or session:ID) or `agent`, an agent's id: `write`, only `read`, or `off`; in this store of
    the project, without one in that of the agent's version; `off` without a store means every store."""

    to: _Word | None = None
    agent: _Word | None = None
    access: Access
    store: _Word | None = None


class Where:
    """Which memories: those that fit all that is given; `store` and `scope` may be given several times."""

    def __init__(
        self,
        store: Annotated[list[str] | None, Query()] = None,
        scope: Annotated[list[str] | None, Query(description="project, agent:NAME, user:ID or session:ID.")] = None,
        kind: Annotated[list[Literal["episode", "note", "block"]] | None, Query()] = None,
        believed_at: Annotated[int | None, Query(ge=0, lt=2**62, description="What was believed then.")] = None,
        valid_at: Annotated[int | None, Query(ge=0, lt=2**62, description="What was true then.")] = None,
    ) -> None:
        self.looking = Looking(
            tuple(store or ()), tuple(scope or ()), tuple(kind or ()), believed_at=believed_at, valid_at=valid_at
        )


Looked = Annotated[Where, Depends()]


# --- looking ----------------------------------------------------------------------------------------------------------


@memory_router.get("/search", summary="Search the memory", response_model=listed(HitShape))
async def search_memory(
    caller: Admin,
    where: Looked,
    query: Annotated[str, Query(max_length=4_000)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """What fits, best first, with reasons. What another process journaled within the last second may be missing."""
    hits = await memory.search(caller, query, replace(where.looking, limit=limit))
    return page_answer([HitShape.of(hit) for hit in hits])


@memory_router.get("/memories", summary="List memories", response_model=listed(MemoryShape))
async def list_memories(caller: Admin, page: Paged, where: Looked, closed: bool = False) -> Response:
    """By their newest version, newest first; with `closed` those that were withdrawn, too."""
    looking = replace(where.looking, closed=closed, after=page.after, limit=page.limit)
    found = await memory.listed(caller, looking)
    following = found[-1].id if len(found) == page.limit else None
    return page_answer([MemoryShape.of(one) for one in found], following=following)


@memory_router.get("/export", summary="Export memories", response_model=listed(MemoryShape))
async def export_memories(caller: Admin, page: Paged, where: Looked) -> Response:
    """Every version of every memory that fits, the closed ones, too: by id, oldest first. `limit` counts memories."""
    found = await memory.exported(caller, replace(where.looking, after=page.after, limit=page.limit))
    whole = len({one.id for one in found}) == page.limit
    return page_answer([MemoryShape.of(one) for one in found], following=found[-1].id if whole else None)


@memory_router.get("/memory", summary="Get a memory", response_model=shown(MemoryShape))
async def get_memory(
    caller: Admin, memory_id: _Id, version: Annotated[int | None, Query(ge=1, lt=2**31)] = None
) -> Response:
    """One version of a memory, by default the newest."""
    return json_answer(MemoryShape.of(await memory.show(caller, memory_id, version=version)))


@memory_router.get("/history", summary="The history of a memory", response_model=listed(MemoryShape))
async def get_history(caller: Admin, memory_id: _Id) -> Response:
    """Every version, oldest first: what was believed when."""
    return page_answer([MemoryShape.of(one) for one in await memory.history(caller, memory_id)])


@memory_router.get("/source", summary="The source of a memory", response_model=shown(SourceShape))
async def get_source(
    caller: Admin, memory_id: _Id, version: Annotated[int | None, Query(ge=1, lt=2**31)] = None
) -> Response:
    """The record it was learned from: for a note the one its writer had before it."""
    return json_answer(
        SourceShape(*await memory.source_of(caller, await memory.show(caller, memory_id, version=version)))
    )


# --- changing ---------------------------------------------------------------------------------------------------------


@memory_router.post("/memories", status_code=201, summary="Write a note", response_model=shown(MemoryShape))
@once
async def keep_memory(
    request: Request, caller: Admin, body: KeepBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Write a note, in the name of the key. It is found by whatever is recalled next."""
    writing = Writing(body.text, Place(body.store, body.scope), tuple(body.subjects), _dates(body))
    key = await _key(request, idempotency_key)
    return json_answer(MemoryShape.of(await memory.keep(caller, writing, key=key)), status=201)


@memory_router.put("/memory", summary="Edit a memory", response_model=shown(MemoryShape))
@once
async def edit_memory(
    request: Request, caller: Admin, memory_id: _Id, body: EditBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """A new version of a note or a block; the old one stays in the history."""
    dates, key = None if body.dates is None else _dates(body.dates), await _key(request, idempotency_key)
    return json_answer(
        MemoryShape.of(await memory.edit(caller, memory_id, body.text, dates=dates, seen=body.seen, key=key))
    )


@memory_router.delete("/memory", summary="Forget a memory", response_model=shown(MemoryShape))
@once
async def forget_memory(
    request: Request,
    caller: Admin,
    memory_id: _Id,
    reason: Annotated[str, Query(max_length=1_000)] = "",
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """It is recalled no more. Its versions stay in the history, until they are erased."""
    key = await _key(request, idempotency_key)
    return json_answer(MemoryShape.of(await memory.forget(caller, memory_id, reason=reason, key=key)))


@memory_router.post("/redact", status_code=201, summary="Redact a memory", response_model=shown(Receipt))
async def redact_memory(
    request: Request,
    caller: Admin,
    memory_id: _Id,
    reason: Annotated[str, Query(min_length=1, max_length=1_000)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Erase one memory for good, all its versions and what was learned from it: the same as an erasure of a `memory`.
    The journals keep the digests. Answers with the signed receipt; a legal hold refuses it (409)."""
    return await ordered(caller, request, idempotency_key, partial(erase, caller, "memory", memory_id, reason=reason))


@memory_router.post("/undo", summary="Take back a change", response_model=shown(MemoryShape))
@once
async def undo_change(
    request: Request, caller: Admin, memory_id: _Id, idempotency_key: IdempotencyKey = None
) -> Response:
    """Take back the last change of a note or a block, whoever made it: an agent, the consolidation, a person."""
    key = await _key(request, idempotency_key)
    return json_answer(MemoryShape.of(await memory.undo(caller, memory_id, key=key)))


@memory_router.put("/blocks", summary="Set a block", response_model=shown(MemoryShape))
@once
async def set_block(
    request: Request, caller: Admin, body: BlockBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Set a block, in the name of the key, which vouches for it: agents take it for an instruction."""
    place, key = Place(body.store, body.scope), await _key(request, idempotency_key)
    return json_answer(MemoryShape.of(await memory.set_block(caller, place, body.name, body.text, key=key)))


@memory_router.post("/consolidate", status_code=202, summary="Take notes now", response_model=list[shown(BegunShape)])
@once
async def consolidate(caller: Admin, body: ConsolidateBody) -> Response:
    """Take notes of what was said since last time, for every user. Answers with the sessions that do it."""
    how = Consolidating(body.model, usd_micros=body.usd_micros)
    begun = await consolidate_all(caller, how, now=True)
    return json_answer([BegunShape(session) for session in begun], status=202)


@memory_router.post("/rebuild", status_code=202, summary="Make the index again", response_model=shown(RebuiltShape))
@once
async def rebuild_index(caller: Admin) -> Response:
    """Throw the index away, of every project; workers make it again from the journals in idle time."""
    await memory.rebuild(caller)
    return json_answer(RebuiltShape(None), status=202)


# --- stores and grants ------------------------------------------------------------------------------------------------


@memory_router.get("/stores", summary="List memory stores", response_model=listed(StoreShape))
async def list_stores(caller: Admin) -> Response:
    """The stores of the project."""
    return page_answer([StoreShape.of(store) for store in await memory_stores.list_stores(caller)])


@memory_router.post("/stores", status_code=201, summary="Make a memory store", response_model=shown(StoreShape))
@once
async def create_store(caller: Admin, body: StoreBody) -> Response:
    """What lies in one store is not found in another."""
    made = await memory_stores.create_store(caller, body.name, description=body.description)
    return json_answer(StoreShape.of(made), status=201)


@memory_router.get("/grants", summary="List grants", response_model=listed(GrantShape))
async def list_grants(caller: Admin, store: str | None = None, to: str | None = None) -> Response:
    """What was granted, and what was taken away."""
    found = await memory_stores.list_grants(caller, store=store, to=to)
    return page_answer([GrantShape.of(one) for one in found])


@memory_router.put("/grants", summary="Grant or take away", response_model=shown(GrantShape))
@once
async def put_grant(caller: Admin, body: GrantBody) -> Response:
    """It holds from the next recall and the next call on."""
    made = await memory_stores.grant(caller, body.store, body.to, reads=body.reads, writes=body.writes)
    return json_answer(GrantShape.of(made))


@memory_router.get("/attachments", summary="List attachments", response_model=listed(AttachmentShape))
async def list_attachments(caller: Admin, store: str | None = None, to: str | None = None) -> Response:
    """Which agents and sessions are attached to which stores, by their version or by a grant, and with what rights."""
    return page_answer([AttachmentShape.of(one) for one in await attachments(caller, store=store, to=to)])


@memory_router.put("/attachments", summary="Attach a store, or detach it", response_model=shown(AttachedShape))
@once
async def attach_memory(caller: Admin, served: Serves, body: AttachBody) -> Response:
    """An agent that was saved over the Agents API and has no memory gets one, in sessions that are opened from now on:
    the same as its metadata `remanence.memory`. Whoever has a memory is granted the store, from the next call on. An
    agent in code has its memory by `memory=`."""
    if (body.to is None) == (body.agent is None):
        raise InvalidInput("Say either `to` or `agent`: who is meant. Nothing was changed.", param="to")
    to = body.to or f"agent:{body.agent}"
    return json_answer(await attach(caller, partial(saved_agent, served, caller), to, body.access, body.store))


async def _key(request: Request, idempotency_key: str | None) -> Key | None:
    """What a change is journaled under: it is made once, also when its first server died before it answered."""
    return Key(f"memory:{idempotency_key}", await digest_of_request(request)) if idempotency_key else None


def _dates(body: DatesBody) -> Dates:
    return Dates(body.valid_from, body.valid_to, body.expires_at)
