"""What the routes of `/admin/v1` share: who may ask, how they may be refused, which stretch of a list is wanted."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from remanence.api.auth import may
from remanence.api.failures import REFUSALS
from remanence.api.lists import Page
from remanence.commands.caller import Caller

__all__ = ["REFUSALS", "Admin", "Paged"]

Admin = Annotated[Caller, Depends(may("admin"))]
"""The caller of a request, whose key has the scope `admin`."""


async def _asked(limit: Annotated[int, Query(ge=1, le=200)] = 50, after: str | None = None) -> Page:
    return Page(after, limit)


Paged = Annotated[Page, Depends(_asked)]
"""The page that a request asks for: `limit` entries after the cursor `after`, which the page before named `next`."""
