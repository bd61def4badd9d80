"""What the routes of `/admin/v1` share: who may ask, how they may be refused, which stretch of a list is wanted."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from remanence.api.auth import may
from remanence.api.failures import REFUSALS
from remanence.commands.caller import Caller

__all__ = ["REFUSALS", "Admin", "Page", "Paged"]

Admin = Annotated[Caller, Depends(may("admin"))]
"""The caller of a request, whose key has the scope `admin`."""


class Page:
    """Which stretch of a list: `limit` entries after the cursor `after`, which the page before named `next`."""

    def __init__(self, limit: Annotated[int, Query(ge=1, le=200)] = 50, after: str | None = None) -> None:
        self.limit = limit
        self.after = after


Paged = Annotated[Page, Depends()]
