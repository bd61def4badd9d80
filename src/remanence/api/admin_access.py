"""What the routes of `/admin/v1` share: who may ask, how they may be refused, which stretch of a list is wanted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query

from remanence.api.auth import may
from remanence.api.failures import ErrorAnswer
from remanence.commands.caller import Caller

__all__ = ["REFUSALS", "Admin", "Page", "Paged"]

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": words}
    for status, words in (
        (400, "The request is wrong; nothing was written."),
        (401, "No key, or one that is not accepted."),
        (402, "A budget would be overshot."),
        (403, "The key has no scope `admin`."),
        (404, "There is no such thing in the key's project."),
        (409, "Something stands against it: somebody was first, it is done already, a freeze stands."),
        (413, "The body is too large."),
        (421, "The server does not answer for this host."),
        (429, "The key asks too often."),
        (500, "What is stored is damaged, or something happened that should not."),
        (503, "The database is away; ask again."),
        (507, "The database has no space left."),
    )
}

Admin = Annotated[Caller, Depends(may("admin"))]
"""The caller of a request, whose key has the scope `admin`."""


class Page:
    """Which stretch of a list: `limit` entries after the cursor `after`, which the page before named `next`."""

    def __init__(self, limit: Annotated[int, Query(ge=1, le=200)] = 50, after: str | None = None) -> None:
        self.limit = limit
        self.after = after


Paged = Annotated[Page, Depends()]
