"""The list of sessions: filters, search, and pages that load as they are reached."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec.structs import replace

from remanence.commands import search
from remanence.commands.lists import with_unreadable
from remanence.commands.shapes import SessionRowShape
from remanence.console.entry import Looking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame
from remanence.console.reading import ask, ask_current
from remanence.console.ways import listing
from remanence.core.ledger import usd_to_micros
from remanence.errors import InvalidInput
from remanence.ports import SessionQuery, SessionRow
from remanence.screens import Question, Sessions, Tags, Versions

__all__ = ["SessionsData", "sessions_router"]

sessions_router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

PAGE = 50
TAGS = 50
STATUSES = ("in_progress", "queued", "waiting", "failed", "frozen", "budget_reached", "idle")
WAITING_ON = ("approval", "doubt", "answer", "budget", "thaw", "client", "timer")
WITHIN_S = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
Sort = Literal["changed", "cost", "turns"]
_MICROS = 1_000_000


class Filters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a list was narrowed to; empty: not by that. `tag` is `key=value`, `since` and `until` are days in UTC
    (`2026-11-22`, both included), `cost_min` is in dollars, `version` a number of the agent or a digest."""

    q: str = ""
    agent: str = ""
    version: str = ""
    status: str = ""
    waiting_on: str = ""
    user: str = ""
    tag: str = ""
    within: str = ""
    since: str = ""
    until: str = ""
    cost_min: str = ""
    doubt: str = ""
    fork_of: str = ""
    sort: Sort = "changed"

    @property
    def given(self) -> dict[str, str]:
        """Those that narrow, by name."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value}


class FoundShape(msgspec.Struct, frozen=True):
    """A session in which the words were said: where, last, and the words around; those that fit marked true."""

    session: SessionRowShape
    position: int
    kind: str
    excerpt: list[tuple[str, bool]]


class SessionsData(msgspec.Struct, frozen=True):
    """A page of sessions, newest change first (`found` instead, the last opened first, when words are looked for).

    `next` is what to send as `after` for more; `unread` counts sessions whose newest words were not looked at yet.
    """

    filters: Filters
    sessions: list[SessionRowShape]
    found: list[FoundShape]
    next: str | None
    unread: int = 0


def filters_of(request: Request) -> Filters:
    """The filters in a query. What a form left empty counts as not given."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    known = {name: value for name, value in given.items() if name in Filters.__struct_fields__}
    try:
        return msgspec.convert(known, Filters)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The list cannot be narrowed like this ({error}). Nothing was read.").because(
            "bad_filter"
        ) from None


Given = Annotated[Filters, Depends(filters_of)]


@sessions_router.get("/sessions")
@sessions_router.get("/sessions.json")
async def sessions(frame: Looking, filters: Given, after: str = "") -> Response:
    """The list."""
    project = frame.caller.project
    data, known, tags = await _data(frame, filters, after, Versions(project), Tags(project, TAGS))
    return frame.show(
        "sessions.html",
        "sessions",
        data,
        agents=sorted({version.agent for version in known}),
        tags=tags,
        statuses=STATUSES,
        kinds_of_wait=WAITING_ON,
        spans=WITHIN_S,
        given=filters.given,
        ways=listing(frame, filters.given),
    )


@sessions_router.get("/sessions-rows")
async def rows(frame: Looking, filters: Given, after: str = "") -> Response:
    """More rows of the list."""
    (data,) = await _data(frame, filters, after)
    return frame.page("_sessions.html", data=data, given=filters.given)


async def _data(frame: Frame, filters: Filters, after: str, *more: Question) -> list[Any]:
    """The page of the list, and the answers to what else is asked."""
    query = _query(frame, filters)
    if filters.q:
        question = search.asked(filters.q, replace(query, after=after or None))
        (found, *rest), _, unread = await ask_current(frame, question, *more, spent=False)
        return [_found(filters, search.shown(filters.q, found), unread), *rest]
    query = replace(query, begins=True, before=_cursor(after) if after else None)
    listed, *rest = await ask(frame, Sessions(query), *more)
    shown = _listed(filters, listed)
    noted = {row.session for row in listed if row.noted}
    return [replace(shown, sessions=await with_unreadable(frame.caller, shown.sessions, noted)), *rest]


def _listed(filters: Filters, found: Sequence[SessionRow]) -> SessionsData:
    following = None
    if len(found) == PAGE:
        last = found[-1]
        value = {"changed": last.updated_at, "cost": last.summary.usd_micros, "turns": last.summary.turns}[filters.sort]
        following = f"{value}:{last.session}"
    return SessionsData(filters, [SessionRowShape.of(row) for row in found], [], following)


def _found(filters: Filters, hits: Sequence[search.Found], unread: int) -> SessionsData:
    found = [FoundShape(SessionRowShape.of(hit.row), hit.position, hit.kind, hit.excerpt) for hit in hits]
    following = found[-1].session.session if len(found) == PAGE else None
    return SessionsData(filters, [], found, following, unread)


def _query(frame: Frame, filters: Filters) -> SessionQuery:
    key, equals, value = filters.tag.partition("=")
    if filters.tag and not (key and equals):
        raise InvalidInput("tag: write it as key=value. Nothing was read.", param="tag").because("bad_tag")
    numbered = filters.version.isdecimal()
    if numbered and not filters.agent:
        raise InvalidInput(
            "version: a number says which one only with an agent. Nothing was read.", param="version"
        ).because("version_of_whom")
    since, until = _day(filters.since, "since"), _day(filters.until, "until")
    if filters.within in WITHIN_S:
        since = frame.now - WITHIN_S[filters.within] * _MICROS
    return SessionQuery(
        project=frame.caller.project,
        agent=filters.agent or None,
        version=None if numbered else filters.version or None,
        version_number=int(filters.version) if numbered else None,
        user=filters.user or None,
        status=filters.status or None,
        waiting_on=filters.waiting_on or None,
        parent=filters.fork_of or None,
        tag=(key, value) if filters.tag else None,
        since=since,
        until=None if until is None else until + 86_400 * _MICROS,
        usd_micros_min=_money(filters.cost_min),
        doubt=bool(filters.doubt),
        sort=filters.sort,
        limit=PAGE,
        without_status="deleted",
    )


def _day(text: str, name: str) -> int | None:
    if not text:
        return None
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * _MICROS
    except ValueError:
        raise InvalidInput(f"{name}: write a day as 2026-11-22. Nothing was read.", param=name).because(
            "bad_day", field=name
        ) from None


def _money(text: str) -> int | None:
    if not text:
        return None
    try:
        return usd_to_micros(text.replace(",", "."))
    except InvalidInput:
        raise InvalidInput(f"{text[:40]!r} is no amount. Nothing was read.", param="cost_min").because(
            "bad_amount", amount=text[:40]
        ) from None


def _cursor(after: str) -> tuple[int, str]:
    at, colon, session = after.partition(":")
    if not colon or not at.isdecimal() or len(at) > 18:
        raise InvalidInput(
            f"after: {after[:80]!r} is no cursor of this list. Nothing was read.", param="after"
        ).because("bad_filter")
    return int(at), session
