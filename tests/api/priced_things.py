"""Two tools of a server: one that anybody may call, and one that costs something."""

from __future__ import annotations

from remanence import tool
from remanence.errors import ToolError


@tool(replay="safe")
async def price(thing: str) -> str:
    """What a thing costs."""
    if thing == "void":
        raise ToolError("there is no such thing")
    return f"{thing} is dear"


@tool(replay="never", approval="cents > 0")
async def refund(cents: int) -> str:
    """Refund."""
    return f"paid {cents}"
