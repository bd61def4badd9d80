"""Pages of items: newest first unless asked otherwise, after an id, up to a hundred."""

from __future__ import annotations

from collections.abc import Sequence

from remanence.api.lists import Page
from remanence.api.responses.items import Item
from remanence.errors import InvalidInput

__all__ = ["page_of", "page_within", "unknown"]


def page_within(items: Sequence[Item], page: Page) -> Item:
    """One page of `items`, which come oldest first. Raises InvalidInput for an `after` that is none of them."""
    found = list(items) if page.forward else list(reversed(items))
    if page.after is not None:
        places = [place for place, item in enumerate(found) if item["id"] == page.after]
        if not places:
            raise unknown(page.after)
        found = found[places[0] + 1 :]
    shown, more = page.cut(found)
    return page_of(shown, more=more)


def unknown(after: str) -> InvalidInput:
    """There is no item to go on after."""
    return InvalidInput(f"after: there is no item {after!r} here.", param="after")


def page_of(shown: Sequence[Item], *, more: bool) -> Item:
    """These items as a page."""
    return {
        "object": "list",
        "data": list(shown),
        "first_id": shown[0]["id"] if shown else "",
        "last_id": shown[-1]["id"] if shown else "",
        "has_more": more,
    }
