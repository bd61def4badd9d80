"""What a person sees when something fails: a page that says what happened and what to do, never a trace.

A request of a part of a page (htmx) is answered with the sentence alone, which the page shows in its corner; a `.json`
twin in the shape of the API's errors. Whoever is not signed in is shown where to.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from remanence.console.frame import Frame
from remanence.errors import RemanenceError, Unauthenticated

__all__ = ["ConsoleRoute", "fail", "lost"]


def _answer_kindly(self: APIRoute) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    answer = APIRoute.get_route_handler(self)

    async def kindly(request: Request) -> Response:
        try:
            return await answer(request)
        except RemanenceError as error:
            return fail(Frame(request), error.status, error.code, error.message)
        except RequestValidationError as error:
            first = error.errors()[0]
            message = f"{first['loc'][-1]}: {first['msg']}. Nothing was changed."
            return fail(Frame(request), HTTPStatus.BAD_REQUEST, "invalid_input", message)

    return kindly


class ConsoleRoute(APIRoute):
    """A route whose failures are shown to a person."""

    get_route_handler = _answer_kindly


def fail(frame: Frame, status: int, code: str, message: str) -> Response:
    """An error, in the form the request can show."""
    request = frame.request
    if frame.as_json:
        body = {"error": {"code": code, "message": message, "request_id": request.scope.get("request_id", "")}}
        headers = {"cache-control": "no-store"}
        return Response(msgspec.json.encode(body), status, headers, media_type="application/json")
    if status == Unauthenticated.status and not frame.is_fragment:
        there = frame.here
        return frame.go(f"/sign-in?to={quote(there)}" if there != "/" else "/sign-in")
    if frame.is_fragment:
        return frame.page("_said.html", words=message, bad=True, status=status)
    about = f"error.{status}" if frame.words.has(f"error.{status}") else "error.other"
    identity = request.scope.get("request_id", "")
    return frame.page("error.html", status=status, about=about, code=code, message=message, identity=identity)


async def lost(request: Request, error: HTTPException) -> Response | None:
    """The page for a path where nothing is; None when a program asks, which is told so in its own shape."""
    if error.status_code != HTTPStatus.NOT_FOUND or "text/html" not in request.headers.get("accept", ""):
        return None
    frame = Frame(request)
    return fail(frame, HTTPStatus.NOT_FOUND, "not_found", frame.words("error.nothing_at", path=request.url.path))
