"""Routes that are made when they are needed, which for most of a server's routes is never.

What the framework makes of a declaration (its dependencies, a validator for each parameter) takes most of a
millisecond. It makes that once more for each place where the route is mounted, when the first request comes near.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import get_name

__all__ = ["LateRoute"]


class LateRoute(APIRoute):
    """A route that is made when more of it is asked for than its path and its name. What is wrong with a declaration is
    raised then, and not before."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.path = path
        self.name = options.get("name") or get_name(endpoint)
        self._declared = (path, endpoint, options)

    def __getattr__(self, name: str) -> Any:
        """What is not there yet. All of it appears at once: a thread makes the document while requests are answered."""
        mine = self.__dict__
        if "app" in mine or "_declared" not in mine or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        path, endpoint, options = self._declared
        whole = object.__new__(type(self))
        APIRoute.__init__(whole, path, endpoint, **options)
        mine.update(whole.__dict__)
        return getattr(self, name)
