"""JSON bodies, read strictly: what could not be journaled as UTF-8, or is nested without end, is refused as a bad body.

Routers of faces are made with `APIRouter(route_class=JsonRoute)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

from remanence.commands.caller import ids_in_path

__all__ = ["JsonRoute"]


class _StrictRequest(Request):
    """A request whose JSON is decoded by msgspec."""

    async def json(self) -> Any:
        if not hasattr(self, "_strict_json"):
            body = await self.body()
            try:
                self._strict_json: Any = msgspec.json.decode(body)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                raise json.JSONDecodeError(str(error), "", 0) from None
        return self._strict_json


def _read_strictly(self: APIRoute) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    answer = APIRoute.get_route_handler(self)

    async def strictly(request: Request) -> Response:
        request.scope["path_params"] = ids_in_path(request.path_params)
        return await answer(_StrictRequest(request.scope, request.receive))

    return strictly


class JsonRoute(APIRoute):
    """A route whose requests are read so."""

    get_route_handler = _read_strictly
