"""Lists of sessions that somebody gave a name: the filters, kept for everybody of the project.

A kept view is an entry of the registry (kind `sessions_view`). Its query is what the address of a list says after the
question mark, so that what is opened by its name is what was seen when it was named.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import msgspec

from remanence.commands.caller import Caller, check_name
from remanence.commands.entries import own_entry
from remanence.errors import InvalidInput, NotFound
from remanence.ports import Entry, EntryQuery

__all__ = ["KIND", "KeptView", "keep_view", "list_views", "remove_view"]

KIND = "sessions_view"
QUERY_BYTES_MAX = 2_000
VIEWS_MAX = 200
_PASSING = ("after",)
"""Where in a list somebody was is no part of the list."""


class KeptView(msgspec.Struct, frozen=True):
    """A named list. `query` is `name=value` pairs as in an address, in one order; `by` named it."""

    id: str
    name: str
    query: str
    by: str
    created_at: int


class _Body(msgspec.Struct, frozen=True):
    name: str
    query: str
    by: str


async def keep_view(caller: Caller, name: str, query: str) -> KeptView:
    """Give the list with these filters a name. Raises InvalidInput for one without filters, or when there are many."""
    check_name("name", name)
    asked = tidy(query)
    if not asked or len(asked) > QUERY_BYTES_MAX:
        raise InvalidInput(
            "There is nothing to keep: the list shows every session. Nothing was kept.", param="query"
        ).because("view_of_all")
    if len(await list_views(caller)) >= VIEWS_MAX:
        raise InvalidInput(
            f"There are {VIEWS_MAX} views already. Nothing was kept; remove one first.", param="name"
        ).because("views_many", most=VIEWS_MAX)
    now = caller.clock.now()
    body = msgspec.json.encode(_Body(name, asked, caller.actor))
    entry = Entry(KIND, caller.project, caller.make_id("view"), now, now, body)
    return _view(await caller.database.registry.put(entry, expect=0))


async def list_views(caller: Caller) -> list[KeptView]:
    """The views of the caller's project, in the order of their names."""
    entries = await caller.database.registry.list(EntryQuery(KIND, caller.project, limit=VIEWS_MAX))
    return sorted((_view(entry) for entry in entries), key=lambda view: (view.name.casefold(), view.id))


async def remove_view(caller: Caller, identity: str) -> None:
    """Forget a view; the sessions it showed stay. Raises NotFound."""
    if await own_entry(caller, KIND, identity) is None:
        raise NotFound(f"There is no view {identity!r} in project {caller.project}. Nothing was removed.").because(
            "no_view"
        )
    await caller.database.registry.remove(KIND, identity)


def tidy(query: str) -> str:
    """The pairs of a query that say something, in one order."""
    return urlencode(sorted((key, value) for key, value in parse_qsl(query) if value and key not in _PASSING))


def _view(entry: Entry) -> KeptView:
    body = msgspec.json.decode(entry.body, type=_Body)
    return KeptView(entry.id, body.name, body.query, body.by, entry.at)
