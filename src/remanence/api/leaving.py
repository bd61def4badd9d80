"""Clients that leave before their answer has begun: what is kept nowhere is not worked on for nobody.

A stream that has begun notices by itself. Before its first piece, and while an answer is made in one piece, nothing is
sent to the client, so only listening tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from remanence.errors import RemanenceError

__all__ = ["unless_left"]

T = TypeVar("T")


class _Left(RemanenceError):
    """The client left: nobody reads this."""

    code = "client_left"
    status = 499


async def unless_left(request: Request, made: Coroutine[Any, Any, T]) -> T:
    """Await it for as long as the client stays; then it is cancelled. The body of the request has been read."""
    making = asyncio.ensure_future(made)
    leaving = asyncio.ensure_future(_leaving(request))
    try:
        await asyncio.wait((making, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not making.done():
            raise _Left("The client left before the answer had begun. The call of the model was cancelled.")
        return making.result()
    finally:
        for one in (making, leaving):
            one.cancel()
        await asyncio.gather(making, leaving, return_exceptions=True)


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
