"""What a person sees when something fails: a page that says what happened and what to do, never a trace.

A request of a part of a page (htmx) is answered with the sentence alone, which the page shows in its corner; a `.json`
twin in the shape of the API's errors. Whoever is not signed in is shown where to.

**In the reader's language.** An error names its sentence (`reason`) or at least its kind (`code`); the catalogue has
the common ones. Any other is shown in English, marked as such for whoever has it read aloud.

**Pages that stay open.** A page asks for its parts by itself, and goes on when its reader has signed out or what it
shows was removed. An answer that says "refused" each time would fill the browser's log with errors nobody caused. So
these are answered with nothing (204; a stream with its last message) and the event `shut-out` or `gone`: the page says
so once, and stops asking.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from markupsafe import Markup
from starlette.exceptions import HTTPException

from remanence.commands.caller import ids_in_path
from remanence.console.frame import HEADERS, Frame, Visitor
from remanence.console.ways import listing
from remanence.console.wording import Wording
from remanence.errors import InvalidInput, NotFound, RemanenceError, Unauthenticated

__all__ = ["ConsoleRoute", "PollRoute", "ended_by", "fail", "lost", "told"]

Look = Callable[[Request], Awaitable[Visitor]]
"""Finds out who looks. Raises Unauthenticated."""


def _answer_kindly(self: APIRoute) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    answer = APIRoute.get_route_handler(self)

    async def kindly(request: Request) -> Response:
        request.scope["path_params"] = ids_in_path(request.path_params)
        try:
            return await answer(request)
        except RemanenceError as error:
            return fail(_frame(request), error, asked_by_itself=isinstance(self, PollRoute))
        except RequestValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][-1])
            wrong = InvalidInput(f"{field}: {first['msg']}. Nothing was changed.").because("bad_field", field=field)
            return fail(_frame(request), wrong)

    return kindly


class ConsoleRoute(APIRoute):
    """A route whose failures are shown to a person."""

    get_route_handler = _answer_kindly


class PollRoute(ConsoleRoute):
    """The same, of what an open page asks for by itself."""


def _frame(request: Request) -> Frame:
    """With whoever looks, as far as that was found out before it failed."""
    return Frame(request, getattr(request.state, "visitor", None))


def ended_by(error: RemanenceError) -> str:
    """The event that ends an open page, when this is a reason to; otherwise empty."""
    return "shut-out" if isinstance(error, Unauthenticated) else "gone" if isinstance(error, NotFound) else ""


def told(words: Wording, error: RemanenceError) -> str | Markup:
    """What an error says, in the language of the page where its catalogue has it."""
    name = error.reason or error.code
    if words.has(f"refused.{name}"):
        return words(f"refused.{name}", **error.values)
    if words.language == "en":
        return error.message
    return Markup('<span lang="en">{}</span>').format(error.message)


def fail(frame: Frame, error: RemanenceError, *, asked_by_itself: bool = False) -> Response:
    """An error, in the form the request can show."""
    request, status = frame.request, error.status
    if frame.as_json:
        identity = request.scope.get("request_id", "")
        body = {"error": {"code": error.code, "message": error.message, "request_id": identity}}
        headers = {"cache-control": "no-store"}
        return Response(msgspec.json.encode(body), status, headers, media_type="application/json")
    over = ended_by(error)
    if frame.is_fragment and request.method == "GET" and (over == "shut-out" or (over and asked_by_itself)):
        if "text/event-stream" in request.headers.get("accept", ""):
            return Response(f"event: {over}\n\n", headers=HEADERS, media_type="text/event-stream")
        return Response(status_code=204, headers={"hx-trigger": over, **HEADERS})
    if isinstance(error, Unauthenticated) and not frame.is_fragment:
        there = frame.here
        return frame.go(f"/sign-in?to={quote(there)}" if there != "/" else "/sign-in")
    words = told(frame.words, error)
    if frame.is_fragment:
        return frame.page("_said.html", words=words, bad=True, status=status)
    about = f"error.{status}" if frame.words.has(f"error.{status}") else "error.other"
    values: dict[str, object] = {"about": about, "code": error.code, "message": words}
    identity = request.scope.get("request_id", "")
    ways = listing(frame, {}) if frame.signed_in else None
    return frame.page("error.html", status=status, tab="", identity=identity, ways=ways, **values)


async def lost(look: Look, request: Request, error: HTTPException) -> Response | None:
    """The page for a path where nothing is, with the ways to elsewhere for whoever `look` finds signed in; None when a
    program asks, which is told so in its own shape."""
    if error.status_code != HTTPStatus.NOT_FOUND or "text/html" not in request.headers.get("accept", ""):
        return None
    try:
        visitor = await look(request)
    except RemanenceError:
        visitor = None  # that nothing is here can be said to anybody, and without a database
    path = request.url.path
    nothing = NotFound(f"There is nothing at {path}.").because("nothing_at", path=path[:200])
    return fail(Frame(request, visitor), nothing)
