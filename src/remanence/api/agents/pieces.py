"""One thought or text of a reply as an item of the Agents API: its events, from the first piece to the end."""

from __future__ import annotations

from typing import Any

from remanence.api.stream import NAMED
from remanence.content import Text, Thinking
from remanence.ports import DeltaKind

__all__ = ["ITEM_ADDED", "ITEM_DONE", "Event", "Piece", "part_kind"]

Event = dict[str, Any]
"""An event without its id. Under `session` stands the state to show, not yet its object."""

ITEM_ADDED = "agent.session.turn.item.added"
ITEM_DONE = "agent.session.turn.item.done"


def part_kind(part: Text | Thinking) -> DeltaKind:
    """What a part streams as."""
    return "text" if isinstance(part, Text) else "thinking"


class Piece:
    """A text becomes a message, a thought becomes a reasoning item. `where` names the session and the turn."""

    def __init__(self, kind: str, item_id: str, where: dict[str, str], output_index: int) -> None:
        self.id = item_id
        self._is_text = kind == "text"
        self._turn_id = where["turn_id"]
        self._item_place = {**where, "output_index": output_index}
        inner = "content_index" if self._is_text else "summary_index"
        self._text_place = {**where, "item_id": item_id, "output_index": output_index, inner: 0}
        self._text = "agent.session.turn." + ("output_text" if self._is_text else "reasoning_summary_text")
        self._part = "agent.session.turn." + ("content_part" if self._is_text else "reasoning_summary_part")

    def item(self, status: str, text: str | None = None, phase: str | None = None) -> dict[str, Any]:
        """The item, as far as it has come."""
        shared = {"id": self.id, "status": status, "turn_id": self._turn_id}
        content = [] if text is None else [self._content(text)]
        if self._is_text:
            return {"type": "message", "role": "assistant", "phase": phase, "content": content, **shared}
        return {"type": "reasoning", "summary": content, **shared}

    def _content(self, text: str) -> dict[str, str]:
        return {"type": "output_text" if self._is_text else "summary_text", "text": text}

    def named(self) -> Event:
        """The item is there."""
        return {"type": ITEM_ADDED, **self._item_place, "item": self.item("in_progress")}

    def begun(self) -> Event:
        """Its part is there, and empty."""
        return {"type": f"{self._part}.added", **self._text_place, "part": self._content("")}

    def delta(self, text: str) -> Event:
        """More of it."""
        return {"type": f"{self._text}.delta", **self._text_place, "delta": text}

    def lost(self) -> Event:
        """It will not be completed: the call it came from was lost."""
        return {"type": ITEM_DONE, **self._item_place, "item": self.item("incomplete")}

    def whole(self, text: str, sent: int | None, phase: str) -> list[Event | None]:
        """All of it, except what was sent live: `sent` characters, None when the item was not even named."""
        rest = text[max(sent or 0, 0) :]
        return [
            self.named() if sent is None else None,
            self.begun() if sent is None or sent == NAMED else None,
            self.delta(rest) if rest else None,
            {"type": f"{self._text}.done", **self._text_place, "text": text},
            {"type": f"{self._part}.done", **self._text_place, "part": self._content(text)},
            {"type": ITEM_DONE, **self._item_place, "item": self.item("completed", text, phase)},
        ]
