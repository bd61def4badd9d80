"""A real MCP server for tests: over pipes, or over HTTP when it is given a port. It writes down every call it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp_types import ToolAnnotations

ledger = Path(sys.argv[1])
shop = MCPServer("shop")


def _note(words: str) -> None:
    with ledger.open("a") as book:
        book.write(f"{words}\n")


@shop.tool(annotations=ToolAnnotations(read_only_hint=True))
def price(thing: str) -> str:
    """What a thing costs."""
    _note(f"price {thing}")
    return f"{thing} costs {len(thing)} euros"


@shop.tool(annotations=ToolAnnotations(idempotent_hint=True))
def reserve(thing: str, ctx: Context) -> dict[str, str]:
    """Put a thing aside, at a desk that the caller may have named."""
    desk = dict(ctx.request_context.meta or {}).get("desk")
    _note(f"reserve {thing}" + (f" at {desk}" if desk else ""))
    return {"reserved": thing}


@shop.tool()
def buy(thing: str, ctx: Context) -> str:
    """Buy a thing."""
    meta = dict(ctx.request_context.meta or {})
    _note(f"buy {thing} {meta.get('remanence/effect_key', '?')}")
    if thing == "void":
        raise ValueError("there is no such thing")
    if thing == "bomb":
        os._exit(1)
    return f"bought {thing}"


@shop.tool(name="picture.of")
def picture(thing: str) -> Image:
    """A picture of a thing."""
    return Image(data=b"\x89PNG", format="png")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        shop.run("streamable-http", host="127.0.0.1", port=int(sys.argv[2]))
    else:
        shop.run("stdio")
