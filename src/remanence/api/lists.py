"""Lists over HTTP: newest first unless asked otherwise, after an id, up to a hundred at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Query, Response

__all__ = ["After", "Limit", "Order", "Ordered", "answer", "list_answer"]

Order = Literal["asc", "desc"]
After = Annotated[str | None, Query(max_length=512, description="The last id of the page before.")]
Limit = Annotated[int, Query(ge=1, le=100, description="The most that is answered at once.")]
Ordered = Annotated[Order, Query(description="`desc` is newest first.")]


def answer(body: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def list_answer(data: Sequence[dict[str, Any]], *, has_more: bool) -> Response:
    """One page of objects that have ids."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return answer({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more})
