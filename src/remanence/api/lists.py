"""Lists over HTTP: newest first unless asked otherwise, after an id, up to a hundred at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from fastapi import Depends, Query, Response

__all__ = ["Limit", "Order", "Ordered", "Page", "Paged", "answer", "list_answer"]

_T = TypeVar("_T")

Order = Literal["asc", "desc"]
After = Annotated[str | None, Query(max_length=512, description="The last id of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100, description="The most that is answered at once.")]
Ordered = Annotated[Order, Query(description="`desc` is newest first.")]


class Page(NamedTuple):
    """Which stretch of a list: up to `limit` of what follows the id `after` (None: from the end where it begins)."""

    after: str | None = None
    limit: int = 20
    order: Order = "desc"

    @property
    def forward(self) -> bool:
        """Whether the oldest come first."""
        return self.order == "asc"

    def cut(self, found: Sequence[_T]) -> tuple[list[_T], bool]:
        """What the page has room for, and whether there is more."""
        return list(found[: self.limit]), len(found) > self.limit


async def _asked(after: After = None, limit: Limit = 20, order: Ordered = "desc") -> Page:
    return Page(after, limit, order)


Paged = Annotated[Page, Depends(_asked)]
"""The page that the query of a request asks for."""


def answer(body: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def list_answer(data: Sequence[dict[str, Any]], *, has_more: bool) -> Response:
    """One page of objects that have ids."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return answer({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more})
