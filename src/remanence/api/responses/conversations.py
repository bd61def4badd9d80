"""The Conversations API: `/v1/conversations`.

A conversation is a session that clients add to item by item, or by responses that name it. Deleting an item erases the
record it came from: an input whole, a reply with everything it said and called, and what those calls came to. Windows
then show `[redacted]` in its place. Deleting a conversation removes it from the API; responses made in it stay.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Query, Request, Response
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict

from remanence.api.auth import may
from remanence.api.bodies import JsonRoute
from remanence.api.bound_keys import keep_key
from remanence.api.described import answers
from remanence.api.lists import Limit, Ordered, Page
from remanence.api.once import IdempotencyKey, digest_of_request, found_before, once, remember
from remanence.api.responses.input import Given, read_input, refuse
from remanence.api.responses.item_pages import (
    Placed,
    calls_at,
    find_said,
    items_said,
    questions_kept,
    said_page,
    with_outcomes,
)
from remanence.api.responses.item_references import with_items
from remanence.api.responses.items import Item, approval_id, call_off_wire, calls_on_wire, spoken_item
from remanence.api.responses.lists import page_of, unknown
from remanence.api.responses.request import Metadata, check_include
from remanence.api.responses.talks import (
    GONE,
    KIND,
    Talk,
    add_spoken,
    begin_talk,
    change_talk,
    find_talk,
    open_talk,
    resting,
)
from remanence.api.router import Face
from remanence.commands.caller import Caller, state_of
from remanence.commands.given import Key, calls_with_client, check_kept, erase, keep, rests, withdraw
from remanence.errors import Busy, Conflict, Frozen, InvalidInput, KeyReused, NotFound

__all__ = ["conversations_router"]

conversations_router = Face(tags=["conversations"], route_class=JsonRoute)

Asking = Annotated[Caller, Depends(may("api"))]
Include = Annotated[list[str] | None, Query(alias="include[]")]
_MICROS = 1_000_000
_ITEMS_MAX = 20
_TRIES = 64


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ConversationBody(_Asked):
    """A new conversation."""

    items: list[Any] | None = None
    metadata: Metadata | None = None


class MetadataBody(_Asked):
    """What is attached to a conversation from now on."""

    metadata: Metadata | None


class ItemsBody(_Asked):
    """Items to add."""

    items: list[Any]


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _shown(talk: Talk) -> Item:
    return {
        "id": talk.id,
        "object": "conversation",
        "created_at": talk.at // _MICROS,
        "metadata": talk.metadata,
    }


@conversations_router.post("/conversations", summary="Create a conversation", openapi_extra=answers("Conversation"))
@once
async def create_conversation(
    request: Request, body: ConversationBody, caller: Asking, idempotency_key: IdempotencyKey = None
) -> Response:
    """An empty conversation, or one that begins with up to twenty items."""
    given = await _read(caller, Talk("", 0), body.items or [])
    with _named(""):
        check_kept(caller, given.messages)
    key = None
    if idempotency_key is not None:
        key = Key(f"create:{idempotency_key}", await digest_of_request(request))
    talk = await begin_talk(caller, body.metadata or {}, key)
    await _add(caller, talk, given, key=Key(f"create:{talk.id}", key.digest) if key else None)
    return _json(_shown(talk))


@conversations_router.get(
    "/conversations/{conversation_id}", summary="Retrieve a conversation", openapi_extra=answers("Conversation")
)
async def retrieve_conversation(conversation_id: str, caller: Asking) -> Response:
    """A conversation, without its items."""
    return _json(_shown(await find_talk(caller, conversation_id)))


@conversations_router.post(
    "/conversations/{conversation_id}", summary="Update a conversation", openapi_extra=answers("Conversation")
)
@once
async def update_conversation(conversation_id: str, body: MetadataBody, caller: Asking) -> Response:
    """Replace what is attached to a conversation."""
    talk = await change_talk(caller, conversation_id, lambda talk: replace(talk, metadata=body.metadata or {}))
    return _json(_shown(talk))


@conversations_router.delete(
    "/conversations/{conversation_id}",
    summary="Delete a conversation",
    openapi_extra=answers("ConversationDeletedResource"),
)
async def delete_conversation(conversation_id: str, caller: Asking) -> Response:
    """Remove a conversation. Its items are not erased: delete them first if they must be."""
    talk = await find_talk(caller, conversation_id)
    await caller.database.registry.remove(KIND, talk.id)
    return _json({"id": talk.id, "object": "conversation.deleted", "deleted": True})


# --- items ------------------------------------------------------------------------------------------------------------


@conversations_router.post(
    "/conversations/{conversation_id}/items", summary="Add items", openapi_extra=answers("ConversationItemList")
)
async def create_items(
    request: Request,
    conversation_id: str,
    body: ItemsBody,
    caller: Asking,
    include: Include = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Add up to twenty items at the end. Nobody is asked to answer them."""
    check_include(include)
    talk = await find_talk(caller, conversation_id)
    key = None
    if idempotency_key is not None:
        key = Key(f"items:{idempotency_key}", await digest_of_request(request))
    before = await found_before(caller, key, tuple[str, ...]) if key else None
    if before:
        added = [item for name in before if (item := await _find(caller, talk, name)) is not None]
        return _json(page_of([item for item, _ in added], more=False))
    positions, names = await _add(caller, talk, await _read(caller, talk, body.items), key=key)
    keep_key(request)
    talk = await find_talk(caller, conversation_id)
    said = await _said(caller, talk, after=min(positions) - 1) if positions else []
    added = [item for item in _spoken(talk) if item["id"] in names]
    added += [item for item, position in said if position in positions]
    if key is not None:
        await remember(caller, key, [item["id"] for item in added])
    return _json(page_of(added, more=False))


@conversations_router.get(
    "/conversations/{conversation_id}/items", summary="List items", openapi_extra=answers("ConversationItemList")
)
async def list_items(
    conversation_id: str,
    caller: Asking,
    after: str | None = None,
    limit: Limit = 20,
    order: Ordered = "desc",
    include: Include = None,
) -> Response:
    """The items of a conversation."""
    check_include(include)
    talk = await find_talk(caller, conversation_id)
    shown, more = await _page(caller, talk, Page(after, limit, order))
    return _json(page_of(shown, more=more))


@conversations_router.get(
    "/conversations/{conversation_id}/items/{item_id}",
    summary="Retrieve an item",
    openapi_extra=answers("ConversationItem"),
)
async def retrieve_item(conversation_id: str, item_id: str, caller: Asking, include: Include = None) -> Response:
    """One item."""
    check_include(include)
    item, _ = await _item(caller, await find_talk(caller, conversation_id), item_id)
    return _json(item)


@conversations_router.delete(
    "/conversations/{conversation_id}/items/{item_id}", summary="Delete an item", openapi_extra=answers("Conversation")
)
async def delete_item(conversation_id: str, item_id: str, caller: Asking) -> Response:
    """Erase the record an item came from; answers the conversation."""
    talk = await find_talk(caller, conversation_id)
    _, position = await _item(caller, talk, item_id)
    if not position:
        return _json(_shown(await change_talk(caller, talk.id, lambda talk: _without(talk, item_id))))
    s = await state_of(caller, talk.session)
    if not rests(s):
        raise Busy("A turn of this conversation is running. Nothing was deleted; wait until it has ended.")
    if left := {call.call for call in calls_with_client(s)} & await calls_at(caller, s, position):
        await withdraw(caller, s, sorted(left), spec=await caller.database.specs.get(s.version))
        s = await state_of(caller, s.id)
    await erase(caller, talk.session, await with_outcomes(caller, s, position), reason=f"{item_id} was deleted")
    return _json(_shown(talk))


def _without(talk: Talk, item_id: str) -> Talk:
    ids = _ids_of_spoken(talk)
    return replace(talk, spoken=tuple(GONE if ids[i] == item_id else one for i, one in enumerate(talk.spoken)))


def _ids_of_spoken(talk: Talk) -> list[str]:
    return [spoken_item(talk.id, index, one.role, one.text)["id"] for index, one in enumerate(talk.spoken)]


def _place_of_spoken(talk: Talk, name: str) -> int | None:
    """Where the item of this id is among what systems and developers said, if it was deleted too; else None."""
    found = re.fullmatch(r"(msg_.*)_(?:system|developer)_(\d{1,9})", name)
    place = int(found[2]) if found is not None and found[1] == f"msg_{talk.id}" else len(talk.spoken)
    if place < len(talk.spoken) and (talk.spoken[place] == GONE or _ids_of_spoken(talk)[place] == name):
        return place
    return None


async def _read(caller: Caller, talk: Talk, items: list[Any]) -> Given:
    if len(items) > _ITEMS_MAX:
        refuse("items", f"at most {_ITEMS_MAX} items are added at once")
    known = [talk.session] if talk.session else []
    whole = await with_items(caller, items, path="items")
    given = read_input(whole, lambda call: call_off_wire(known, call), path="items", keeps=True)
    await _check_questions(caller, talk, given)
    return given


async def _check_questions(caller: Caller, talk: Talk, given: Given) -> None:
    """A question is kept once, and an answer belongs to one of the conversation that has none yet."""
    names = {one.call for one in (*given.asked, *given.approvals)}
    s = await state_of(caller, talk.session) if names and talk.session else None
    kept = await questions_kept(caller, s, names) if s else {}
    seen = set(kept)
    for one in given.asked:
        if one.call in seen:
            raise InvalidInput(
                f"Duplicate item found with id {one.call[:200]}. Nothing was written. Remove duplicate items from your "
                "input and try again.",
                param=f"{one.path}.id",
            )
        seen.add(one.call)
    for one in given.approvals:
        here = s.call(one.call.removeprefix(approval_id(s.id, ""))) if s else None
        if here is not None and one.call not in kept:
            refuse(one.path, "it answers a call that waits here: an answer to that is given by a response")
        if one.call not in kept:
            raise InvalidInput(
                f"Approval request with id '{one.call[:200]}' not found in this conversation. Nothing was written.",
                param=f"{one.path}.approval_request_id",
            )
        if kept[one.call].answered:
            refuse(one.path, f"approval request '{one.call[:200]}' has an answer already")


async def _add(caller: Caller, talk: Talk, given: Given, *, key: Key | None = None) -> tuple[set[int], tuple[str, ...]]:
    """Add what was read: the positions of its records (under a `key` that was used before, those of then), and the ids
    of what a system or a developer says in it."""
    positions = await _add_messages(caller, talk, given, key) if given.messages else set[int]()
    names: tuple[str, ...] = ()
    if given.spoken:
        places = await add_spoken(caller, talk.id, given.spoken, key)
        pairs = zip(places, given.spoken, strict=True)
        names = tuple(spoken_item(talk.id, place, one.role, one.text)["id"] for place, one in pairs)
    return positions, names


@contextmanager
def _named(session: str) -> Generator[None]:
    """What is `input` elsewhere is `items` here, and calls have the ids that clients know."""
    try:
        yield
    except InvalidInput as error:
        if error.param == "input":
            error.param = "items"
        error.message = calls_on_wire(session, error.message)
        raise


async def _add_messages(caller: Caller, talk: Talk, given: Given, key: Key | None) -> set[int]:
    for _ in range(_TRIES):
        s = await open_talk(caller, talk, resting())
        if not rests(s):
            raise Busy("A turn of this conversation is running. Nothing was added; wait until it has ended.")
        spec = await caller.database.specs.get(s.version)
        try:
            with _named(s.id):
                appended = await keep(caller, s, given.messages, spec=spec, key=key)
        except (Busy, Frozen, KeyReused):
            raise
        except Conflict:  # somebody else added something just now; this comes after it
            talk = await find_talk(caller, talk.id)
            continue
        return {record.position for record in appended.records}
    raise Conflict(f"Conversation {talk.id} changed {_TRIES} times meanwhile. Nothing was added; send it again.")


def _spoken(talk: Talk) -> list[Item]:
    """What systems and developers said, which comes before everything else."""
    return [spoken_item(talk.id, i, one.role, one.text) for i, one in enumerate(talk.spoken) if one != GONE]


async def _said(caller: Caller, talk: Talk, *, after: int) -> list[Placed]:
    return await items_said(caller, await state_of(caller, talk.session), after=after) if talk.session else []


async def _page(caller: Caller, talk: Talk, page: Page) -> tuple[list[Item], bool]:
    """Up to `limit` items, and whether there are more. Raises InvalidInput for an `after` that is none of them."""
    spoken = _spoken(talk) if page.forward else _spoken(talk)[::-1]
    place = None if page.after is None else _place_of_spoken(talk, page.after)
    if place is not None or (page.forward and page.after is None):
        if place is not None:
            left = {*_ids_of_spoken(talk)[slice(place + 1, None) if page.forward else slice(place)]}
            spoken = [item for item in spoken if item["id"] in left]
        if not page.forward or len(spoken) > page.limit:
            return page.cut(spoken)
        page = page._replace(after=None)
    elif page.forward:
        spoken = []
    said, more = await _said_page(caller, talk, page)
    shown, left = page.cut([*spoken, *said] if page.forward else [*said, *(() if more else spoken)])
    return shown, more or left


async def _said_page(caller: Caller, talk: Talk, page: Page) -> tuple[list[Item], bool]:
    found: tuple[list[Item], bool] | None = None if page.after else ([], False)
    if talk.session:
        found = await said_page(caller, await state_of(caller, talk.session), page)
    if found is None:
        raise unknown(str(page.after))
    return found


async def _find(caller: Caller, talk: Talk, name: str) -> Placed | None:
    """The item of this id with the position it comes from, which is 0 for what systems and developers said."""
    found = next(((item, 0) for item in _spoken(talk) if item["id"] == name), None)
    if found is None and talk.session:
        found = await find_said(caller, await state_of(caller, talk.session), name)
    return found


async def _item(caller: Caller, talk: Talk, name: str) -> Placed:
    found = await _find(caller, talk, name)
    if found is None:
        raise NotFound(f"Item with id '{name}' not found in conversation '{talk.id}'.", param="item_id")
    return found
