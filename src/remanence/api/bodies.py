"""What comes in, read strictly: a body that could not be journaled as UTF-8, or is nested without end, is refused as a
bad body; so is a query parameter that nobody knows, also where a route takes none. Nobody's body is read before it is
known that they have a key.

Routers of faces are made with `APIRouter(route_class=JsonRoute)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from remanence.api.complaints import UnknownParameter, no_json
from remanence.api.decoding import decoded
from remanence.api.late import LateRoute
from remanence.commands.caller import ids_in_path
from remanence.errors import InvalidInput

__all__ = ["JsonRoute", "check_query", "of_api", "of_vendors"]

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_ANY = "beta"
"""What the vendors' client adds to everything of its `beta` resources. The answers are the same."""


class _StrictRequest(Request):
    """A request whose JSON is decoded by msgspec."""

    async def json(self) -> Any:
        if not hasattr(self, "_strict_json"):
            body = await self.body()
            try:
                self._strict_json: Any = decoded(body)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise json.JSONDecodeError(no_json(error, body), "", 0) from None
        return self._strict_json


def _read_strictly(self: JsonRoute) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    answer = APIRoute.get_route_handler(self)
    needs_key = self.needs_key and bool((self.methods or set()) & _WITH_BODY)

    async def strictly(request: Request) -> Response:
        if needs_key:  # the framework would read the body before it asks who sent it
            await request.app.state.access.identify(request.headers.get("authorization"))
        request.scope["path_params"] = ids_in_path(request.path_params)
        return await answer(_StrictRequest(request.scope, request.receive))

    return strictly


class JsonRoute(LateRoute):
    """A route whose requests are read so."""

    get_route_handler = _read_strictly

    @cached_property
    def queries(self) -> frozenset[str]:
        """The names of the query parameters it takes; one that ends in `[` begins the names of several."""
        declared: list[dict[str, Any]] = (self.openapi_extra or {}).get("parameters", [])
        several = [f"{one['name']}[" for one in declared if one["in"] == "query"]
        return frozenset((*several, *_queries_of(self.dependant)))

    @cached_property
    def needs_key(self) -> bool:
        """Whether only who has a key may ask."""
        return _asks_for_key(self.dependant)


def _asks_for_key(dependant: Dependant) -> bool:
    return isinstance(dependant.call, HTTPBearer) or any(_asks_for_key(inner) for inner in dependant.dependencies)


def _queries_of(dependant: Dependant) -> list[str]:
    found: list[str] = []
    for field in dependant.query_params:
        model = field.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            found += [inner.alias or name for name, inner in model.model_fields.items()]
        else:
            found.append(field.alias)
    return [*found, *(name for inner in dependant.dependencies for name in _queries_of(inner))]


def check_query(request: Request) -> None:
    """Refuse query parameters that the route does not know: one that is misspelled, or misplaced, would be ignored."""
    route = request.scope.get("route")
    if not isinstance(route, JsonRoute):
        return
    known = route.queries
    for name in request.query_params:
        several = f"{name.partition('[')[0]}[" if name.endswith("]") else ""
        if name not in known and several not in known and name != _ANY:
            shown = (
                ", ".join(f"{one}...]" if one.endswith("[") else one for one in sorted(known)) or "none in the query"
            )
            words = f"{name[:100]}: there is no such parameter here; there are {shown}. Nothing was done."
            raise (UnknownParameter if of_vendors(request) else InvalidInput)(words, param=name[:100])


def of_api(path: str) -> bool:
    """Whether a path is one for programs. What reads there changes nothing; a page for people may (a sign-in)."""
    return "/v1/" in path


def of_vendors(request: Request) -> bool:
    """Whether a vendor's client asked: it knows finer codes than ours."""
    path = request.url.path
    return "/v1/" in path and "/admin/" not in path
