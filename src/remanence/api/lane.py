"""The short way to the routes that every turn takes: an input comes in, a stream goes out.

The framework spends a quarter of a millisecond on a request before a route sees it: the routes that are tried, three
levels of dependencies, a stack of things to close. For an ordinary request to one of a few routes nothing of that is
needed. It goes to the route's own function with what the route would be given: the caller behind its key, its body by
the same model.

Whatever is out of the ordinary (a header that the route reads, a body that does not fit, another method) is left to the
framework, with the bytes that were read already, so that there is one place which refuses and one set of words.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from remanence.api.auth import AS, IN_PROJECT, access_of
from remanence.api.decoding import decoded
from remanence.api.failures import known
from remanence.commands.caller import Caller
from remanence.errors import RemanenceError

__all__ = ["Lane", "Lanes"]

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_JSON = b"application/json"
_READ_BY_ROUTES = frozenset({b"idempotency-key", b"last-event-id", b"x-if-busy", AS.encode(), IN_PROJECT.encode()})
"""Headers that mean something to a route, or to who is behind a key."""


class Lane(NamedTuple):
    """A POST of a JSON body for keys with the scope `api`. `begins` and `ends` are the path but for one id in the
    middle; without an end it is the whole path."""

    begins: str
    ends: str
    body: type[BaseModel]
    answer: Callable[[Request, str, Any, Caller], Awaitable[Response]]

    def under(self, prefix: str) -> Lane:
        """The same, mounted."""
        return self._replace(begins=prefix + self.begins)

    def id_in(self, path: str) -> str | None:
        """The id in the middle of a path that is this lane's, which is empty when the lane has none; else None."""
        if not self.ends:
            return "" if path == self.begins else None
        if not (path.startswith(self.begins) and path.endswith(self.ends)):
            return None
        found = path[len(self.begins) : -len(self.ends)]
        return found if _ID.fullmatch(found) else None


class Lanes:
    """ASGI middleware that takes ordinary requests the short way."""

    def __init__(self, app: ASGIApp, *, lanes: Sequence[Lane]) -> None:
        self.app = app
        self._lanes = lanes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._found(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        lane, name, authorization = found
        request = Request(scope, receive)
        access = access_of(request.app.state)
        try:
            principal = await access.identify(authorization)  # before anything is read
        except RemanenceError as error:
            await (await known(request, error))(scope, receive, send)
            return
        read, body = await _read(lane, receive)
        if body is None:
            await self.app(scope, _again(read, receive), send)
            return
        try:
            response = await lane.answer(request, name, body, access.admitted(principal, "api"))
        except RemanenceError as error:
            response = await known(request, error)
        await response(scope, receive, send)

    def _found(self, scope: Scope) -> tuple[Lane, str, str] | None:
        """The lane of a request, the id in its path and its key, when it is an ordinary one."""
        path = scope["path"]
        for lane in self._lanes:
            name = lane.id_in(path)
            if name is not None:
                authorization = _authorization(scope)
                return None if authorization is None or scope["query_string"] else (lane, name, authorization)
        return None


def _authorization(scope: Scope) -> str | None:
    """The one key of a request with ordinary headers, else None."""
    kinds: list[bytes] = []
    keys: list[bytes] = []
    for name, value in scope["headers"]:
        if name in _READ_BY_ROUTES:
            return None
        if name == b"openai-beta" and value != b"agents=v1":
            return None
        if name == b"content-type":
            kinds.append(value)
        elif name == b"authorization":
            keys.append(value)
    ordinary = len(keys) == 1 and len(kinds) == 1 and kinds[0] == _JSON
    return keys[0].decode("latin-1") if ordinary else None


async def _read(lane: Lane, receive: Receive) -> tuple[list[Message], BaseModel | None]:
    """What came in, and the body if it is all there and fits."""
    read: list[Message] = []
    while not read or read[-1].get("more_body"):
        read.append(await receive())
    if read[-1]["type"] != "http.request":
        return read, None
    content = b"".join([message.get("body", b"") for message in read])
    try:
        return read, lane.body.model_validate(decoded(content))
    except (msgspec.DecodeError, ValidationError, UnicodeError, RecursionError):
        return read, None


def _again(read: Sequence[Message], receive: Receive) -> Receive:
    """What was read, once more, then what comes."""
    left = list(read)

    async def from_the_first() -> Message:
        return left.pop(0) if left else await receive()

    return from_the_first
