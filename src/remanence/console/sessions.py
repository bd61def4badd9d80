"""The list of sessions: filters, search, and pages that load as they are reached."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response

from remanence.commands.shapes import SessionRowShape
from remanence.console.entry import Looking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame
from remanence.console.ways import listing
from remanence.errors import InvalidInput
from remanence.ports import SessionQuery

__all__ = ["SessionsData", "sessions_router"]

sessions_router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

PAGE = 50
STATUSES = ("in_progress", "queued", "waiting", "failed", "frozen", "budget_reached", "idle")
WAITING_ON = ("approval", "doubt", "answer", "budget", "thaw", "client", "timer")


class Filters(msgspec.Struct, frozen=True):
    """What a list was narrowed to; empty: not by that."""

    agent: str = ""
    status: str = ""
    waiting_on: str = ""
    user: str = ""
    fork_of: str = ""


class SessionsData(msgspec.Struct, frozen=True):
    """A page of sessions, newest change first. `next` is what to send as `after` for more."""

    filters: Filters
    sessions: list[SessionRowShape]
    next: str | None


def filters_of(agent: str = "", status: str = "", waiting_on: str = "", user: str = "", fork_of: str = "") -> Filters:
    """The filters in a query; fields of a form that were left empty count as not given."""
    return Filters(agent.strip(), status, waiting_on, user.strip(), fork_of.strip())


Given = Annotated[Filters, Depends(filters_of)]


@sessions_router.get("/sessions")
@sessions_router.get("/sessions.json")
async def sessions(frame: Looking, filters: Given, after: str = "") -> Response:
    """The list."""
    data = await _data(frame, filters, after)
    names = sorted({version.agent for version in await frame.caller.database.specs.versions(frame.caller.project)})
    given = msgspec.structs.asdict(filters)
    return frame.show(
        "sessions.html",
        "sessions",
        data,
        agents=names,
        statuses=STATUSES,
        kinds_of_wait=WAITING_ON,
        given={name: value for name, value in given.items() if value},
        ways=listing(frame, given),
    )


@sessions_router.get("/sessions-rows")
async def rows(frame: Looking, filters: Given, after: str = "") -> Response:
    """More rows of the list."""
    data = await _data(frame, filters, after)
    given = {name: value for name, value in msgspec.structs.asdict(filters).items() if value}
    return frame.page("_sessions.html", data=data, given=given)


async def _data(frame: Frame, filters: Filters, after: str) -> SessionsData:
    query = SessionQuery(
        project=frame.caller.project,
        agent=filters.agent or None,
        user=filters.user or None,
        status=filters.status or None,
        waiting_on=filters.waiting_on or None,
        parent=filters.fork_of or None,
        before=_cursor(after) if after else None,
        limit=PAGE,
        without_status="deleted",
    )
    found = await frame.caller.database.views.sessions(query)
    following = f"{found[-1].updated_at}:{found[-1].session}" if len(found) == PAGE else None
    return SessionsData(filters, [SessionRowShape.of(row) for row in found], following)


def _cursor(after: str) -> tuple[int, str]:
    at, colon, session = after.partition(":")
    if not colon or not at.isdecimal() or len(at) > 18:
        raise InvalidInput(f"after: {after[:80]!r} is no cursor of this list. Nothing was read.", param="after")
    return int(at), session
