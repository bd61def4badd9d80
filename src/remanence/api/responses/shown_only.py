"""Items that a conversation keeps for clients, and that say nothing to a model: questions whether a call may run, their
answers, what MCP servers offer; that a call ran on an MCP server, and what stands beside the text of a message.

Each is an `Opaque` part of a reply that was brought along, so it is journaled, erased, forked and exported with it. It
stands for itself, or for the call or text at an index of the same reply, which is then shown as this item.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from remanence.content import ITEM, Opaque, Part

__all__ = ["answer_in", "as_part", "items_in", "question_in"]


class _Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item, and the index of the call that it stands for, if it stands for one."""

    item: dict[str, Any]
    call: int | None = None


_kept = msgspec.json.Decoder(_Kept)


def as_part(item: dict[str, Any], *, call: int | None = None) -> Opaque:
    """An item as a part of a reply."""
    return Opaque(ITEM, msgspec.json.encode(_Kept(item, call)).decode())


def items_in(parts: Sequence[Part]) -> dict[int, dict[str, Any]]:
    """The items of a reply, each by the index of the call that it stands for, or by its own."""
    found: dict[int, dict[str, Any]] = {}
    for index, part in enumerate(parts):
        if isinstance(part, Opaque) and part.provider == ITEM:
            kept = _kept.decode(part.raw)
            found[index if kept.call is None else kept.call] = kept.item
    return found


def question_in(item: dict[str, Any]) -> str:
    """The id of the question that an item is; empty when it is none."""
    return str(item["id"]) if item["type"] == "mcp_approval_request" else ""


def answer_in(item: dict[str, Any]) -> str:
    """The id of the question that an item answers; empty when it answers none."""
    return str(item["approval_request_id"]) if item["type"] == "mcp_approval_response" else ""
