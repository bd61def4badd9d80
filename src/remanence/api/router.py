"""Routers that are passed over at once when a path cannot be one of theirs.

The framework tries the routes of every router in turn, each by a regular expression, and again on every level of
routers within routers. With some hundred routes that was a sixth of a request's processor time. What a path must hold
for any route of a router to match is known beforehand: the beginning of the route, up to its first parameter.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from fastapi import APIRouter
from starlette.routing import Match
from starlette.types import Scope

from remanence.api.lane import Lane

__all__ = ["Face"]


class Face(APIRouter):
    """An `APIRouter`, for use within others. Its routes must be complete when the first request comes.

    `lanes` are the short ways to some of its routes, and to those of the faces within it that were included. `at` is
    where an application mounts it. Without that, the framework looks whether a path within would be empty, and makes
    every route of the faces within for it: a third of the time that a server took to start.
    """

    def __init__(self, *, at: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.at = at
        self.lanes: list[Lane] = []

    def include_router(self, router: APIRouter, **options: Any) -> None:
        """As `APIRouter.include_router`, and the lanes with it."""
        super().include_router(router, **options)
        if isinstance(router, Face):
            self.lanes += [lane.under(self.at + self.prefix + options.get("prefix", "")) for lane in router.lanes]

    @cached_property
    def _beginnings(self) -> tuple[str, ...]:
        """What a path holds if a route of this router matches it, wherever the router is mounted: one of these."""
        within = self.at + self.prefix
        fixed = {str(getattr(route, "path", within)).partition("{")[0] for route in self.routes}
        return tuple(one for one in fixed if not any(one != other and one.startswith(other) for other in fixed))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether one of the routes may take this request."""
        path = scope["path"]
        for beginning in self._beginnings:
            if beginning in path:
                return super().matches(scope)
        return Match.NONE, {}
