"""What a reader of the Agents API's event streams ends up with, however often the stream was cut.

A stream has events that are settled and events that only preview what will be. `Heard` keeps what has to be the same
for every reader: the settled events in their order, and for each completed item the text that its pieces make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["Frame", "Heard", "parsed"]

_ITEM_DONE = "agent.session.turn.item.done"


@dataclass(frozen=True)
class Frame:
    """One event as it was read."""

    id: str
    event: dict[str, Any]

    @property
    def type(self) -> str:
        return self.event["type"]

    @property
    def is_live(self) -> bool:
        """Whether the event only says how things stand, or is a piece of what is still being said."""
        return "~" in self.id or self.id.endswith("_now")


def parsed(one: bytes) -> Frame:
    """An event as it was written. Raises ValueError unless it is whole, LF only, its name and its id those of its
    data."""
    if not one.endswith(b"\n\n") or b"\r" in one:
        raise ValueError(f"not a whole event: {one[:200]!r}")
    lines = dict(line.split(b": ", 1) for line in one.strip().split(b"\n"))
    event = msgspec.json.decode(lines[b"data"])
    if (event["type"], event["event_id"]) != (lines[b"event"].decode(), lines[b"id"].decode()):
        raise ValueError(f"an event whose name or id is not that of its data: {one[:200]!r}")
    return Frame(event["event_id"], event)


@dataclass
class Heard:
    """The sum of frames. `order` is what settled, as (type, item or turn); `done` the text of every completed item as
    its pieces make it; `begun` the items that were begun and neither completed nor closed."""

    order: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    done: dict[str, str] = field(default_factory=dict[str, str])
    begun: set[str] = field(default_factory=set[str])
    _texts: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, frame: Frame) -> None:
        """Hear one more event."""
        event = frame.event
        item = event.get("item", {})
        item_id = event.get("item_id") or item.get("id", "")
        if frame.type.endswith(".delta"):
            self._texts[item_id] = self._texts.get(item_id, "") + event["delta"]
        elif frame.type == _ITEM_DONE and item["status"] == "incomplete":
            self.begun.discard(item_id)
        elif frame.type.endswith(".added") and (item.get("role") == "assistant" or item.get("type") == "reasoning"):
            self.begun.add(item_id)
        elif frame.type.endswith("part.added") or frame.id.endswith("_now"):
            return
        else:
            self.order.append((frame.type, item_id or event.get("turn_id", "")))
            if frame.type == _ITEM_DONE and item["type"] in ("message", "reasoning"):
                self.done[item_id] = self._texts.pop(item_id, "")
                self.begun.discard(item_id)
