"""Pages of items: newest first unless asked otherwise, after an id, up to a hundred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from remanence.api.response_items import Item
from remanence.errors import InvalidInput

__all__ = ["Order", "page"]

Order = Literal["asc", "desc"]


def page(items: Sequence[Item], *, after: str | None, limit: int, order: Order) -> Item:
    """One page of `items`, which come oldest first. Raises InvalidInput for an `after` that is none of them."""
    found = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        places = [place for place, item in enumerate(found) if item["id"] == after]
        if not places:
            raise InvalidInput(f"after: there is no item {after!r} here.", param="after")
        found = found[places[0] + 1 :]
    shown = found[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": len(found) > limit,
    }
