"""Views: lists of sessions under a name, above the list, for everybody of the project."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Response

from remanence.commands.kept_views import KeptView, keep_view, list_views, remove_view, tidy
from remanence.console.entry import Looking, Sent, Talking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame
from remanence.console.ways import WAYS_OF

__all__ = ["ViewsData", "views_router"]

views_router = APIRouter(prefix="/views", route_class=ConsoleRoute, include_in_schema=False)


class ViewsData(msgspec.Struct, frozen=True):
    """The views there are, and the query of the list that is shown (empty: it is not narrowed)."""

    views: list[KeptView]
    query: str


@views_router.get(".json")
@views_router.get("")
async def views(frame: Looking, query: str = "") -> Response:
    """The line above a list."""
    return frame.show("_views.html", "sessions", await _data(frame, query), ways_of=WAYS_OF)


@views_router.post("")
async def keep(frame: Talking, fields: Sent) -> Response:
    """Give the list that is shown a name."""
    kept = await keep_view(frame.caller, fields.text("name").strip(), fields.text("query"))
    return await _after(frame, kept.query, "views.kept", kept.name)


@views_router.post("/{view}/remove")
async def remove(frame: Talking, view: str, fields: Sent) -> Response:
    """Forget a name."""
    await remove_view(frame.caller, view)
    return await _after(frame, fields.text("query"), "views.removed", fields.text("name"))


async def _after(frame: Frame, query: str, key: str, name: str) -> Response:
    data = await _data(frame, query)
    return frame.page("_views_after.html", data=data, words=frame.words.rich(key, name=name), ways_of=WAYS_OF)


async def _data(frame: Frame, query: str) -> ViewsData:
    return ViewsData(await list_views(frame.caller), tidy(query))
