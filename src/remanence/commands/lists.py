"""Lists of sessions as every face shows them: filtered, searched, page by page."""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec
from msgspec.structs import replace

from remanence.commands import search
from remanence.commands.caller import Caller, state_in
from remanence.commands.shapes import PieceShape, SessionRowShape
from remanence.errors import InvalidInput, StoreCorrupt
from remanence.ports import SessionQuery, SessionRow
from remanence.stores.unreadable import forget_unreadable, noted_unreadable

__all__ = ["Listed", "list_sessions", "tag_of", "with_unreadable"]

_CURSOR_DIGITS_MAX = 18
LOOK_RECORDS = 2_000
"""More than a window holds."""


class Listed(msgspec.Struct, frozen=True):
    """One page. `next` is the cursor of the page after it, None at the end.

    `unread` counts sessions with records that a search has not looked at yet; they are found a moment later.
    """

    rows: list[SessionRowShape]
    next: str | None
    unread: int = 0


async def list_sessions(caller: Caller, query: SessionQuery, *, text: str = "", after: str | None = None) -> Listed:
    """A page of the sessions of the caller's project that fit, in the order asked for.

    With a `text` only those in which its words were said, the last opened first; then `sort` does not count. `after` is
    the `next` of the page before. Raises InvalidInput for a cursor of another list.
    """
    query = replace(query, project=caller.project)
    if text.strip():
        searched = await search.search(caller, text, replace(query, after=after))
        rows = [_found(one) for one in searched.found]
        full = len(rows) == query.limit
        noted = await noted_unreadable(caller.database, caller.project)
        rows = await with_unreadable(caller, rows, noted)
        return Listed(rows, rows[-1].session if full else None, searched.unread)
    query = replace(query, begins=True)
    if query.opened is not None:
        found = await caller.database.views.sessions(replace(query, after=after))
        full = len(found) == query.limit
        return Listed(await _shapes(caller, found), found[-1].session if full else None)
    found = await caller.database.views.sessions(replace(query, before=_place(after)))
    following = f"{_sorted_by(query, found[-1])}:{found[-1].session}" if len(found) == query.limit else None
    return Listed(await _shapes(caller, found), following)


async def _shapes(caller: Caller, rows: Sequence[SessionRow]) -> list[SessionRowShape]:
    noted = {row.session for row in rows if row.noted}
    return await with_unreadable(caller, [SessionRowShape.of(row) for row in rows], noted)


async def with_unreadable(caller: Caller, rows: list[SessionRowShape], noted: Container[str]) -> list[SessionRowShape]:
    """The same, with what is so of those that somebody could not read: a row says nothing of its journal."""
    return [replace(row, unreadable=await _why(caller, row)) if row.session in noted else row for row in rows]


async def _why(caller: Caller, row: SessionRowShape) -> str:
    """Why a session cannot be read now, as far back as a worker would; empty, and its note goes, when it can."""
    try:
        await state_in(caller.database.store, row.session)
        await caller.database.store.read(row.session, after=max(0, row.head - LOOK_RECORDS))
    except StoreCorrupt as error:
        return error.message
    await forget_unreadable(caller.database, row.session)
    return ""


def tag_of(text: str) -> tuple[str, str]:
    """`key=value` as a filter takes it. Raises InvalidInput."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInput(f"tag: {text[:80]!r} is no piece of metadata; write it as key=value.", param="tag")
    return key, value


def _found(one: search.Found) -> SessionRowShape:
    shape = SessionRowShape.of(one.row)
    return replace(shape, found_at=one.position, excerpt=[PieceShape(*piece) for piece in one.excerpt])


def _sorted_by(query: SessionQuery, row: SessionRow) -> int:
    values = {"changed": row.updated_at, "cost": row.summary.usd_micros, "turns": row.summary.turns}
    return values[query.sort]


def _place(after: str | None) -> tuple[int, str] | None:
    if after is None:
        return None
    at, colon, session = after.partition(":")
    if not colon or not at.isdecimal() or len(at) > _CURSOR_DIGITS_MAX:
        raise InvalidInput(f"after: {after[:80]!r} is no cursor of this list.", param="after")
    return int(at), session
